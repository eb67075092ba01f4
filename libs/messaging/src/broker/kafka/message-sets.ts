import zlib from 'node:zlib'
import { UnreadableBytes } from './compression.ts'
import { attribute, headBytes, sizeOfEntry, timeOf, WrongChecksum } from './entries.ts'
import type { LogRecord } from './log-record.ts'
import { Reader } from './record-reader.ts'
import { beginning, type Unfinished } from './unfinished-batches.ts'
import { type Unpacked, type UnpackingLimits, unpack } from './unpacking.ts'

/** Message sets, before format v2. A compressed message's value holds others. Source: KIP-31, KIP-32. */
export function messagesOf(
  entry: Buffer,
  from: bigint,
  limits: UnpackingLimits,
  known: Unfinished | undefined,
): Unpacked {
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
