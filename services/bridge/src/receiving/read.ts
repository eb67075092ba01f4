import { isUtf8 } from 'node:buffer'
import { type EventName, encode, topicOf } from '@shopstream/events'
import { fromJsonValue, JsonError } from '@shopstream/events/json'
import { readJson } from '@shopstream/events/read-json'
import type { AnyNewEvent } from '@shopstream/messaging'
import { MalformedMessage } from '@shopstream/messaging/forwarding'
import { CloudEvent, ValidationError } from 'cloudevents'
import { keyFields } from '../produces.ts'
import type { BridgeRow } from '../row.ts'
import { headerBytes, maxHeaderBytes, type Received } from '../targets/target.ts'

/** An event that came in, read and checked; the bridge counts its sequence. */
export interface Arrival {
  /** Its source and its id there, which are one's own together: by these a repeated one is recognised. */
  id: string
  topic: string
  event: Pick<AnyNewEvent, 'type' | 'key' | 'data' | 'traceparent'>
}

/** What an event may have as Avro, in bytes. */
const maxEventBytes = 512 * 1024
/** The largest body that is read, in bytes; of a larger one so much is kept. */
export const maxBytes = 1_048_576
/** Of an id or a key, in characters. */
const maxLength = 200

/**
 * Reads a message as a CloudEvent 1.0 in JSON: structured, or binary with attributes in headers that begin with `ce-`, `ce_` or
 * `cloudEvents:`. Throws {@link MalformedMessage} with what keeps it out, and where: that is kept, copied and printed, so no piece
 * of the message stands in it, which may be personal.
 */
export function readArrival(message: Received, row: BridgeRow): Arrival {
  if (message.unfit) throw new MalformedMessage(message.unfit)
  if (message.body.length > maxBytes)
    throw new MalformedMessage(`its body has ${message.body.length} bytes; up to ${maxBytes} are read, and kept`)
  if (headerBytes(message) > maxHeaderBytes)
    throw new MalformedMessage(`its attributes have more than ${maxHeaderBytes} bytes together`)
  const { id, type, key, traceparent, data } = partsOf(message)
  const { receive = [], keyPrefix = '' } = row
  const event = receive.find((one) => one === type)
  if (!event)
    throw new MalformedMessage(`its type is not one that bridge ${row.name} brings; it brings ${receive.join(', ')}`)
  if (!key.startsWith(keyPrefix))
    throw new MalformedMessage(`its subject does not begin with ${keyPrefix}: the key is another source's`)
  const read = { type: event, key, data: dataOf(event, data), ...(traceparent && { traceparent }) }
  const field = keyFields[event as keyof typeof keyFields]
  const named = (read.data as Record<string, unknown>)[field]
  if (key !== `${keyPrefix}${named}`)
    throw new MalformedMessage(
      `its subject is not the ${field} of its data${keyPrefix && ` behind ${keyPrefix}`}: ${event} is keyed by that`,
    )
  const bytes = encode(event, read.data as never).length
  if (bytes > maxEventBytes) throw new MalformedMessage(`the event has ${bytes} bytes, and may have ${maxEventBytes}`)
  return { id, topic: topicOf(event).name, event: read as Arrival['event'] }
}

function dataOf(event: EventName, data: unknown): unknown {
  try {
    return fromJsonValue(event, data)
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw new MalformedMessage(`its data are no ${error.withoutValues}`)
  }
}

interface Parts {
  id: string
  type: string
  key: string
  traceparent: string | undefined
  data: unknown
}

/** What a database keeps as it is: half a character would come back as another one, and NUL is refused. */
const isText = (value: unknown): value is string =>
  typeof value === 'string' &&
  value !== '' &&
  value.length <= maxLength &&
  value.isWellFormed() &&
  !value.includes('\0')

/** The attributes that are used, and the data; both as they were written: no number is rounded. */
function partsOf({ body, headers }: Received): Parts {
  const read = readBody(body)
  const attributes = attributesIn(headers)
  const isBinary = attributes.specversion !== undefined
  const { data, ...envelope } = isBinary ? { ...attributes, data: read } : { data: undefined, ...objectOf(read) }
  // The package makes up what is missing, and an id that is made up is another one at each repetition.
  const { id, type, source, subject, traceparent } = envelope as Record<string, unknown>
  for (const [name, value] of Object.entries({ id, type, source, subject })) {
    if (!isText(value)) throw new MalformedMessage(`its ${name} is no text of 1 to ${maxLength} characters`)
  }
  validate(envelope)
  const trace = typeof traceparent === 'string' ? traceparent : undefined
  return { id: `${source} ${id}`, type: type as string, key: subject as string, traceparent: trace, data }
}

function readBody(body: Buffer): unknown {
  if (!isUtf8(body)) throw new MalformedMessage('its body is no JSON: no UTF-8')
  try {
    return readJson(new TextDecoder().decode(body))
  } catch {
    throw new MalformedMessage('its body is no JSON') // V8 would quote it
  }
}

function objectOf(read: unknown): Record<string, unknown> {
  if (typeof read === 'object' && read !== null && !Array.isArray(read)) return read as Record<string, unknown>
  throw new MalformedMessage('it is no CloudEvent: an object with id, type, source, specversion, subject and data')
}

const attributeHeader = /^(?:ce[-_]|cloudEvents[:_])([a-z0-9]+)$/

const attributesIn = (headers: Received['headers']): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) => {
      const [, attribute] = attributeHeader.exec(name) ?? []
      return attribute ? [[attribute, value]] : []
    }),
  )

/** What is kept of the headers of a message: all, or, of too many, what says whose message it was. */
export function keptHeaders(message: Received): Record<string, string> {
  const { headers, contentType } = message
  if (headerBytes(message) <= maxHeaderBytes) return { ...headers, ...(contentType && { 'content-type': contentType }) }
  const isOwner = ([name, value]: [string, string]) =>
    ['id', 'source', 'type'].includes(attributeHeader.exec(name)?.[1] ?? '') && value.length <= maxLength
  return Object.fromEntries(Object.entries(headers).filter(isOwner))
}

/** By the official package, which quotes what it refuses where its schema does not say it. */
function validate(envelope: Record<string, unknown>): void {
  const { specversion } = envelope
  if (specversion !== '1.0') throw new MalformedMessage('its specversion is not 1.0')
  if (Object.keys(envelope).some((name) => !/^([a-z0-9]+|data_base64)$/.test(name)))
    throw new MalformedMessage('it has an attribute whose name is not of a to z and 0 to 9')
  try {
    new CloudEvent(envelope)
  } catch (error) {
    const found = error instanceof ValidationError && Array.isArray(error.errors) ? error.errors : []
    const places = found.flatMap((one) =>
      typeof one === 'object' ? [`${one.instancePath.slice(1)} ${one.message}`] : [],
    )
    throw new MalformedMessage(
      `it is no CloudEvent: ${places.join('; ') || 'an attribute has a value that none may have'}`,
    )
  }
}
