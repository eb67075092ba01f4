import zlib from 'node:zlib'
import { crc32c } from '@platformatic/wasm-utils/bundled'
import { decompress, UnreadableBytes } from './compression.ts'

/** A record as a log holds it. */
export interface LogRecord {
  offset: bigint
  /** By the clock of the broker or of the writer, as the topic says; undefined where it is no time that a Date can be. */
  timestamp: Date | undefined
  key: Buffer | null
  value: Buffer | null
  /** In their order; a name may be there several times. */
  headers: [name: string, value: Buffer | null][]
  /** Why it cannot be taken apart; `value` is all its bytes then. */
  problem?: string
}

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

export interface DecodingLimits {
  /** Bytes that a batch of records may have when it is unpacked. */
  batchBytes: number
  /** Bytes that key, value and headers of one record may have. */
  messageBytes: number
}

/**
 * How many bytes of memory an answer may still become; shared by its partitions. What is made of a record and of a header
 * counts as well: 8 KB of gzip can hold four million headers without a name or a value.
 */
export interface Budget {
  left: number
}

export interface AbortedTransaction {
  producerId: bigint
  firstOffset: bigint
}

/** What a record and a header take in memory beside their bytes, roughly. */
const objectBytes = { record: 500, header: 100 }
/**
 * Records of a partition's answer at the most: a consumer may take 200 and have the rest sent again, and of the smallest an
 * answer would hold 33,000. Of events, an answer of 1 MiB has some 2,000.
 */
const maxRecords = 2_000
/** More headers than this are no event's; each is an object. */
const maxHeaders = 1_000
/** Bytes of what each format begins with, up to the one that says which it is; and of a whole batch's head. */
const headBytes = 17
const batchHeadBytes = 61
const attribute = { codec: 0b111, logAppendTime: 0b1000, transactional: 0b1_0000, control: 0b10_0000 }

/**
 * Takes a partition's answer apart: record batches (format v2) and the message sets of v0 and v1. Never throws. It ends
 * where something cannot be read, where the bytes end, or where the budget is used up, in the middle of a batch, too, so that
 * an answer of compressed batches does not fill the memory; whoever asked goes on at `next`.
 * @param from records before this offset are left out: brokers send whole batches.
 * @param aborted transactions that were aborted, as the answer tells; their records are left out.
 * Source: Kafka's message format (kafka.apache.org/documentation/#messageformat), for aborted transactions KIP-98.
 */
export function decodeRecords(
  bytes: Buffer,
  from: bigint,
  aborted: readonly AbortedTransaction[],
  limits: DecodingLimits,
  budget: Budget,
): DecodedRecords {
  const decoded: DecodedRecords = { records: [] }
  const isAborted = watchTransactions(aborted)
  for (let at = 0; at + headBytes <= bytes.length && budget.left > 0 && decoded.records.length < maxRecords; ) {
    const size = sizeOfEntry(bytes, at)
    if (size > bytes.length - at) break // brokers cut answers anywhere
    const entry = bytes.subarray(at, at + size)
    const lastOffset = lastOffsetOf(entry)
    try {
      const { records, unpackedBytes } = recordsOf(entry, from, isAborted, limits)
      const before = budget.left
      try {
        if (!take(records, from, limits, budget, decoded)) return decoded
      } finally {
        // The records are views of it: a small one keeps in memory all that was packed with it.
        budget.left = Math.min(budget.left, before - unpackedBytes)
      }
    } catch (error) {
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

/** One that says of itself that it is smaller than its head is all that is left: nothing behind it can be found. */
function sizeOfEntry(bytes: Buffer, at: number): number {
  const size = 12 + bytes.readInt32BE(at + 8)
  return size < headBytes ? bytes.length - at : size
}

const isBatch = (entry: Buffer) => entry.readInt8(16) >= 2

/** Of a batch its last record's; a message that holds others has the offset of the last of them. */
function lastOffsetOf(entry: Buffer): bigint {
  const offset = entry.readBigInt64BE(0)
  if (!isBatch(entry) || entry.length < batchHeadBytes) return offset
  return offset + BigInt(Math.max(0, entry.readInt32BE(23)))
}

/** A record that alone has more bytes than are allowed. */
class RecordTooLarge extends Error {
  readonly offset: bigint

  constructor(offset: bigint, size: number, limit: number) {
    super(`a message of ${size} bytes; the limit is ${limit}`)
    this.offset = offset
  }
}

/** What a batch says of itself may be as wrong as the rest of it. */
class WrongChecksum extends UnreadableBytes {
  constructor() {
    super('the checksum is another one')
  }
}

/** After a wrong checksum what is unreadable ends where the next entry begins, or is one offset where there is none. */
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

interface Unpacked {
  records: Iterable<LogRecord>
  /** What the records are views of, where that had to be made; 0: they are views of the answer. */
  unpackedBytes: number
}

const nothing: Unpacked = { records: [], unpackedBytes: 0 }

function recordsOf(entry: Buffer, from: bigint, isAborted: IsAborted, limits: DecodingLimits): Unpacked {
  if (!isBatch(entry)) return messagesOf(entry, limits)
  const magic = entry.readInt8(16)
  if (magic !== 2) throw new UnreadableBytes(`message format v${magic} is not known`)
  if (entry.length < batchHeadBytes) throw new UnreadableBytes('a batch that is shorter than its head')
  if (crc32c(entry.subarray(21)) !== entry.readUInt32BE(17)) throw new WrongChecksum()
  const attributes = entry.readInt16BE(21)
  const producerId = entry.readBigInt64BE(43)
  if (attributes & attribute.control) {
    isAborted.control(producerId, entry)
    return nothing
  }
  if (isAborted.batch(producerId, lastOffsetOf(entry)) && attributes & attribute.transactional) return nothing
  return batchRecords(entry, from, attributes, limits)
}

interface IsAborted {
  /** Takes note of a control batch: an abort's marker ends the transaction. */
  control(producerId: bigint, entry: Buffer): void
  /** Whether this producer's transactional records are those of an aborted transaction. */
  batch(producerId: bigint, lastOffset: bigint): boolean
}

const abortMarker = 0

/** As Java's consumer does it: transactions open as their first offset is passed, and end with their marker. */
function watchTransactions(aborted: readonly AbortedTransaction[]): IsAborted {
  const waiting = aborted.toSorted((one, other) => (one.firstOffset < other.firstOffset ? -1 : 1))
  const open = new Set<bigint>()
  const openUntil = (lastOffset: bigint) => {
    while (waiting[0] && waiting[0].firstOffset <= lastOffset) open.add(waiting.shift()?.producerId as bigint)
  }
  return {
    control(producerId, entry) {
      openUntil(lastOffsetOf(entry))
      const [marker] = batchRecords(entry, 0n, entry.readInt16BE(21), unlimited).records
      if (marker?.key && marker.key.length >= 4 && marker.key.readInt16BE(2) === abortMarker) open.delete(producerId)
    },
    batch(producerId, lastOffset) {
      openUntil(lastOffset)
      return open.has(producerId)
    },
  }
}

/** For what brokers write themselves. */
const unlimited = { batchBytes: 65_536, messageBytes: 65_536 }

function batchRecords(entry: Buffer, from: bigint, attributes: number, limits: DecodingLimits): Unpacked {
  const codec = attributes & attribute.codec
  const bytes = decompress(codec, entry.subarray(batchHeadBytes), limits.batchBytes)
  if (bytes.length > limits.batchBytes)
    throw new UnreadableBytes(`${bytes.length} bytes; the limit is ${limits.batchBytes}`)
  return { records: takenApart(entry, from, attributes, bytes), unpackedBytes: codec === 0 ? 0 : bytes.length }
}

/** As it is asked, so that what comes before something broken has been given by then. */
function* takenApart(entry: Buffer, from: bigint, attributes: number, bytes: Buffer): Iterable<LogRecord> {
  const head: BatchHead = {
    firstOffset: entry.readBigInt64BE(0),
    lastDelta: entry.readInt32BE(23),
    firstTimestamp: entry.readBigInt64BE(27),
    appendTime: attributes & attribute.logAppendTime ? entry.readBigInt64BE(35) : undefined,
  }
  const count = entry.readInt32BE(57)
  const reader = new Reader(bytes)
  const isDense = count === head.lastDelta + 1
  let last = -1
  for (let n = 0; n < count; n++) {
    const held = reader.bytes(reader.varint())
    if (isDense && head.firstOffset + BigInt(n) < from) {
      last = n // what has been taken before is not taken apart again
      continue
    }
    const { record, delta } = oneRecord(new Reader(held), head)
    if (delta <= last || delta > head.lastDelta)
      throw new UnreadableBytes(`a record at ${delta} of its batch, after ${last}`)
    last = delta
    yield record
  }
  if (count < 0 || (reader.rest().length > 0 && last < head.lastDelta))
    throw new UnreadableBytes(`bytes behind the ${count} records that there are to be`)
}

interface BatchHead {
  firstOffset: bigint
  lastDelta: number
  firstTimestamp: bigint
  /** When the broker stored it, where the topic is stamped so. */
  appendTime: bigint | undefined
}

function oneRecord(reader: Reader, head: BatchHead): { record: LogRecord; delta: number } {
  const all = reader.rest()
  reader.bytes(1) // attributes, of which there are none
  const sinceFirst = reader.varlong()
  const delta = reader.varint()
  const place = {
    offset: head.firstOffset + BigInt(delta),
    timestamp: timeOf(head.appendTime ?? head.firstTimestamp + sinceFirst),
  }
  try {
    const record = { ...place, key: reader.sized(), value: reader.sized(), headers: headersOf(reader) }
    if (reader.rest().length > 0) throw new UnreadableBytes('bytes behind its headers')
    return { record, delta }
  } catch (error) {
    const problem = `the record cannot be taken apart: ${(error as Error).message}`
    return { record: { ...place, key: null, value: all, headers: [], problem }, delta }
  }
}

function headersOf(reader: Reader): LogRecord['headers'] {
  const count = reader.varint()
  if (count < 0 || count > maxHeaders) throw new UnreadableBytes(`${count} headers; the limit is ${maxHeaders}`)
  return Array.from({ length: count }, () => {
    const name = reader.sized()
    if (name === null) throw new UnreadableBytes('a header without a name')
    return [name.toString(), reader.sized()]
  })
}

/** Message sets, before format v2. A compressed message's value holds others. Source: KIP-31, KIP-32. */
function messagesOf(entry: Buffer, limits: DecodingLimits): Unpacked {
  const { codec, appendTime, ...message } = oneMessage(entry)
  if (codec === 0) return { records: [message], unpackedBytes: 0 }
  const bytes = decompress(codec, message.value ?? Buffer.alloc(0), limits.batchBytes)
  const inner: LogRecord[] = []
  for (let at = 0; at < bytes.length; ) {
    if (at + headBytes > bytes.length || sizeOfEntry(bytes, at) > bytes.length - at)
      throw new UnreadableBytes('a message that ends too early')
    const one = oneMessage(bytes.subarray(at, at + sizeOfEntry(bytes, at)))
    if (one.codec !== 0) throw new UnreadableBytes('a compressed message within a compressed one')
    inner.push(one)
    at += sizeOfEntry(bytes, at)
  }
  // In v1 they count from the first of them, and the one around them has the offset of the last.
  const isRelative = entry.readInt8(16) === 1
  const shift = isRelative ? message.offset - (inner.at(-1)?.offset ?? message.offset) : 0n
  const records = inner.map(({ offset, timestamp, key, value, headers }) => ({
    offset: offset + shift,
    timestamp: appendTime ? message.timestamp : timestamp,
    key,
    value,
    headers,
  }))
  return { records, unpackedBytes: bytes.length }
}

function oneMessage(entry: Buffer): LogRecord & { codec: number; appendTime: boolean } {
  if (zlib.crc32(entry.subarray(16)) !== entry.readUInt32BE(12)) throw new WrongChecksum()
  const reader = new Reader(entry.subarray(17))
  const attributes = reader.bytes(1).readInt8()
  const timestamp = entry.readInt8(16) === 1 ? timeOf(reader.bytes(8).readBigInt64BE()) : undefined
  const field = () => {
    const length = reader.bytes(4).readInt32BE()
    return length < 0 ? null : reader.bytes(length)
  }
  return {
    offset: entry.readBigInt64BE(0),
    timestamp,
    key: field(),
    value: field(),
    headers: [],
    codec: attributes & attribute.codec,
    appendTime: (attributes & attribute.logAppendTime) !== 0,
  }
}

const longestTime = 8_640_000_000_000_000n

/** Undefined for -1, by which writers say that they have none, and for what no Date can be. */
const timeOf = (ms: bigint) => (ms === -1n || ms > longestTime || ms < -longestTime ? undefined : new Date(Number(ms)))

/** Bytes of key, value and headers. */
function sizeOf({ key, value, headers }: LogRecord): number {
  const ofHeaders = headers.reduce((sum, [name, held]) => sum + name.length + (held?.length ?? 0), 0)
  return (key?.length ?? 0) + (value?.length ?? 0) + ofHeaders
}

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

/** Reads the parts of a record. Throws {@link UnreadableBytes} where there are fewer bytes than asked for. */
class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  bytes(length: number): Buffer {
    const end = this.#at + length
    if (length < 0 || end > this.#bytes.length)
      throw new UnreadableBytes(`${length} bytes where ${this.rest().length} are left`)
    const taken = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return taken
  }

  rest(): Buffer {
    return this.#bytes.subarray(this.#at)
  }

  /** Null where the length is -1. */
  sized(): Buffer | null {
    const length = this.varint()
    if (length < -1) throw new UnreadableBytes(`a length of ${length}`)
    return length === -1 ? null : this.bytes(length)
  }

  /** 32 bits, zigzag. */
  varint(): number {
    let bits = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#byte()
      bits |= (byte & 0x7f) << shift
      if (byte < 0x80) return (bits >>> 1) ^ -(bits & 1)
    }
    throw new UnreadableBytes('a number of more than five bytes')
  }

  /** 64 bits, zigzag. */
  varlong(): bigint {
    let bits = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#byte()
      bits |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asIntN(64, (bits >> 1n) ^ -(bits & 1n))
    }
    throw new UnreadableBytes('a number of more than ten bytes')
  }

  #byte(): number {
    const byte = this.#bytes[this.#at]
    if (byte === undefined) throw new UnreadableBytes('the bytes end within a number')
    this.#at += 1
    return byte
  }
}
