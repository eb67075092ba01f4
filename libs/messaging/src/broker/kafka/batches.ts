import { UnreadableBytes } from './compression.ts'
import { attribute, batchHeadBytes, timeOf } from './entries.ts'
import type { LogRecord } from './log-record.ts'
import { Reader } from './record-reader.ts'
import type { Unfinished } from './unfinished-batches.ts'
import { type Unpacked, type UnpackingLimits, unpack } from './unpacking.ts'

/**
 * Least average size of a record, in bytes: events are larger, as each has a type and an id in its headers. The default
 * limit allows 65,536 records in a batch; without a limit, 60 KB of zstd become 1.8 million messages that every service
 * parks one by one.
 */
const leastBytes = 256
/** No event has more headers than this; each header costs an object. */
const maxHeaders = 1_000

export function batchRecords(
  entry: Buffer,
  from: bigint,
  attributes: number,
  limits: UnpackingLimits,
  known?: Unfinished,
): Unpacked {
  const [count, limit] = [entry.readInt32BE(57), Math.floor(limits.batchBytes / leastBytes)]
  if (count > limit) throw new UnreadableBytes(`a batch of ${count} records; the limit is ${limit}`)
  const packed = { codec: attributes & attribute.codec, bytes: entry.subarray(batchHeadBytes) }
  return unpack(entry, from, packed, limits, known, (bytes, batch) => takenApart(entry, from, attributes, bytes, batch))
}

/** Lazy: records before a broken one have been yielded when it throws. */
function* takenApart(
  entry: Buffer,
  from: bigint,
  attributes: number,
  bytes: Buffer,
  batch: Unfinished,
): Iterable<LogRecord> {
  const head: BatchHead = {
    firstOffset: entry.readBigInt64BE(0),
    lastDelta: entry.readInt32BE(23),
    firstTimestamp: entry.readBigInt64BE(27),
    appendTime: attributes & attribute.logAppendTime ? entry.readBigInt64BE(35) : undefined,
  }
  const count = entry.readInt32BE(57)
  const reader = new Reader(bytes, batch.begun.at)
  let { count: n, last } = batch.begun
  // Records that were delivered before are skipped without decoding, if the batch has no gaps.
  const taken = count === head.lastDelta + 1 ? Math.min(count, Number(from - head.firstOffset)) : 0
  for (; n < taken; n++) {
    reader.skip(reader.varint())
    last = n
  }
  const names: string[] = []
  for (let isBegun = false; n < count; n++) {
    const at = reader.at
    const { record, delta } = oneRecord(reader.part(reader.varint()), head, names)
    if (delta <= last || delta > head.lastDelta)
      throw new UnreadableBytes(`a record at ${delta} of its batch, after ${last}`)
    const before = last
    last = delta
    if (record.offset < from) continue
    if (!isBegun) batch.begun = { from, at, count: n, last: before }
    isBegun = true
    yield record
  }
  if (count < 0 || (reader.left > 0 && last < head.lastDelta))
    throw new UnreadableBytes(`bytes behind the ${count} records that there are to be`)
}

interface BatchHead {
  firstOffset: bigint
  lastDelta: number
  firstTimestamp: bigint
  /** When the broker stored it, where the topic is stamped so. */
  appendTime: bigint | undefined
}

/** @param names of the headers of the record before, which has the same most of the time; changed to those of this one. */
function oneRecord(reader: Reader, head: BatchHead, names: string[]): { record: LogRecord; delta: number } {
  const { at } = reader
  reader.skip(1) // attributes, of which there are none
  const sinceFirst = reader.varlong()
  const delta = reader.varint()
  const offset = head.firstOffset + BigInt(delta)
  const timestamp = timeOf(head.appendTime ?? head.firstTimestamp + sinceFirst)
  try {
    const record = { offset, timestamp, key: reader.sized(), value: reader.sized(), headers: headersOf(reader, names) }
    if (reader.left > 0) throw new UnreadableBytes('bytes behind its headers')
    return { record, delta }
  } catch (error) {
    const problem = `the record cannot be taken apart: ${(error as Error).message}`
    return { record: { offset, timestamp, key: null, value: reader.since(at), headers: [], problem }, delta }
  }
}

function headersOf(reader: Reader, names: string[]): LogRecord['headers'] {
  const count = reader.varint()
  if (count < 0 || count > maxHeaders) throw new UnreadableBytes(`${count} headers; the limit is ${maxHeaders}`)
  const headers: LogRecord['headers'] = []
  for (let n = 0; n < count; n++) {
    const name = reader.name(names[n])
    if (name === null) throw new UnreadableBytes('a header without a name')
    names[n] = name
    headers.push([name, reader.sizedText()])
  }
  return headers
}
