import { createHash } from 'node:crypto'
import { DecodeError, decode, type EventName, type EventTypes, topics } from '@shopstream/events'
import { type IncomingMessage, oddKey, type WireHeaders } from '../broker/bus.ts'

/** Names of the fields of an event, or of any of several. */
export type FieldOf<N extends EventName> = { [K in N]: keyof EventTypes[K] & string }[N]

/**
 * An event as a handler gets it: the CloudEvents attributes from the headers and the decoded payload. `F` names the
 * fields of the payload that the handler uses, as its row of `consumes.ts` declares them; `*`, the default, is all.
 */
export interface Message<N extends EventName = EventName, F extends FieldOf<N> | '*' = '*'> {
  /** `ce_id`, a UUID: the same event has the same id however often it is delivered. */
  id: string
  type: N
  /** The aggregate's id. */
  key: string
  /** `ce_sequence`: gap-free per topic and key, from 1. */
  sequence: bigint
  /** When it was decided. */
  time: Date
  data: ['*'] extends [F] ? EventTypes[N] : { [K in N]: Pick<EventTypes[K], F & keyof EventTypes[K]> }[N]
  topic: string
  partition: number
  offset: bigint
  /** W3C trace context of what caused it. */
  traceparent?: string
}

/** A message that can never be read as an event, however often it is tried. */
export class MalformedMessage extends Error {}

/** Topics that keep the last message of each key: redelivery is recognised by sequence there, not by the inbox. */
export const compactedTopics = new Set(topics.filter(({ cleanup }) => cleanup === 'compact').map(({ name }) => name))

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

const textOf = (headers: WireHeaders, name: string): string | undefined => headers[name]?.toString() // a header without a value is none

/** The event type a message claims to have, without reading its payload. */
export const typeOf = (headers: WireHeaders): string | undefined => textOf(headers, 'ce_type')

/** The event id a message claims to have, if it is a UUID. */
export function eventIdOf(headers: WireHeaders): string | undefined {
  const id = textOf(headers, 'ce_id')?.toLowerCase()
  return id !== undefined && uuid.test(id) ? id : undefined
}

/**
 * The inbox's id for a message that cannot be read, now or ever, made of its event id, key and bytes: a repeat has the
 * same. It is not the event's own id: the writer may have copied that from a good event, which would then be dropped as
 * a repeat. The time in the id stays. Undefined without an event id.
 */
export function unreadableIdOf({ key, value, headers }: Pick<IncomingMessage, 'key' | 'value' | 'headers'>) {
  const id = eventIdOf(headers)
  if (id === undefined) return undefined
  const hash = createHash('sha256')
    .update(JSON.stringify([id, key]))
    .update(value ?? '')
    .digest('hex')
  return `${id.slice(0, 19)}${hash.slice(0, 4)}-${hash.slice(4, 16)}`
}

/**
 * Reads a message. Throws {@link MalformedMessage} when that is never possible, and
 * `DecodeError` with the reason `unknown-schema` when its writer's schema is not known yet.
 */
export function readMessage({ topic, partition, offset, key, value, headers }: IncomingMessage): Message {
  const required = (name: string): string => {
    const text = textOf(headers, name)
    if (text === undefined) throw new MalformedMessage(`header ${name} is missing`)
    return text
  }
  if (value === null) throw new MalformedMessage('a tombstone on a topic that has none')
  if (key === null) throw new MalformedMessage('the message has no key')
  if (key.startsWith(oddKey)) throw new MalformedMessage('the key is no text, or longer than an id')
  const id = eventIdOf(headers)
  if (id === undefined) throw new MalformedMessage('header ce_id is no UUID')
  const sequence = required('ce_sequence')
  if (!/^[1-9]\d{0,17}$/.test(sequence)) throw new MalformedMessage('header ce_sequence is no positive number')
  const time = new Date(required('ce_time'))
  if (Number.isNaN(time.getTime())) throw new MalformedMessage('header ce_time is no time')
  const { event, data } = decodeOrRefuse(value)
  if (event !== required('ce_type'))
    throw new MalformedMessage(`header ce_type says ${required('ce_type')}, the payload is ${event}`)
  const traceparent = textOf(headers, 'traceparent')
  return {
    id,
    type: event,
    key,
    sequence: BigInt(sequence),
    time,
    data,
    topic,
    partition,
    offset,
    ...(traceparent && { traceparent }),
  }
}

function decodeOrRefuse(value: Buffer) {
  try {
    return decode(value)
  } catch (error) {
    if (error instanceof DecodeError && error.reason === 'malformed')
      throw new MalformedMessage(error.message, { cause: error })
    throw error
  }
}

/** Headers as jsonb keeps them: text where the bytes are UTF-8, else base64; null without a value. */
export type StoredHeaders = Record<string, string | { base64: string } | null>

/** For a jsonb column; {@link fromStored} gives the same bytes back. */
export function toStored(headers: WireHeaders): StoredHeaders {
  return Object.fromEntries(
    Object.entries(headers).map(([name, held]) => {
      const storedName = name.replaceAll('\0', '\ufffd').toWellFormed()
      if (held === null) return [storedName, null]
      const bytes = Buffer.from(held as Buffer)
      const text = bytes.toString()
      const survives = Buffer.from(text).equals(bytes) && !text.includes('\0') // jsonb holds no NUL
      return [storedName, survives ? text : { base64: bytes.toString('base64') }]
    }),
  )
}

export function fromStored(headers: StoredHeaders): WireHeaders {
  return Object.fromEntries(
    Object.entries(headers).map(([name, held]) => [
      name,
      held === null || typeof held === 'string' ? held : Buffer.from(held.base64, 'base64'),
    ]),
  )
}
