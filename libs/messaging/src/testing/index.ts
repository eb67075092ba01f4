/** For tests of other packages, and for trials: what producers of other makes write to the shop's topics. */

export {
  type BatchParts,
  encodeBatch,
  lz4Frame,
  type RawRecord,
  rawSnappy,
  xerialSnappy,
} from './batches.ts'
export { type ForeignProducer, openForeignProducer } from './foreign.ts'
