import { isAscii } from 'node:buffer'
import { createHash } from 'node:crypto'
import { type IncomingMessage, oddKey, type Place } from '../bus.ts'
import type { LogRecord } from './log-record.ts'

/** Keys longer than this, in bytes, are no ids of ours; databases would not index them. */
const maxKeyBytes = 512

/** A record as consumers see it. Never throws: what is wrong with it becomes the message's `problem`. */
export function toMessage(place: Place, record: LogRecord): IncomingMessage {
  try {
    return converted(place, record)
  } catch (error) {
    const { offset, value } = record
    const problem = `the message cannot be taken apart: ${String(error)}`
    return { topic: place.topic, partition: place.partition, offset, key: null, value, headers: {}, problem }
  }
}

function converted({ topic, partition }: Place, record: LogRecord): IncomingMessage {
  const { offset, key, value, headers, timestamp, problem } = record
  return {
    topic,
    partition,
    offset,
    key: keyText(key),
    value,
    headers: headersOf(headers),
    ...(timestamp && { timestamp }),
    ...(problem !== undefined && { problem }),
  }
}

/** Of a repeated one the last counts. */
function headersOf(all: LogRecord['headers']): IncomingMessage['headers'] {
  const headers: IncomingMessage['headers'] = {}
  for (const [name, value] of all) {
    if (name === '__proto__') return Object.fromEntries(all)
    headers[name] = value
  }
  return headers
}

/** The key as text. A key that is not text, or too long, gets the prefix {@link oddKey}, so that it can be stored. */
function keyText(key: Buffer | null): string | null {
  if (key === null) return null
  if (key.length <= maxKeyBytes && isAscii(key) && !key.includes(0)) return key.toString('latin1')
  const text = key.toString()
  if (key.length <= maxKeyBytes && !text.includes('\0') && Buffer.from(text).equals(key)) return text
  return `${oddKey}${key.length <= maxKeyBytes ? key.toString('base64url') : createHash('sha256').update(key).digest('base64url')}`
}
