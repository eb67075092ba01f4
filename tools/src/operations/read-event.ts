import { sql } from '@shopstream/database'
import { DecodeError, deadLetterTopic, decode, learnSchema, topicOf } from '@shopstream/events'
import {
  eventIdOf,
  type IncomingMessage,
  inboundName,
  unparkedBy,
  unreadableIdOf,
} from '@shopstream/messaging/operations'
import { ask } from './answers.ts'
import { type Owner, owners, type Reach } from './shop-access.ts'

/** A message of a topic as people read it. */
export interface ReadEvent {
  topic: string
  partition: number
  offset: bigint
  /** By the clock of the relay that wrote it. */
  writtenAt: Date | undefined
  key: string | null
  id: string | undefined
  /** By which an inbox knows it if its group could not read it. */
  unreadableId: string | undefined
  type: string | undefined
  sequence: bigint | undefined
  /** When it was decided. */
  time: Date | undefined
  /** The service of the shop that decided it. */
  source: Owner | undefined
  /** What it says of its source, where that is none of them. */
  foreignSource: string | undefined
  /** It is the copy that a group has made of a message that it has given up on. */
  copyOf: CopyOf | undefined
  causationId: string | undefined
  traceId: string | undefined
  /** Bytes that are no text as `hex:…`; null without a value. */
  headers: Record<string, string | null>
  schemaId: number | undefined
  /** The payload; absent where it cannot be decoded. */
  data?: unknown
  /** Why it cannot be decoded; `bytes` are its payload then. */
  problem?: string
  bytes?: Buffer
  /** What came in by a bridge, as text; without what may be personal in it. */
  text?: string
}

/** Of which message a dead letter is a copy. */
export interface CopyOf {
  /** The group that has given up on it. */
  group: Owner
  /** Where the original stands, as its headers say. */
  place: string
}

const userEvents = new Set<string>(topicOf('UserRegistered').events)
const userTopic = topicOf('UserRegistered').name
/** What of a user's events is no personal data; whatever is added to them later is taken for personal. */
const impersonal = new Set(['userId', 'roles', 'registeredAt', 'erasedAt'])
export const mask = '•••'

/** What `--personal` does, for usage texts. */
export const personalHelp = `--personal      shows personal data: events of ${userTopic} hold addresses and names, masked as ${mask} otherwise`

/**
 * Makes the function that reads messages of topics for people. The schemas of newer writers are looked up in the services'
 * databases. Personal data are masked unless `personal`.
 */
export function createReader(databases: Reach['databases'], personal = false) {
  const asked = new Set<number>()

  /** Looks once per schema, in each database: any service may have learned it. */
  async function learn(schemaId: number): Promise<void> {
    if (asked.has(schemaId)) return
    asked.add(schemaId)
    for (const owner of owners) {
      const found = await ask(owner, () =>
        sql<{ schemaId: number; subject: string; schema: string }>`
          select schema_id "schemaId", subject, schema from learned_schema where schema_id = ${schemaId}`.execute(
          databases[owner].query,
        ),
      )
      const [row] = found.answer?.rows ?? []
      if (row) return learnSchema(row)
    }
  }

  async function payloadOf(value: Buffer | null): Promise<Pick<ReadEvent, 'schemaId' | 'data' | 'problem'>> {
    if (value === null) return { schemaId: undefined, problem: 'a tombstone: no payload' }
    try {
      const { schemaId, data } = decode(value)
      return { schemaId, data }
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error
      const { schemaId, reason, message } = error
      if (reason !== 'unknown-schema' || schemaId === undefined || schemaId >= 2 ** 31 || asked.has(schemaId))
        return { schemaId, problem: message }
      try {
        await learn(schemaId)
      } catch (cause) {
        return {
          schemaId,
          problem: `${message}; the one that was told cannot be read by this version: ${(cause as Error).message}`,
        }
      }
      return payloadOf(value)
    }
  }

  return async function readEvent(message: IncomingMessage): Promise<ReadEvent> {
    const all = Object.fromEntries(
      Object.entries(message.headers).map(([name, value]) => [name, textOf(value)] as const),
    )
    const { problem } = message
    // What a bridge has parked, and the dead-letter copy of it, is of its topic.
    const topicNames = [message.topic, all.dlq_topic ?? ''].map((name) => unparkedBy(name).topic)
    const isInbound = topicNames.includes(inboundName)
    const headers = isInbound && !personal ? maskedHeaders(all) : all
    const payload = isInbound
      ? { schemaId: undefined, problem: problem ?? notTaken }
      : problem === undefined
        ? await payloadOf(message.value)
        : { schemaId: undefined, problem }
    const type = headers.ce_type ?? undefined
    const isPersonal = !personal && (isInbound || userEvents.has(type ?? '') || topicNames.includes(userTopic))
    const time = new Date(headers.ce_time ?? '')
    const source = sourceOf(headers.ce_source)
    return {
      topic: message.topic,
      partition: message.partition,
      offset: message.offset,
      writtenAt: message.timestamp,
      key: message.key,
      id: eventIdOf(message.headers) ?? headers.ce_id ?? undefined,
      unreadableId: unreadableIdOf(message),
      type,
      sequence: /^\d{1,18}$/.test(headers.ce_sequence ?? '') ? BigInt(headers.ce_sequence as string) : undefined,
      time: Number.isNaN(time.getTime()) ? undefined : time,
      source,
      foreignSource: source ? undefined : (headers.ce_source ?? undefined),
      copyOf: copyOf(message.topic, headers),
      causationId: headers.ce_causationid ?? undefined,
      traceId: headers.traceparent?.split('-')[1],
      headers,
      ...payload,
      ...('data' in payload && { data: isPersonal ? masked(payload.data) : payload.data }),
      ...('problem' in payload && message.value && !isPersonal && !isInbound && { bytes: message.value }),
      ...(isInbound && message.value && { text: personal ? message.value.toString() : maskedText(message.value) }),
    }
  }
}

function textOf(value: string | Buffer | null): string | null {
  if (value === null || typeof value === 'string') return value
  const text = value.toString()
  return Buffer.from(text).equals(value) ? text : `hex:${value.toString('hex')}`
}

/** Others may write into our topics, and call themselves as they like. */
export const sourceOf = (text: string | null | undefined): Owner | undefined =>
  owners.find((owner) => text === `/shopstream/${owner}`)

function copyOf(topic: string, { dlq_topic, dlq_partition, dlq_offset }: ReadEvent['headers']): CopyOf | undefined {
  const group = owners.find((owner) => deadLetterTopic(owner).name === topic)
  return group && { group, place: `${dlq_topic ?? '?'}/${dlq_partition ?? '?'}@${dlq_offset ?? '?'}` }
}

/** The attributes, and what else stands beside them, of what came in by a bridge: by its headers, or as JSON. */
export const wordsOf = ({
  headers,
  text,
}: Pick<ReadEvent, 'headers'> & { text?: string | undefined }): Record<string, unknown> => ({
  ...objectIn(text),
  ...attributesIn(headers),
})

/** The type, and the key if that looks like an id, which something claims to have that a bridge has not taken. */
export function claimsOf(arrived: Parameters<typeof wordsOf>[0]) {
  const { type, subject } = wordsOf(arrived)
  return {
    type: typeof type === 'string' ? type : null,
    key: typeof subject === 'string' && idLike.test(subject) ? subject : null,
  }
}

/** Text with a digit in it, and without an @ or a space: no address, and hardly a name. */
const idLike = /^(?=.*\d)[\w.:-]{1,40}$/

function objectIn(text: string | undefined): Record<string, unknown> {
  try {
    return Object(JSON.parse(text ?? ''))
  } catch {
    return {}
  }
}

const attributesIn = (headers: ReadEvent['headers']) =>
  Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) => {
      const { attribute } = plainHeader.exec(name)?.groups ?? {}
      return attribute === undefined ? [] : [[attribute, value]]
    }),
  )

const notTaken = 'it came in by a bridge, which has not taken it as an event'

/** Attributes of CloudEvents that say what an event is and which; whatever else is in it may be about a person. */
const attributes = new Set(
  'specversion id source type subject time sequence partitionkey datacontenttype dataschema traceparent'.split(' '),
)

/** Nobody knows what others write: of an object its attributes are shown, of anything else how long it is. */
function maskedText(bytes: Buffer): string {
  try {
    const read: unknown = JSON.parse(bytes.toString())
    if (typeof read === 'object' && read !== null && !Array.isArray(read)) {
      const shown = Object.entries(read).map(([name, value]) => [name, attributes.has(name) ? value : mask])
      return JSON.stringify(Object.fromEntries(shown))
    }
  } catch {
    // It is no JSON, and shown as what it is.
  }
  return `${mask} (${bytes.length} bytes; --personal shows them)`
}

/** Attributes may have the prefixes that bindings of CloudEvents give them. */
const plainHeader = /^(?:content-type|dlq_\w+|(?:ce[-_]|cloudEvents[:_])(?<attribute>\w+))$/

const maskedHeaders = (headers: ReadEvent['headers']): ReadEvent['headers'] =>
  Object.fromEntries(
    Object.entries(headers).map(([name, value]) => {
      const { attribute } = plainHeader.exec(name)?.groups ?? { attribute: 'none' }
      return [name, attribute === undefined || attributes.has(attribute) ? value : mask]
    }),
  )

const masked = (data: unknown): unknown =>
  Object.fromEntries(
    Object.entries(data as object).map(([field, value]) => [field, impersonal.has(field) ? value : mask]),
  )
