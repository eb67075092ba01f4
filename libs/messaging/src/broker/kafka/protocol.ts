import type { Place } from '../bus.ts'
import type { AbortedTransaction } from './aborted-transactions.ts'

/**
 * The few requests that are the same whichever client carries them: what a log holds and where it lies. They are asked
 * in versions that brokers from Kafka 2.8 on know. Source: kafka.apache.org/protocol.
 */
export interface ApiRequest<Answer> {
  apiKey: number
  apiVersion: number
  apiName: string
  body: Buffer
  /** Ms that the broker may take its time for, beyond what a request takes. */
  waitsMs: number
  /** Throws a RangeError when the answer ends too early. */
  decode(answer: Buffer): Answer
}

export interface BrokerAddress {
  host: string
  port: number
}

export interface ClusterMetadata {
  brokers: ReadonlyMap<number, BrokerAddress>
  topics: { topic: string; errorCode: number; partitions: { partition: number; errorCode: number; leader: number }[] }[]
}

/** Of these topics; none is made by asking. */
export function metadataRequest(topics: readonly string[]): ApiRequest<ClusterMetadata> {
  const body = new Writer().list(topics, (writer, topic) => writer.text(topic)).int8(0)
  return {
    apiKey: 3,
    apiVersion: 4,
    apiName: 'Metadata',
    body: body.bytes(),
    waitsMs: 0,
    decode(answer) {
      const reader = new Reader(answer)
      reader.int32() // throttling
      const brokers = reader.list(() => {
        const id = reader.int32()
        const address = { host: reader.text() ?? '', port: reader.int32() }
        reader.text() // rack
        return [id, address] as const
      })
      reader.text() // cluster
      reader.int32() // controller
      return {
        brokers: new Map(brokers),
        topics: reader.list(() => {
          const errorCode = reader.int16()
          const topic = reader.text() ?? ''
          reader.int8() // whether it is Kafka's own
          return { topic, errorCode, partitions: reader.list(() => readPartition(reader)) }
        }),
      }
    },
  }
}

function readPartition(reader: Reader) {
  const partition = { errorCode: reader.int16(), partition: reader.int32(), leader: reader.int32() }
  reader.list(() => reader.int32()) // replicas
  reader.list(() => reader.int32()) // those in sync
  return partition
}

/**
 * The ids that a broker gives to topics: one that is made anew has another. Without those that are not there.
 * In a flexible version (KIP-482), which brokers know from Kafka 2.8 on: the empty list of tags of its head comes first.
 */
export function topicIdsRequest(topics: readonly string[]): ApiRequest<Map<string, string>> {
  const noTags = 0
  const body = new Writer()
    .int8(noTags)
    .compactList(topics, (writer, topic) => writer.int64(0n).int64(0n).compactText(topic).int8(noTags))
    .int8(0) // none is made by asking
    .int8(0) // nor who may do what
    .int8(0)
    .int8(noTags)
  return {
    apiKey: 3,
    apiVersion: 10,
    apiName: 'Metadata',
    body: body.bytes(),
    waitsMs: 0,
    decode(answer) {
      const reader = new Reader(answer)
      reader.tags()
      reader.int32() // throttling
      reader.compactList(() => {
        reader.int32() // id
        reader.compactText() // host
        reader.int32() // port
        reader.compactText() // rack
        reader.tags()
      })
      reader.compactText() // cluster
      reader.int32() // controller
      const found = reader.compactList(() => {
        const errorCode = reader.int16()
        const topic = reader.compactText()
        const id = reader.hex(16)
        reader.int8() // whether it is Kafka's own
        reader.compactList(() => {
          reader.hex(14) // error, number, leader and its epoch
          for (let lists = 0; lists < 3; lists++) reader.compactList(reader.int32)
          reader.tags()
        })
        reader.int32() // who may do what
        reader.tags()
        return errorCode === 0 && /[^0]/.test(id) ? [[topic, id] as const] : [] // brokers that know no ids answer with zeros
      })
      return new Map(found.flat())
    },
  }
}

/** Which offset of a partition is asked for: of the first message kept, of the next to be written, or of the first that an open transaction hides. */
export type Landmark = 'start' | 'end' | 'stable-end'

export interface OffsetAnswer extends Place {
  errorCode: number
  offset: bigint
}

const isolation = { uncommitted: 0, committed: 1 }

export function offsetsRequest(places: readonly Place[], landmark: Landmark): ApiRequest<OffsetAnswer[]> {
  const time = landmark === 'start' ? -2n : -1n
  const body = new Writer()
    .int32(-1) // no replica
    .int8(landmark === 'stable-end' ? isolation.committed : isolation.uncommitted)
    .byTopic(places, (writer, { partition }) => writer.int32(partition).int64(time))
  return {
    apiKey: 2,
    apiVersion: 2,
    apiName: 'ListOffsets',
    body: body.bytes(),
    waitsMs: 0,
    decode(answer) {
      const reader = new Reader(answer)
      reader.int32() // throttling
      return reader.byTopic((topic) => {
        const place = { topic, partition: reader.int32(), errorCode: reader.int16() }
        reader.int64() // timestamp
        return { ...place, offset: reader.int64() }
      })
    },
  }
}

export interface FetchPlace extends Place {
  offset: bigint
  /** Bytes that the broker may send of it; the first batch of an answer comes whole however large it is. */
  maxBytes: number
}

export interface FetchOptions {
  /** In the order in which they are to be answered. */
  places: readonly FetchPlace[]
  maxWaitMs: number
  /** Of the whole answer. */
  maxBytes: number
  /** True: also what belongs to open and aborted transactions. */
  uncommitted?: boolean
}

/** A partition's part of an answer. */
export interface FetchedPartition extends Place {
  /** Kafka's own number, 0 for none. */
  errorCode: number
  /** Offset of the next message to be written. */
  highWatermark: bigint
  /** Up to here no transaction is open. */
  lastStableOffset: bigint
  logStartOffset: bigint
  aborted: AbortedTransaction[]
  preferredReadReplica: number
  /** As they came; see `decodeRecords`. */
  records: Buffer
}

export interface FetchAnswer {
  throttleMs: number
  errorCode: number
  sessionId: number
  partitions: FetchedPartition[]
}

export const fetchVersion = 11

export function fetchRequest({ places, maxWaitMs, maxBytes, uncommitted }: FetchOptions): ApiRequest<FetchAnswer> {
  const body = new Writer()
    .int32(-1) // no replica
    .int32(maxWaitMs)
    .int32(1) // byte, at least
    .int32(maxBytes)
    .int8(uncommitted ? isolation.uncommitted : isolation.committed)
    .int32(0) // no session
    .int32(-1)
    // Each by itself, not by topic: brokers fill the answer in this order.
    .list(places, (writer, { topic, partition, offset, maxBytes: ofPartition }) =>
      writer.text(topic).int32(1).int32(partition).int32(-1).int64(offset).int64(-1n).int32(ofPartition),
    )
    .int32(0) // nothing to forget
    .text('') // rack
  return {
    apiKey: 1,
    apiVersion: fetchVersion,
    apiName: 'Fetch',
    body: body.bytes(),
    waitsMs: maxWaitMs,
    decode: decodeFetch,
  }
}

/** The body of a Fetch answer v11. Throws a RangeError when it ends too early. */
export function decodeFetch(answer: Buffer): FetchAnswer {
  const reader = new Reader(answer)
  return {
    throttleMs: reader.int32(),
    errorCode: reader.int16(),
    sessionId: reader.int32(),
    partitions: reader.byTopic((topic) => ({
      topic,
      partition: reader.int32(),
      errorCode: reader.int16(),
      highWatermark: reader.int64(),
      lastStableOffset: reader.int64(),
      logStartOffset: reader.int64(),
      aborted: reader.list(() => ({ producerId: reader.int64(), firstOffset: reader.int64() })),
      preferredReadReplica: reader.int32(),
      records: reader.sized(),
    })),
  }
}

/** Big endian, as all of the protocol is. */
class Writer {
  readonly #parts: Buffer[] = []

  int8 = (value: number) => this.#add(1, (bytes) => bytes.writeInt8(value))
  int16 = (value: number) => this.#add(2, (bytes) => bytes.writeInt16BE(value))
  int32 = (value: number) => this.#add(4, (bytes) => bytes.writeInt32BE(value))
  int64 = (value: bigint) => this.#add(8, (bytes) => bytes.writeBigInt64BE(value))

  text(value: string): this {
    const bytes = Buffer.from(value)
    this.int16(bytes.length)
    this.#parts.push(bytes)
    return this
  }

  list<T>(values: readonly T[], write: (writer: this, value: T) => unknown): this {
    this.int32(values.length)
    for (const value of values) write(this, value)
    return this
  }

  byTopic<P extends Place>(places: readonly P[], write: (writer: this, place: P) => unknown): this {
    return this.list([...Map.groupBy(places, ({ topic }) => topic)], (writer, [topic, ofTopic]) =>
      writer.text(topic).list(ofTopic, write),
    )
  }

  compactText(value: string): this {
    const bytes = Buffer.from(value)
    this.uvarint(bytes.length + 1)
    this.#parts.push(bytes)
    return this
  }

  compactList<T>(values: readonly T[], write: (writer: this, value: T) => unknown): this {
    this.uvarint(values.length + 1)
    for (const value of values) write(this, value)
    return this
  }

  uvarint(value: number): this {
    let left = value
    for (; left > 0x7f; left >>>= 7) this.#add(1, (bytes) => bytes.writeUInt8((left & 0x7f) | 0x80))
    return this.#add(1, (bytes) => bytes.writeUInt8(left))
  }

  bytes = () => Buffer.concat(this.#parts)

  #add(size: number, write: (bytes: Buffer) => void): this {
    const bytes = Buffer.alloc(size)
    write(bytes)
    this.#parts.push(bytes)
    return this
  }
}

class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  int8 = () => this.#bytes.readInt8(this.#move(1))
  int16 = () => this.#bytes.readInt16BE(this.#move(2))
  int32 = () => this.#bytes.readInt32BE(this.#move(4))
  int64 = () => this.#bytes.readBigInt64BE(this.#move(8))

  text(): string | null {
    const length = this.int16()
    return length < 0 ? null : this.#take(length).toString()
  }

  /** Bytes with their length in 32 bits; null is none. */
  sized = () => this.#take(Math.max(0, this.int32()))

  list<T>(read: () => T): T[] {
    const found: T[] = []
    for (let left = this.int32(); left > 0; left--) found.push(read())
    return found
  }

  uvarint(): number {
    let value = 0
    for (let shift = 0; shift < 32; shift += 7) {
      const byte = this.#bytes.readUInt8(this.#move(1))
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value >>> 0
    }
    throw new RangeError('a number of more than 32 bits')
  }

  /** Empty where there is none. */
  compactText = () => this.#take(Math.max(0, this.uvarint() - 1)).toString()
  hex = (size: number) => this.#take(size).toString('hex')

  compactList<T>(read: () => T): T[] {
    const found: T[] = []
    for (let left = this.uvarint(); left > 1; left--) found.push(read())
    return found
  }

  /** Passes over what newer brokers add. */
  tags(): void {
    for (let left = this.uvarint(); left > 0; left--) {
      this.uvarint()
      this.#take(this.uvarint())
    }
  }

  byTopic<T>(read: (topic: string) => T): T[] {
    return this.list(() => {
      const topic = this.text() ?? ''
      return this.list(() => read(topic))
    }).flat()
  }

  #take(length: number): Buffer {
    const at = this.#move(length)
    if (this.#at > this.#bytes.length) throw new RangeError('the answer ends too early')
    return this.#bytes.subarray(at, this.#at)
  }

  #move(size: number): number {
    this.#at += size
    return this.#at - size
  }
}
