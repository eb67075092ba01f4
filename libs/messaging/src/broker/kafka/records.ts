import { crc32c } from '@platformatic/wasm-utils/bundled'
import { type AbortedTransaction, type IsAborted, watchTransactions } from './aborted-transactions.ts'
import { batchRecords } from './batches.ts'
import { TooManyBytes, UnreadableBytes } from './compression.ts'
import { attribute, batchHeadBytes, headBytes, isBatch, lastOffsetOf, sizeOfEntry, WrongChecksum } from './entries.ts'
import type { DecodingLimits, LogRecord } from './log-record.ts'
import { messagesOf } from './message-sets.ts'
import { type Unfinished, UnfinishedBatches } from './unfinished-batches.ts'
import type { Unpacked, UnpackingLimits } from './unpacking.ts'

/** A stretch of a log that cannot be read. */
export interface UnreadableRecords {
  firstOffset: bigint
  lastOffset: bigint
  reason: string
  /** As they came. */
  bytes: Buffer
}

/** What of a partition's answer could be read. */
export interface DecodedRecords {
  records: LogRecord[]
  /** Offset behind everything that was looked at, control records and aborted ones too; undefined: nothing was. */
  next?: bigint
  /** What stands at `next`, if that cannot be read. */
  unreadable?: UnreadableRecords
}

/**
 * Bytes of memory that an answer may still take, shared by its partitions. The objects of records and headers count
 * too: 8 KB of gzip can hold four million headers without a name or a value.
 */
export interface Budget {
  left: number
  /** Something has been taken from it: from then on a batch that needs more than is left waits for the next answer. */
  isBegun?: boolean
}

/** What a record and a header take in memory beside their bytes, roughly. */
const objectBytes = { record: 500, header: 100 }
/**
 * Most records taken of a partition's answer: a consumer may handle 200 and have the rest sent again, and an answer
 * could hold 33,000 of the smallest ones. An answer of 1 MiB has about 2,000 events.
 */
const maxRecords = 2_000

/**
 * Takes a partition's answer apart: record batches (format v2) and the message sets of v0 and v1. Never throws. It ends
 * where something cannot be read, where the bytes end, or where the budget is used up, in the middle of a batch, too, so that
 * an answer of compressed batches does not fill the memory; whoever asked goes on at `next`.
 * @param from records before this offset are left out: brokers send whole batches.
 * @param aborted transactions that were aborted, as the answer tells; their records are left out.
 * @param unfinished what is kept from one answer to the next, and by which name of this partition.
 * Source: Kafka's message format (kafka.apache.org/documentation/#messageformat), for aborted transactions KIP-98.
 */
export function decodeRecords(
  bytes: Buffer,
  from: bigint,
  aborted: readonly AbortedTransaction[],
  limits: DecodingLimits,
  budget: Budget,
  unfinished: { of: UnfinishedBatches; place: string } = { of: new UnfinishedBatches(), place: '' },
): DecodedRecords {
  const decoded: DecodedRecords = { records: [] }
  const isAborted = watchTransactions(aborted)
  for (let at = 0; at + headBytes <= bytes.length && budget.left > 0 && decoded.records.length < maxRecords; ) {
    const size = sizeOfEntry(bytes, at)
    if (size > bytes.length - at) break // brokers cut answers anywhere
    const entry = bytes.subarray(at, at + size)
    const lastOffset = lastOffsetOf(entry)
    const known = at === 0 ? unfinished.of.take(unfinished.place, entry) : undefined
    const limit = budget.isBegun ? Math.min(limits.batchBytes, budget.left) : limits.batchBytes
    try {
      const { records, unpackedBytes, batch } = recordsOf(entry, from, isAborted, { ...limits, unpacked: limit }, known)
      const before = budget.left
      try {
        if (!take(records, from, limits, budget, decoded)) {
          if (batch) unfinished.of.keep(unfinished.place, batch)
          return decoded
        }
      } finally {
        // The records are views of the unpacked bytes: one small record keeps all of them in memory.
        budget.left = Math.min(budget.left, before - unpackedBytes)
        budget.isBegun ||= budget.left < before
      }
    } catch (error) {
      if (error instanceof TooManyBytes && limit < limits.batchBytes) {
        if (known) unfinished.of.keep(unfinished.place, known)
        budget.left = 0 // trying has cost as much as unpacking it
        return decoded
      }
      const end = believableEnd(error, bytes, at + size, lastOffset)
      const found = unreadable(entry, { from, lastOffset: end, before: decoded.records.at(-1) }, error)
      if (found) return { ...decoded, next: found.firstOffset, unreadable: found }
    }
    if (lastOffset >= from) decoded.next = lastOffset + 1n
    at += size
  }
  return decoded
}

/** False when the budget or the number of records is used up before the end. Throws where a record is too large. */
function take(
  records: Iterable<LogRecord>,
  from: bigint,
  limits: DecodingLimits,
  budget: Budget,
  decoded: DecodedRecords,
): boolean {
  for (const record of records) {
    if (record.offset < from) continue
    if (budget.left <= 0 || decoded.records.length >= maxRecords) return false
    const size = sizeOf(record)
    if (size > limits.messageBytes) throw new RecordTooLarge(record.offset, size, limits.messageBytes)
    decoded.records.push(record)
    decoded.next = record.offset + 1n
    budget.left -= size + objectBytes.record + objectBytes.header * record.headers.length
  }
  return true
}

/** A record that alone has more bytes than are allowed. */
class RecordTooLarge extends Error {
  readonly offset: bigint

  constructor(offset: bigint, size: number, limit: number) {
    super(`a message of ${size} bytes; the limit is ${limit}`)
    this.offset = offset
  }
}

/** After a wrong checksum the unreadable stretch ends before the next entry, or is one offset if there is none. */
function believableEnd(error: unknown, bytes: Buffer, nextAt: number, lastOffset: bigint): bigint {
  if (!(error instanceof WrongChecksum)) return lastOffset
  return nextAt + headBytes <= bytes.length ? bytes.readBigInt64BE(nextAt) - 1n : -1n
}

function unreadable(
  entry: Buffer,
  { from, lastOffset, before }: { from: bigint; lastOffset: bigint; before: LogRecord | undefined },
  error: unknown,
): UnreadableRecords | undefined {
  const reason = error instanceof Error ? error.message : String(error)
  if (error instanceof RecordTooLarge)
    return { firstOffset: error.offset, lastOffset: error.offset, reason, bytes: entry }
  const first = isBatch(entry) ? entry.readBigInt64BE(0) : from
  const behind = before === undefined ? first : before.offset + 1n
  const firstOffset = [from, behind].reduce((one, other) => (one > other ? one : other), first)
  if (firstOffset > lastOffset && !(error instanceof WrongChecksum)) return undefined // all of it has been read
  return { firstOffset, lastOffset: lastOffset > firstOffset ? lastOffset : firstOffset, reason, bytes: entry }
}

const nothing: Unpacked = { records: [], unpackedBytes: 0 }

function recordsOf(
  entry: Buffer,
  from: bigint,
  isAborted: IsAborted,
  limits: UnpackingLimits,
  known: Unfinished | undefined,
): Unpacked {
  if (!isBatch(entry)) return messagesOf(entry, from, limits, known)
  const magic = entry.readInt8(16)
  if (magic !== 2) throw new UnreadableBytes(`message format v${magic} is not known`)
  if (entry.length < batchHeadBytes) throw new UnreadableBytes('a batch that is shorter than its head')
  if (!known?.unpacked && crc32c(entry.subarray(21)) !== entry.readUInt32BE(17)) throw new WrongChecksum()
  const attributes = entry.readInt16BE(21)
  const producerId = entry.readBigInt64BE(43)
  if (attributes & attribute.control) {
    isAborted.control(producerId, entry)
    return nothing
  }
  if (isAborted.batch(producerId, lastOffsetOf(entry)) && attributes & attribute.transactional) return nothing
  return batchRecords(entry, from, attributes, limits, known)
}

/** Bytes of key, value and headers. */
function sizeOf({ key, value, headers }: LogRecord): number {
  const ofHeaders = headers.reduce((sum, [name, held]) => sum + name.length + (held?.length ?? 0), 0)
  return (key?.length ?? 0) + (value?.length ?? 0) + ofHeaders
}
