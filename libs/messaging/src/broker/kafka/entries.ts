import { UnreadableBytes } from './compression.ts'

/** Bytes at the start of every format, up to the byte that names it, included; and bytes of a batch's whole head. */
export const headBytes = 17
export const batchHeadBytes = 61
export const attribute = { codec: 0b111, logAppendTime: 0b1000, transactional: 0b1_0000, control: 0b10_0000 }

/** Bytes of an entry. One that claims to be smaller than its head takes all the rest: nothing after it can be found. */
export function sizeOfEntry(bytes: Buffer, at: number): number {
  const size = 12 + bytes.readInt32BE(at + 8)
  return size < headBytes ? bytes.length - at : size
}

export const isBatch = (entry: Buffer) => entry.readInt8(16) >= 2

/** The last record's offset of a batch; a message that holds others has the offset of the last of them. */
export function lastOffsetOf(entry: Buffer): bigint {
  const offset = entry.readBigInt64BE(0)
  if (!isBatch(entry) || entry.length < batchHeadBytes) return offset
  return offset + BigInt(Math.max(0, entry.readInt32BE(23)))
}

/** Then the size and offsets that a batch claims may be wrong as well. */
export class WrongChecksum extends UnreadableBytes {
  constructor() {
    super('the checksum is another one')
  }
}

const longestTime = 8_640_000_000_000_000n

/** Undefined for -1, which writers use for "no time", and for times beyond the range of a Date. */
export const timeOf = (ms: bigint) =>
  ms === -1n || ms > longestTime || ms < -longestTime ? undefined : new Date(Number(ms))

/** When the first batch of a partition's answer was stored or written, without unpacking it; undefined where there is none. */
export function firstTimestamp(bytes: Buffer): { lastOffset: bigint; timestamp: Date | undefined } | undefined {
  if (bytes.length < batchHeadBytes) return undefined
  const timestamp = isBatch(bytes)
    ? bytes.readBigInt64BE(35)
    : bytes.readInt8(16) === 1
      ? bytes.readBigInt64BE(18)
      : -1n
  return { lastOffset: lastOffsetOf(bytes), timestamp: timeOf(timestamp) }
}
