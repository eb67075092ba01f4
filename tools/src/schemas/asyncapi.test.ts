import { AvroSchemaParser } from '@asyncapi/avro-schema-parser'
import { type AsyncAPIDocumentInterface, type MessageInterface, Parser } from '@asyncapi/parser'
import { beforeAll, describe, expect, test } from '@jest/globals'
import { decode, type EventName, encode, registry, topicOf, topics } from '@shopstream/events'
import { parseSchema, type Schema } from '@shopstream/events/schema'
import { outgoing } from '@shopstream/messaging/operations'
import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import { asAvroJson, avroOf, keyField, printAsyncApi } from './asyncapi.ts'
import { readModel } from './model-of-workspace.ts'
import { deadLetterTopics, type Model, withSchemas } from './wiring.ts'

type Json = Record<string, unknown>

let model: Model
let text: string
let document: AsyncAPIDocumentInterface
beforeAll(async () => {
  model = await readModel()
  text = printAsyncApi(model)
  document = await parsed(text)
})

/** What the official parser makes of a document. Throws with every error and warning; hints of style are let pass. */
async function parsed(source: string): Promise<AsyncAPIDocumentInterface> {
  const parser = new Parser()
  parser.registerSchemaParser(AvroSchemaParser())
  const { document: found, diagnostics } = await parser.parse(source)
  const problems = diagnostics.filter(({ severity }) => severity <= 1)
  if (!found || problems.length > 0) {
    throw new Error(problems.map(({ path, message }) => `${path.join('.')}: ${message}`).join('\n'))
  }
  return found
}

const events = registry.map(({ subject }) => subject.split('.').at(-1) as EventName)
const messageOf = (event: string): MessageInterface => {
  const found = document.components().messages().get(event)
  if (!found) throw new Error(`${event} is not in the document`)
  return found
}
const exampleOf = (event: string) => messageOf(event).examples().all()[0]

test('the official parser takes it', () => {
  expect(document.version()).toBe('3.0.0')
})

test('the official parser would refuse an Avro schema that is none', async () => {
  await expect(parsed(text.replace('type: record', 'type: recrd'))).rejects.toThrow(
    'UserRegistered.payload.schema.type',
  )
})

test('every topic is a channel with all its events, and so is every dead-letter topic', () => {
  const channels = Object.fromEntries(
    document
      .channels()
      .all()
      .map((channel) => [
        channel.address(),
        channel
          .messages()
          .all()
          .map((one) => one.name()),
      ]),
  )
  expect(channels).toEqual({
    ...Object.fromEntries(topics.map((topic) => [topic.name, topic.events])),
    ...Object.fromEntries(deadLetterTopics(model.wiring).map(({ name }) => [name, ['DeadLetter']])),
  })
})

test('the operations are those of the wiring, to a row', () => {
  const rows = document
    .operations()
    .all()
    .flatMap((operation) =>
      operation
        .messages()
        .all()
        .map((one) => `${operation.tags().all()[0]?.name()} ${operation.action()} ${one.name()}`),
    )
  const expected = withSchemas(model.wiring).flatMap(({ service, produces, consumes }) => [
    ...produces.map((event) => `${service} send ${event}`),
    ...consumes.map(({ event }) => `${service} receive ${event}`),
    ...(consumes.length > 0 ? [`${service} send DeadLetter`] : []),
  ])
  expect(rows.toSorted()).toEqual(expected.toSorted())
  expect(rows).toEqual(expect.arrayContaining(['order send OrderPlaced', 'notification receive OrderShipped']))
})

describe.each(events)('%s', (event) => {
  const schema = parseSchema(registry.findLast(({ subject }) => subject.endsWith(`.${event}`))?.schema)

  test('has an example whose bytes decode to it, and that the codec takes', () => {
    const bytes = Buffer.from(messageOf(event).json<Json>()['x-example-bytes'] as string, 'hex')
    const { event: read, data } = decode(bytes)
    expect(read).toBe(event)
    expect(fromAvroJson(exampleOf(event)?.payload(), schema)).toEqual(data)
    expect(encode(event, fromAvroJson(exampleOf(event)?.payload(), schema) as never)).toEqual(bytes)
  })

  test('has an example that its own schemas hold', () => {
    const { payload, headers } = { payload: messageOf(event).payload(), headers: messageOf(event).headers() }
    const example = exampleOf(event)
    expect(problemsOf(payload?.json(), example?.payload())).toEqual([])
    expect(problemsOf(headers?.json(), example?.headers())).toEqual([])
    expect(example?.headers()?.ce_subject).toBe(
      String((example?.payload() as Json | undefined)?.[keyField(topicOf(event))]),
    )
  })

  test('says of the headers what is written', () => {
    const source = withSchemas(model.wiring).find(({ produces }) => produces.includes(event))?.service ?? 'none'
    const cause = { id: '0199a2b4-6c00-7000-8000-120559ff820e' }
    const { headers } = outgoing(source, {
      type: event,
      key: 'key',
      sequence: 7n,
      data: decode(Buffer.from(messageOf(event).json<Json>()['x-example-bytes'] as string, 'hex')).data as never,
      causedBy: cause,
    })
    const declared = messageOf(event).headers()?.json<{ required: string[]; properties: Json }>()
    expect(Object.keys(declared?.properties ?? {}).toSorted()).toEqual(Object.keys(headers).toSorted())
    expect(declared?.required.toSorted()).toEqual(
      Object.keys(headers)
        .filter((name) => name !== 'ce_causationid')
        .toSorted(),
    )
    expect(problemsOf(declared, headers)).toEqual([])
    expect(problemsOf(declared, { ...headers, ce_sequence: '0' })).not.toEqual([])
  })
})

function problemsOf(schema: unknown, value: unknown) {
  const ajv = new Ajv({ strict: false, allErrors: true })
  formats.default(ajv)
  const validate = ajv.compile(schema as Json)
  return validate(value) ? [] : validate.errors
}

/** The reverse of `asAvroJson`. */
function fromAvroJson(json: unknown, schema: Schema): unknown {
  switch (schema.kind) {
    case 'long':
      return BigInt(json as number)
    case 'timestamp-millis':
      return new Date(json as number)
    case 'nullable':
      return json === null ? null : fromAvroJson(json, schema.of)
    case 'array':
      return (json as unknown[]).map((item) => fromAvroJson(item, schema.items))
    case 'record':
      return Object.fromEntries(schema.fields.map(({ name, type }) => [name, fromAvroJson((json as Json)[name], type)]))
    default:
      return json
  }
}

test('a schema is printed as it was written', () => {
  const schema = {
    type: 'record',
    name: 'Every',
    namespace: 'shop',
    doc: 'All of it.',
    fields: [
      {
        name: 'money',
        aliases: ['price'],
        type: { type: 'record', name: 'Money', namespace: 'shop', fields: [{ name: 'amount', type: 'long' }] },
      },
      { name: 'more', type: { type: 'array', items: 'shop.Money' } },
      { name: 'note', doc: 'A note.', type: ['null', 'string'], default: null },
      {
        name: 'state',
        type: { type: 'enum', name: 'State', namespace: 'shop', symbols: ['on', 'off'], default: 'off' },
      },
      { name: 'mark', type: { type: 'fixed', name: 'Mark', namespace: 'shop', size: 4 } },
      { name: 'map', type: { type: 'map', values: { type: 'long', logicalType: 'timestamp-millis' } } },
      { name: 'id', type: { type: 'string', logicalType: 'uuid' } },
    ],
  }
  expect(avroOf(parseSchema(schema))).toEqual(schema)
})

test('an example keeps longs as numbers, and refuses those that JSON would change', () => {
  expect(asAvroJson('1450', { kind: 'long' })).toBe(1450)
  expect(asAvroJson('1970-01-01T00:00:01.000Z', { kind: 'timestamp-millis' })).toBe(1000)
  expect(asAvroJson('ff41', { kind: 'bytes' })).toBe('ÿA')
  expect(asAvroJson({ a: null }, { kind: 'map', values: { kind: 'nullable', of: { kind: 'long' } } })).toEqual({
    a: null,
  })
  expect(() => asAvroJson('9007199254740993', { kind: 'long' })).toThrow('9007199254740993')
})

test('an event that is not registered yet has no id and no example', async () => {
  const lock = model.lock.filter(({ subject }) => !subject.endsWith('.OrderPlaced'))
  const message = (await parsed(printAsyncApi({ ...model, lock }))).components().messages().get('OrderPlaced')
  expect(message?.examples().all()).toEqual([])
  expect(Object.keys(message?.json() ?? {}).filter((key) => /^x-(schema|example)/.test(key))).toEqual([])
})
