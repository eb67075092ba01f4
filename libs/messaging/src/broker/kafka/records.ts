import zlib from 'node:zlib'
import { crc32c } from '@platformatic/wasm-utils/bundled'
import { decompress, TooManyBytes, UnreadableBytes } from './compression.ts'

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
  /** Bytes that a batch of records may have when it is unpacked; a record counts for {@link leastBytes} at the least. */
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
  /** Something has been taken from it: from then on a batch that needs more than is left waits for the next answer. */
  isBegun?: boolean
}

/** A batch whose records did not all fit into an answer. */
interface Unfinished {
  /** By which it is known when it comes again: its offset, length and checksum are there. */
  head: Buffer
  /** What has been unpacked of it; undefined: it is not packed, or the bytes were dropped. */
  unpacked: Buffer | undefined
  begun: Position
}

/** Where in the bytes of a batch an answer began, so that what a consumer gives back is found as well. */
interface Position {
  /** Records before this offset are before `at`. */
  from: bigint
  at: number
  /** The record there counts so many before it, of which the last is at this place of the batch. */
  count: number
  last: number
}

const beginning: Position = { from: 0n, at: 0, count: 0, last: -1 }

/**
 * The batches that a consumer is in the middle of, by partition: going on in one costs the records of an answer or two. Each
 * 2,000 records of 1.4 MB of zstd that hold 1.8 million took 1 s, as all was unpacked and walked through again: 15 minutes.
 * Unpacked bytes are kept of the one that was broken off last, so the memory is one batch's.
 */
export class UnfinishedBatches {
  readonly #byPlace = new Map<string, Unfinished>()

  /** What is kept of the batch that an answer begins with. */
  take(place: string, entry: Buffer): Unfinished | undefined {
    const found = this.#byPlace.get(place)
    this.#byPlace.delete(place)
    return found && entry.subarray(0, batchHeadBytes).equals(found.head) ? found : undefined
  }

  keep(place: string, batch: Unfinished): void {
    if (batch.unpacked) for (const other of this.#byPlace.values()) other.unpacked = undefined
    this.#byPlace.set(place, batch)
  }
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
/**
 * A batch of smaller ones is nobody's events: each has a type and an id in its headers. By the default limit it may have 65,536
 * records; without an end, 60 KB of zstd become 1.8 million messages that are parked one by one in every service.
 */
const leastBytes = 256
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
        // The records are views of it: a small one keeps in memory all that was packed with it.
        budget.left = Math.min(budget.left, before - unpackedBytes)
        budget.isBegun ||= budget.left < before
      }
    } catch (error) {
      if (error instanceof TooManyBytes && limit < limits.batchBytes) {
        if (known) unfinished.of.keep(unfinished.place, known)
        budget.left = 0 // to have tried has cost as much as to unpack it
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
  /** What the records are views of, where that had to be made; 0: they are views of the answer, or copies. */
  unpackedBytes: number
  /** Changes as records are taken; undefined: it has one record, or none that anybody sees. */
  batch?: Unfinished
}

const nothing: Unpacked = { records: [], unpackedBytes: 0 }

interface UnpackingLimits extends DecodingLimits {
  /** Of `batchBytes`, what may be unpacked now. */
  unpacked: number
}

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
const unlimited = { batchBytes: 65_536, messageBytes: 65_536, unpacked: 65_536 }

function batchRecords(
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

/** Unpacks a batch or takes what is kept of it; its records come as they are asked for. */
function unpack(
  entry: Buffer,
  from: bigint,
  packed: { codec: number; bytes: Buffer },
  limits: UnpackingLimits,
  known: Unfinished | undefined,
  recordsIn: (bytes: Buffer, batch: Unfinished) => Iterable<LogRecord>,
): Unpacked {
  const { codec } = packed
  const bytes = known?.unpacked ?? decompress(codec, packed.bytes, limits.unpacked)
  if (bytes.length > limits.batchBytes)
    throw new UnreadableBytes(`${bytes.length} bytes; the limit is ${limits.batchBytes}`)
  const batch: Unfinished = {
    head: Buffer.from(entry.subarray(0, batchHeadBytes)),
    unpacked: codec === 0 ? undefined : bytes,
    begun: known && known.begun.from <= from ? known.begun : beginning,
  }
  const records = recordsIn(bytes, batch)
  if (known?.unpacked) return { records: copies(records), unpackedBytes: 0, batch }
  return { records, unpackedBytes: codec === 0 ? 0 : bytes.length, batch }
}

/** Of what is kept for longer than the records: they count for themselves, and others can be kept in its place. */
function* copies(records: Iterable<LogRecord>): Iterable<LogRecord> {
  const copy = (bytes: Buffer | null) => bytes && Buffer.from(bytes)
  for (const { key, value, headers, ...rest } of records)
    yield {
      ...rest,
      key: copy(key),
      value: copy(value),
      headers: headers.map(([name, held]) => [name, copy(held)]),
    }
}

/** As it is asked, so that what comes before something broken has been given by then. */
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
  // What has been taken before is not taken apart again, where the records have no gaps.
  const taken = count === head.lastDelta + 1 ? Math.min(count, Number(from - head.firstOffset)) : 0
  for (; n < taken; n++) {
    reader.skip(reader.varint())
    last = n
  }
  for (let isBegun = false; n < count; n++) {
    const place = { from, at: reader.at, count: n, last }
    const { record, delta } = oneRecord(new Reader(reader.bytes(reader.varint())), head)
    if (delta <= last || delta > head.lastDelta)
      throw new UnreadableBytes(`a record at ${delta} of its batch, after ${last}`)
    last = delta
    if (record.offset < from) continue
    if (!isBegun) batch.begun = place
    isBegun = true
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
function messagesOf(entry: Buffer, from: bigint, limits: UnpackingLimits, known: Unfinished | undefined): Unpacked {
  const { codec, appendTime, ...message } = oneMessage(entry)
  if (codec === 0) return { records: [message], unpackedBytes: 0 }
  const packed = { codec, bytes: message.value ?? Buffer.alloc(0) }
  return unpack(entry, from, packed, limits, known, function* (bytes, batch) {
    // In v1 they count from the first of them, and the one around them has the offset of the last.
    const shift = entry.readInt8(16) === 1 ? message.offset - (lastInnerOffset(bytes) ?? message.offset) : 0n
    let isBegun = false
    for (let { at } = batch.begun; at < bytes.length; at += sizeOfInner(bytes, at)) {
      const one = oneMessage(bytes.subarray(at, at + sizeOfInner(bytes, at)))
      if (one.codec !== 0) throw new UnreadableBytes('a compressed message within a compressed one')
      const { key, value, headers } = one
      const offset = one.offset + shift
      if (offset < from) continue
      if (!isBegun) batch.begun = { ...beginning, from, at }
      isBegun = true
      yield { offset, timestamp: appendTime ? message.timestamp : one.timestamp, key, value, headers }
    }
  })
}

function lastInnerOffset(bytes: Buffer): bigint | undefined {
  let last: bigint | undefined
  for (let at = 0; at < bytes.length; at += sizeOfInner(bytes, at)) last = bytes.readBigInt64BE(at)
  return last
}

function sizeOfInner(bytes: Buffer, at: number): number {
  if (at + headBytes > bytes.length || sizeOfEntry(bytes, at) > bytes.length - at)
    throw new UnreadableBytes('a message that ends too early')
  return sizeOfEntry(bytes, at)
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
  #at: number

  constructor(bytes: Buffer, at = 0) {
    this.#bytes = bytes
    this.#at = at
  }

  get at(): number {
    return this.#at
  }

  bytes(length: number): Buffer {
    const start = this.#at
    this.skip(length)
    return this.#bytes.subarray(start, this.#at)
  }

  skip(length: number): void {
    if (length < 0 || this.#at + length > this.#bytes.length)
      throw new UnreadableBytes(`${length} bytes where ${this.rest().length} are left`)
    this.#at += length
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
