import type { EventName, Topic } from '@shopstream/events'
import type { LockEntry } from '@shopstream/events/codec'
import { type Field, parseSchema, type RecordSchema, type Schema, shortName } from '@shopstream/events/schema'
import { stringify } from 'yaml'
import { goldenOf } from './golden.ts'
import { deadLetterTopics, type Model, type ServiceWiring, withSchemas } from './wiring.ts'

type Json = Record<string, unknown>

const binding = { bindingVersion: '0.5.0' }

/**
 * `schemas/asyncapi.yaml`: an AsyncAPI 3.0 document of every topic, what each service sends and receives, and the events
 * with their headers, schemas and an example. The same model gives the same text.
 */
export function printAsyncApi(model: Model): string {
  const text = stringify(asyncApiOf(model), { lineWidth: 120, aliasDuplicateObjects: false })
  return `# Written by \`npm run generate\` from schemas/ and the services' wiring tables. Changes made here are lost.\n${text}`
}

/** The document of {@link printAsyncApi}. */
function asyncApiOf(model: Model): Json {
  const wiring = withSchemas(model.wiring)
  const deadLetters = deadLetterTopics(model.wiring)
  const events = new Map(model.events.map((event) => [shortName(event.name), event]))
  const known = model.topics.map((topic) => ({ ...topic, events: topic.events.filter((name) => events.has(name)) }))
  return {
    asyncapi: '3.0.0',
    info: info(model),
    defaultContentType: 'application/avro',
    servers: {
      local: {
        host: '127.0.0.1:9092',
        protocol: 'kafka',
        description: 'Kafka of `npm start`, which prints the address it took; `KAFKA_PORT` and `KAFKA_BROKERS` set it.',
      },
    },
    channels: Object.fromEntries([
      ...known.map((topic) => [topic.name, channel(topic, wiring)]),
      ...deadLetters.map((topic) => [topic.name, deadLetterChannel(topic)]),
    ]),
    operations: Object.fromEntries(
      wiring.flatMap((service) => [
        ...known.flatMap((topic) => operations(service, topic)),
        ...deadLetterTopics([service]).map((topic) => giveUp(service, topic)),
      ]),
    ),
    components: {
      messages: {
        ...Object.fromEntries(
          known.flatMap((topic) =>
            topic.events.map((name) => [name, message(events.get(name) as RecordSchema, topic, model.lock, wiring)]),
          ),
        ),
        DeadLetter: deadLetter,
      },
      messageTraits: { event: eventTrait },
    },
  }
}

/** The minor version counts the schemas: each change of one is compatible with all before it. */
const info = ({ lock, wiring }: Model): Json => ({
  title: 'shopstream events',
  version: `1.${lock.length}.0`,
  license: { name: 'MIT' },
  description: `The topics by which the services speak to each other, and what each service sends and receives.

Values are in Confluent's wire format: byte 0, the schema's id in 4 bytes (most significant first), Avro binary. Ids and all versions of the schemas are in \`schemas/registry.lock.json\` and in the topic \`shop.schema.v1\`. The partition is murmur2(key) modulo the number of partitions, as Kafka's Java client has it.

Delivery is at least once and in order per key: drop an event whose \`ce_id\` took effect before, and on compacted topics one whose \`ce_sequence\` is not higher than the one known.

Examples are in the JSON that the Avro schema describes: a long is a number, a \`timestamp-millis\` the milliseconds since 1970. \`x-example-bytes\` is the same example as the value of a Kafka message, in hex.`,
  tags: withSchemas(wiring).map(({ service }) => ({ name: service })),
})

const pointer = (...parts: string[]) => ({
  $ref: `#/${parts.map((part) => part.replaceAll('~', '~0').replaceAll('/', '~1')).join('/')}`,
})

function channel(topic: Topic, wiring: readonly ServiceWiring[]): Json {
  const producers = wiring.filter(({ produces }) => topic.events.some((event) => produces.includes(event)))
  return {
    address: topic.name,
    title: topic.name,
    description: `Keyed by ${topic.key}. ${lifetime(topic)}`,
    messages: Object.fromEntries(topic.events.map((name) => [name, pointer('components', 'messages', name)])),
    servers: [pointer('servers', 'local')],
    tags: producers.map(({ service }) => ({ name: service })),
    bindings: { kafka: topicBinding(topic) },
  }
}

const deadLetterChannel = (topic: Topic): Json => ({
  address: topic.name,
  title: topic.name,
  description: `Messages that the consumer group gave up on, as they came, with headers that tell why. ${lifetime(topic)}`,
  messages: { DeadLetter: pointer('components', 'messages', 'DeadLetter') },
  servers: [pointer('servers', 'local')],
  bindings: { kafka: topicBinding(topic) },
})

const dayMs = 24 * 60 * 60 * 1000

/** How long a message stays, in words. */
export const lifetime = ({ cleanup, retentionMs }: Topic): string =>
  cleanup === 'compact'
    ? 'Compacted: the last message of each key stays for ever.'
    : `Messages stay for ${retentionMs / dayMs} days.`

const topicBinding = ({ name, partitions, settings }: Topic): Json => ({
  topic: name,
  partitions,
  topicConfiguration: Object.fromEntries(
    Object.entries(settings).map(([setting, value]) => [
      setting,
      setting === 'cleanup.policy' ? value.split(',') : /^-?\d+$/.test(value) ? Number(value) : value,
    ]),
  ),
  ...binding,
})

/** What one service does with one topic: nothing, sending, receiving, or both. */
function operations({ service, produces, consumes }: ServiceWiring, topic: Topic): [string, Json][] {
  const sent = topic.events.filter((event) => produces.includes(event))
  const received = consumes.filter(({ event }) => topic.events.includes(event))
  const receivedNames = received.map(({ event }) => event)
  const send: [string, Json] = [
    `${service}-sends-${topic.name}`,
    { ...operation('send', service, topic, sent), summary: `${service} sends ${sent.join(', ')}` },
  ]
  const receive: [string, Json] = [
    `${service}-receives-${topic.name}`,
    {
      ...operation('receive', service, topic, receivedNames),
      summary: `${service} receives ${receivedNames.join(', ')}`,
      bindings: { kafka: { groupId: { type: 'string', enum: [service] }, ...binding } },
      'x-fields-used': Object.fromEntries(received.map(({ event, fields }) => [event, fields])),
    },
  ]
  return [...(sent.length ? [send] : []), ...(received.length ? [receive] : [])]
}

const operation = (action: string, service: string, topic: Topic, messages: readonly string[]): Json => ({
  action,
  channel: pointer('channels', topic.name),
  tags: [{ name: service }],
  messages: messages.map((name) => pointer('channels', topic.name, 'messages', name)),
})

const giveUp = ({ service }: ServiceWiring, topic: Topic): [string, Json] => [
  `${service}-sends-${topic.name}`,
  { ...operation('send', service, topic, ['DeadLetter']), summary: `${service} sends what it gave up on` },
]

function message(
  event: RecordSchema,
  topic: Topic,
  lock: readonly LockEntry[],
  wiring: readonly ServiceWiring[],
): Json {
  const name = shortName(event.name) as EventName
  const row = lock.findLast(({ subject }) => subject === event.name)
  const sources = wiring
    .filter(({ produces }) => produces.includes(name))
    .map(({ service }) => `/shopstream/${service}`)
  return {
    name,
    title: name,
    summary: event.doc,
    contentType: 'application/avro',
    traits: [pointer('components', 'messageTraits', 'event')],
    headers: {
      type: 'object',
      properties: { ce_type: { const: name }, ...(sources.length && { ce_source: { enum: sources } }) },
    },
    payload: { schemaFormat: 'application/vnd.apache.avro;version=1.9.0', schema: avroOf(event) },
    bindings: {
      kafka: {
        key: { type: 'string', description: topic.key },
        schemaIdLocation: 'payload',
        schemaIdPayloadEncoding: 'confluent',
        schemaLookupStrategy: 'RecordNameStrategy',
        ...binding,
      },
    },
    ...(row && registered(row, name, topic, sources[0])),
  }
}

/** What is known of an event since `npm run schemas -- register`; before that it has neither. */
function registered(row: LockEntry, name: EventName, topic: Topic, source: string | undefined): Json {
  const { hex, value } = JSON.parse(goldenOf(row)) as { hex: string; value: Json }
  return {
    examples: [
      {
        name,
        headers: exampleHeaders(name, String(value[keyField(topic)] ?? topic.key), source),
        payload: asAvroJson(value, parseSchema(row.schema)),
      },
    ],
    'x-schema-id': row.id,
    'x-schema-version': row.version,
    'x-example-bytes': hex,
  }
}

/** The field that a topic is keyed by: `orderId` of the key "order id". */
export const keyField = ({ key }: Pick<Topic, 'key'>): string =>
  key.replace(/ +(\w)/g, (_, letter: string) => letter.toUpperCase())

/** The headers that `outgoing` of libs/messaging writes; a test compares the two. */
const headerSchemas: Record<string, Json> = {
  'content-type': { const: 'application/avro' },
  ce_specversion: { const: '1.0', description: 'Version of CloudEvents, whose Kafka binding this is, in binary mode.' },
  ce_id: {
    type: 'string',
    format: 'uuid',
    description: 'The event, a UUIDv7: the same event has the same id however often it is delivered.',
  },
  ce_type: { type: 'string', description: 'Name of the event.' },
  ce_source: { type: 'string', format: 'uri-reference', description: 'Who decided it: `/shopstream/SERVICE`.' },
  ce_subject: { type: 'string', description: "The aggregate's id, the same as the message's key." },
  ce_time: { type: 'string', format: 'date-time', description: 'When it was decided, in UTC.' },
  ce_sequence: {
    type: 'string',
    pattern: '^[1-9][0-9]{0,17}$',
    description: 'Counts the events of this topic and key from 1 without a gap.',
  },
  ce_causationid: {
    type: 'string',
    format: 'uuid',
    description: '`ce_id` of the event that led to this one, if one did.',
  },
  traceparent: {
    type: 'string',
    pattern: '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$',
    description: 'W3C trace context of what led to it.',
  },
}

const eventTrait: Json = {
  headers: {
    type: 'object',
    required: Object.keys(headerSchemas).filter((name) => name !== 'ce_causationid'),
    properties: headerSchemas,
  },
}

const exampleHeaders = (event: string, key: string, source = '/example'): Json => ({
  'content-type': 'application/avro',
  ce_specversion: '1.0',
  ce_id: '019bc139-06a0-7000-8000-5b1fd3a7c001',
  ce_type: event,
  ce_source: source,
  ce_subject: key,
  ce_time: '2026-01-15T09:30:00.000Z',
  ce_sequence: '1',
  traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
})

const deadLetterHeaders: Record<string, Json> = {
  dlq_group: { type: 'string', description: 'The consumer group that gave up.' },
  dlq_topic: { type: 'string', description: 'The topic it came from.' },
  dlq_partition: { type: 'string', description: 'The partition it came from, a number.' },
  dlq_offset: { type: 'string', description: 'Its offset there, a number.' },
  dlq_attempts: { type: 'string', description: 'How often it was tried.' },
  dlq_error: { type: 'string', description: 'Why the last attempt failed.' },
}

const deadLetter: Json = {
  name: 'DeadLetter',
  title: 'DeadLetter',
  summary: 'The original key, bytes and headers of a message, whatever they were, and headers that tell why.',
  headers: { type: 'object', required: Object.keys(deadLetterHeaders), properties: deadLetterHeaders },
}

/** A schema as Avro's JSON, with its docs; a named type is written out where it comes first. */
export function avroOf(schema: Schema, seen = new Set<string>()): unknown {
  switch (schema.kind) {
    case 'array':
      return { type: 'array', items: avroOf(schema.items, seen) }
    case 'map':
      return { type: 'map', values: avroOf(schema.values, seen) }
    case 'nullable':
      return ['null', avroOf(schema.of, seen)]
    case 'uuid':
      return { type: 'string', logicalType: 'uuid' }
    case 'timestamp-millis':
      return { type: 'long', logicalType: 'timestamp-millis' }
    case 'record':
    case 'enum':
    case 'fixed':
      return namedAvro(schema, seen)
    default:
      return schema.kind
  }
}

function namedAvro(schema: Extract<Schema, { name: string }>, seen: Set<string>): unknown {
  const { kind, name } = schema
  if (seen.has(name)) return name
  seen.add(name)
  const head = {
    type: kind,
    name: shortName(name),
    namespace: name.slice(0, -shortName(name).length - 1),
    ...extras(schema),
  }
  if (schema.kind === 'fixed') return { ...head, size: schema.size }
  if (schema.kind === 'enum') return { ...head, symbols: schema.symbols, ...defaultOf(schema) }
  return { ...head, fields: schema.fields.map((field) => fieldAvro(field, seen)) }
}

const fieldAvro = (field: Field, seen: Set<string>): Json => ({
  name: field.name,
  ...extras(field),
  type: avroOf(field.type, seen),
  ...defaultOf(field),
})

const extras = ({ doc, aliases }: Pick<Field, 'doc' | 'aliases'>): Json => ({
  ...(doc !== undefined && { doc }),
  ...(aliases.length > 0 && { aliases }),
})

const defaultOf = (held: { default?: unknown }): Json =>
  Object.hasOwn(held, 'default') ? { default: held.default } : {}

/**
 * The value of a golden file (longs as text, times as ISO 8601, bytes as hex) in the JSON that its Avro schema
 * describes: numbers, milliseconds, bytes as characters up to U+00FF. Throws for a long that JSON cannot hold exactly.
 */
export function asAvroJson(value: unknown, schema: Schema): unknown {
  switch (schema.kind) {
    case 'nullable':
      return value === null ? null : asAvroJson(value, schema.of)
    case 'array':
      return (value as unknown[]).map((item) => asAvroJson(item, schema.items))
    case 'map':
      return mapValues(value as Json, (held) => asAvroJson(held, schema.values))
    case 'record':
      return Object.fromEntries(schema.fields.map(({ name, type }) => [name, asAvroJson((value as Json)[name], type)]))
    case 'timestamp-millis':
      return Date.parse(value as string)
    case 'long':
      if (!Number.isSafeInteger(Number(value))) throw new Error(`${value} is no number that JSON holds exactly`)
      return Number(value)
    case 'bytes':
    case 'fixed':
      return Buffer.from(value as string, 'hex').toString('latin1')
    default:
      return value
  }
}

const mapValues = (held: Json, map: (value: unknown) => unknown): Json =>
  Object.fromEntries(Object.entries(held).map(([key, value]) => [key, map(value)]))
