import zlib from 'node:zlib'
import { crc32c, lz4Compress, snappyCompress } from '@platformatic/wasm-utils/bundled'
import type { ApiRequest } from '../broker/kafka/protocol.ts'

/** What clients of other makes write, for tests: batches byte by byte, right or wrong. */
export interface RawRecord {
  key?: Buffer | string | null
  value?: Buffer | string | null
  headers?: readonly (readonly [name: string | Buffer, value: Buffer | string | null])[]
  /** Its place in the batch; the next one by default. */
  delta?: number
  /** In place of all that comes behind its length. */
  raw?: Buffer
}

export interface BatchParts {
  firstOffset?: bigint
  records: readonly RawRecord[]
  /** How many the head claims; default: as many as there are. */
  count?: number
  lastDelta?: number
  /** 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd. */
  codec?: number
  compress?: (bytes: Buffer) => Buffer
  /** What becomes of the packed bytes before their checksum is made. */
  spoil?: (bytes: Buffer) => Buffer
  timestamp?: bigint
  logAppendTime?: boolean
  producerId?: bigint
  producerEpoch?: number
  firstSequence?: number
  transactional?: boolean
  control?: boolean
}

/** A record batch of format v2. */
export function encodeBatch({
  firstOffset = 0n,
  records,
  count = records.length,
  lastDelta = Math.max(0, records.at(-1)?.delta ?? count - 1),
  codec = 0,
  compress = (bytes) => bytes,
  spoil = (bytes) => bytes,
  timestamp = BigInt(Date.now()),
  logAppendTime = false,
  producerId = -1n,
  producerEpoch = -1,
  firstSequence = -1,
  transactional = false,
  control = false,
}: BatchParts): Buffer {
  const packed = spoil(compress(Buffer.concat(records.map((record, place) => encodeRecord(record, place)))))
  const attributes = codec | (logAppendTime ? 8 : 0) | (transactional ? 16 : 0) | (control ? 32 : 0)
  const checked = Buffer.concat([
    int(2, attributes),
    int(4, lastDelta),
    long(timestamp),
    long(timestamp),
    long(producerId),
    int(2, producerEpoch),
    int(4, firstSequence),
    int(4, count),
    packed,
  ])
  const checksum = Buffer.alloc(4)
  checksum.writeUInt32BE(crc32c(checked))
  return Buffer.concat([long(firstOffset), int(4, checked.length + 9), int(4, 0), int(1, 2), checksum, checked])
}

/** A valid batch of so many records without key, value and headers: ten bytes each at the most, before they are packed by zstd. */
export function encodeDenseBatch(count: number, isPacked = true): Buffer {
  const raw = Buffer.alloc(count * 10)
  let at = 0
  for (let n = 0; n < count; n++) {
    const start = at
    at += 3 // its length comes last; no attributes, no time since the first
    let delta = n * 2
    for (; delta > 0x7f; delta >>>= 7) raw[at++] = (delta & 0x7f) | 0x80
    raw[at++] = delta
    raw[at++] = 1 // no key
    raw[at++] = 1 // no value
    at++ // no headers
    raw[start] = (at - start - 1) * 2
  }
  const bytes = raw.subarray(0, at)
  const packing = isPacked ? { codec: 4, compress: () => zlib.zstdCompressSync(bytes) } : { compress: () => bytes }
  return encodeBatch({ records: [], count, lastDelta: count - 1, ...packing })
}

function encodeRecord({ key = null, value = null, headers = [], delta, raw }: RawRecord, place: number): Buffer {
  const body =
    raw ??
    Buffer.concat([
      int(1, 0),
      varint(0),
      varint(delta ?? place),
      sized(key),
      sized(value),
      varint(headers.length),
      ...headers.flatMap(([name, held]) => [sized(name), sized(held)]),
    ])
  return Buffer.concat([varint(body.length), body])
}

export interface MessageSetParts {
  magic: number
  firstOffset: bigint
  messages: readonly { key?: string; value: string }[]
  codec?: number
  compress?: (bytes: Buffer) => Buffer
}

/** A message set of format v0 or v1, as brokers before 0.11 wrote them. */
export function encodeMessageSet({ magic, firstOffset, messages, codec = 0, compress }: MessageSetParts): Buffer {
  const isPacked = codec !== 0 && compress !== undefined
  const set = messages.map(({ key, value }, place) =>
    encodeMessage(
      magic,
      isPacked && magic === 1 ? BigInt(place) : firstOffset + BigInt(place),
      0,
      key,
      Buffer.from(value),
    ),
  )
  if (!isPacked) return Buffer.concat(set)
  const last = firstOffset + BigInt(messages.length - 1)
  return encodeMessage(magic, last, codec, undefined, compress(Buffer.concat(set)))
}

function encodeMessage(magic: number, offset: bigint, codec: number, key: string | undefined, value: Buffer): Buffer {
  const field = (bytes: Buffer | undefined) => (bytes ? Buffer.concat([int(4, bytes.length), bytes]) : int(4, -1))
  const time = magic === 1 ? [long(1_500_000_000_000n)] : []
  const checked = Buffer.concat([
    int(1, magic),
    int(1, codec),
    ...time,
    field(key === undefined ? undefined : Buffer.from(key)),
    field(value),
  ])
  const checksum = Buffer.alloc(4)
  checksum.writeUInt32BE(zlib.crc32(checked))
  return Buffer.concat([long(offset), int(4, checked.length + 4), checksum, checked])
}

/** As Java's clients write Snappy: a header and blocks of 32 KiB. */
export function xerialSnappy(bytes: Buffer): Buffer {
  const blocks: Buffer[] = []
  for (let at = 0; at < Math.max(1, bytes.length); at += 32_768) {
    const block = snappyCompress(bytes.subarray(at, at + 32_768))
    blocks.push(int(4, block.length), block)
  }
  return Buffer.concat([Buffer.from('\x82SNAPPY\0', 'latin1'), int(4, 1), int(4, 1), ...blocks])
}

export const lz4Frame = (bytes: Buffer): Buffer => lz4Compress(bytes)
export const rawSnappy = (bytes: Buffer): Buffer => snappyCompress(bytes)

/** Produce v7 of one batch. Answers with Kafka's error code, 0 for none, and the offset that it got. */
export function produceRequest(
  { topic, partition }: { topic: string; partition: number },
  batch: Buffer,
  transactionalId: string | null = null,
): ApiRequest<{ errorCode: number; offset: bigint }> {
  const string = (value: string | null) =>
    value === null ? int(2, -1) : Buffer.concat([int(2, Buffer.byteLength(value)), Buffer.from(value)])
  return {
    apiKey: 0,
    apiVersion: 7,
    apiName: 'Produce',
    body: Buffer.concat([
      string(transactionalId),
      int(2, -1),
      int(4, 10_000),
      int(4, 1),
      string(topic),
      int(4, 1),
      int(4, partition),
      int(4, batch.length),
      batch,
    ]),
    waitsMs: 10_000,
    decode(answer) {
      const behindName = 4 + 2 + answer.readInt16BE(4) + 4
      return { errorCode: answer.readInt16BE(behindName + 4), offset: answer.readBigInt64BE(behindName + 6) }
    },
  }
}

const sized = (value: Buffer | string | null) =>
  value === null ? varint(-1) : Buffer.concat([varint(Buffer.byteLength(value)), Buffer.from(value as string)])

function int(size: number, value: number): Buffer {
  const bytes = Buffer.alloc(size)
  bytes.writeIntBE(value, 0, size)
  return bytes
}

function long(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(value)
  return bytes
}

/** Zigzag, as in records. */
export function varint(value: number): Buffer {
  const bytes: number[] = []
  let left = ((value << 1) ^ (value >> 31)) >>> 0
  for (; left > 0x7f; left >>>= 7) bytes.push((left & 0x7f) | 0x80)
  return Buffer.from([...bytes, left])
}
