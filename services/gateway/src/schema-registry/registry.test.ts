import { afterEach, describe, expect, test } from '@jest/globals'
import { readConfig } from '@shopstream/config'
import { registry } from '@shopstream/events/registry'
import { testLogger } from '@shopstream/testing'
import type { FastifyInstance } from 'fastify'
import { buildGateway } from '../app.ts'
import { checkConfig, configSchema } from '../config.ts'
import { settingsOf } from '../services.ts'
import { answersFrom } from './answers.ts'

const environment = {
  PORT: '0',
  ...settingsOf('URL', () => 'http://127.0.0.1:1'),
}
const subject = 'shopstream.order.OrderPlaced'
const row = registry.findLast((one) => one.subject === subject) as (typeof registry)[number]
const text = JSON.stringify(row.schema)

let http: FastifyInstance | undefined
afterEach(() => http?.close())

async function open(env: Record<string, string> = { SCHEMA_REGISTRY_ACCESS: 'anonymous' }) {
  const config = readConfig(configSchema, { ...environment, ...env })
  http = (await buildGateway(config, testLogger())).http
  return http
}

async function ask(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, payload?: string) {
  const contentType = 'application/vnd.schemaregistry.v1+json'
  const response = await (http as FastifyInstance).inject({
    method,
    url: `/schema-registry${path}`,
    ...(payload !== undefined && { payload, headers: { 'content-type': contentType } }),
  })
  expect(response.headers['content-type']).toContain(contentType)
  return { status: response.statusCode, body: response.json() }
}

test('what clients read: subjects, versions, schemas, types, config and mode', async () => {
  await open()
  const { id, version } = row
  const subjects = [...new Set(registry.map((one) => one.subject))].sort()
  const whole = { subject, version, id, schema: text }
  const answers: [path: string, answer: unknown][] = [
    ['', {}],
    ['/subjects', subjects],
    ['/subjects?deleted=true&subjectPrefix=:*:', subjects],
    [`/subjects/${subject}/versions`, registry.filter((one) => one.subject === subject).map((one) => one.version)],
    [`/subjects/${subject}/versions/1`, { ...whole, version: 1, id: expect.any(Number) }],
    [`/subjects/${subject}/versions/latest`, whole],
    [`/subjects/${subject}/versions/-1`, whole],
    [`/subjects/${subject}/versions/latest/schema`, row.schema],
    [`/schemas/ids/${id}`, { schema: text }],
    [`/schemas/ids/${id}?subject=shop.order.v1-value&fetchMaxId=false`, { schema: text }],
    [`/schemas/ids/${id}/schema`, row.schema],
    [`/schemas/ids/${id}/subjects`, [subject]],
    [`/schemas/ids/${id}/versions`, [{ subject, version }]],
    [`/subjects/${subject}/versions/latest/referencedby`, []],
    ['/subjects?subjectPrefix=:.:shopstream.order.OrderPl', [subject]],
    ['/subjects?offset=1&limit=2', subjects.slice(1, 3)],
    ['/subjects?offset=0&limit=-1', subjects],
    ['/subjects?deletedOnly=true', []],
    ['/subjects?limit=1&limit=2&subjectPrefix=a&subjectPrefix=b', []],
    [`/schemas?subjectPrefix=${subject}&latestOnly=true`, [whole]],
    ['/v1/metadata/id', { id: '', scope: { path: [], clusters: { 'schema-registry-cluster': 'shopstream' } } }],
    ['/schemas/types', ['AVRO']],
    ['/contexts', ['.']],
    ['/config', { compatibilityLevel: 'FULL_TRANSITIVE' }],
    [`/config/${subject}?defaultToGlobal=true`, { compatibilityLevel: 'FULL_TRANSITIVE' }],
    ['/mode', { mode: 'READONLY' }],
    [`/mode/${subject}?defaultToGlobal=true`, { mode: 'READONLY' }],
  ]
  for (const [path, body] of answers) expect([path, await ask('GET', path)]).toEqual([path, { status: 200, body }])
  expect((await ask('GET', '/schemas')).body).toHaveLength(registry.length)
})

test('a schema is found by its text, however it is laid out, and registering it again changes nothing', async () => {
  await open()
  const documented = { ...(row.schema as object), doc: 'With words.' }
  const payload = JSON.stringify({ schema: JSON.stringify(documented, null, 2), schemaType: 'AVRO' })
  expect(await ask('POST', `/subjects/${subject}?normalize=False&deleted=False`, payload)).toEqual({
    status: 200,
    body: { subject, version: row.version, id: row.id, schema: text },
  })
  expect(await ask('POST', `/subjects/${subject}/versions`, payload)).toEqual({ status: 200, body: { id: row.id } })
})

describe("the subject that Confluent's clients make of a topic, unless they are told otherwise", () => {
  const bodyOf = (schema: unknown) => JSON.stringify({ schema: JSON.stringify(schema) })
  const [order, erased] = [subject, 'shopstream.user.UserErased'].map(
    (name) => registry.findLast((one) => one.subject === name) as typeof row,
  ) as [typeof row, typeof row]

  test.each([
    ['shop.order.v1-value', order],
    [`shop.order.v1-${subject}`, order],
    ['shop.user.v1-value', erased],
  ])('%s finds what is registered and fits the topic', async (name, { id, schema, ...one }) => {
    await open()
    const whole = { id, subject: one.subject, version: one.version, schema: JSON.stringify(schema) }
    expect(await ask('POST', `/subjects/${name}?normalize=False`, bodyOf(schema))).toEqual({ status: 200, body: whole })
    expect(await ask('POST', `/subjects/${name}/versions?normalize=False`, bodyOf(schema))).toEqual({
      status: 200,
      body: { id },
    })
    expect((await ask('GET', '/subjects')).body).not.toContain(name)
  })

  test('the one of topic and record has versions, as it means one record', async () => {
    await open()
    const { body } = await ask('GET', `/subjects/shop.order.v1-${subject}/versions/latest`)
    expect(body).toMatchObject({ subject, id: row.id })
  })

  test.each<[...Parameters<typeof ask>, code: number, words: string[]]>([
    // which of a topic's records the latest would be, nobody can say
    ['GET', '/subjects/shop.order.v1-value/versions/latest', undefined, 40401, ['RecordNameStrategy', subject]],
    ['POST', '/compatibility/subjects/shop.order.v1-value/versions', bodyOf(order.schema), 40401, [subject]],
    ['POST', '/subjects/shop.user.v1-value', bodyOf(order.schema), 40403, ['shopstream.user.UserErased']],
    [
      'POST',
      '/subjects/shop.user.v1-value/versions',
      bodyOf(order.schema),
      42205,
      ['auto.register.schemas=false', 'use.latest.version=true', 'RecordNameStrategy', 'shopstream.user.UserErased'],
    ],
    ['POST', '/subjects/shop.user.v1-key/versions', bodyOf('string'), 42205, ['keys of shop.user.v1 are text']],
    [
      'POST',
      `/subjects/shop.user.v1-${subject}/versions`,
      bodyOf(order.schema),
      42205,
      ['npm run schemas -- register'],
    ],
    ['GET', '/subjects/nobody/versions', undefined, 40401, ['full names of records']],
  ])('%s %s is refused with what to set', async (method, path, payload, code, words) => {
    await open()
    const { body } = await ask(method, path, payload)
    expect(body.error_code).toBe(code)
    for (const word of words) expect(body.message).toContain(word)
  })
})

describe('a schema is found whatever another program makes of its text', () => {
  const { fields, ...head } = row.schema as { fields: { name: string; type: unknown }[] }
  const reversed = (json: object) => Object.fromEntries(Object.entries(json).reverse())
  test.each<[title: string, schema: unknown]>([
    ['the name taken apart', { ...head, namespace: 'shopstream.order', name: 'OrderPlaced', fields }],
    ['attributes in another order', reversed({ ...head, fields: fields.map(reversed) })],
    [
      'docs and an order of sorting',
      { ...head, fields: fields.map((one) => ({ ...one, doc: 'x', order: 'ascending' })) },
    ],
    ["Java's and Connect's attributes", JSON.parse(text, annotated)],
    [
      'types as objects',
      JSON.parse(text, (key, value) => (key === 'type' && value === 'int' ? { type: value } : value)),
    ],
  ])('%s', async (_, schema) => {
    await open()
    expect(JSON.stringify(schema)).not.toBe(text)
    const payload = JSON.stringify({ schema: JSON.stringify(schema, null, 1), schemaType: null, references: [] })
    expect((await ask('POST', `/subjects/${subject}`, payload)).body).toMatchObject({ id: row.id })
    expect((await ask('POST', `/subjects/${subject}/versions`, payload)).body).toEqual({ id: row.id })
  })

  function annotated(_: string, value: unknown) {
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? { ...value, 'avro.java.string': 'String', 'connect.name': 'x' } : value
  }

  test.each<[title: string, schema: unknown]>([
    [
      'a default more',
      { ...head, fields: [{ ...fields[0], default: '6f1c2b52-6ef5-4a3e-8a39-0d3c1d9b4c11' }, ...fields.slice(1)] },
    ],
    ['a logical type less', JSON.parse(text, (key, value) => (key === 'logicalType' ? undefined : value))],
    ['a field less', { ...head, fields: fields.slice(1) }],
    ['another name', { ...head, name: 'shopstream.order.OrderPlaced2', fields }],
    ['types that this shop has not', { ...head, fields: [{ name: 'x', type: ['int', 'string'] }] }],
    ['no record', 'int'],
  ])('but not with %s', async (_, schema) => {
    const { status, body } = await lookupOf(JSON.stringify(schema))
    expect([status, body.error_code]).toEqual([404, 40403])
  })

  const lookupOf = async (schema: string, more = {}) => {
    await open()
    return ask('POST', `/subjects/${subject}`, JSON.stringify({ schema, ...more }))
  }

  test.each<[schema: unknown, more: object, words: string]>([
    [text, { schemaType: 'PROTOBUF' }, 'PROTOBUF is not AVRO'],
    [text, { references: [{ name: 'x', subject: 'x', version: 1 }] }, 'cannot refer'],
    [JSON.parse(text), {}, 'the text of an Avro schema'],
    ['{', {}, 'JSON'],
    ['{"type":"record","name":"R","fields":[{"name":"x","type":"int","default":1.0}]}', {}, '1.0 does not fit'],
    [`{"type":"record","name":"${'R'.repeat(300)}","fields":[]}`, {}, 'more than 256 letters'],
  ])('%j with %j is none', async (schema, more, words) => {
    const { body } = await lookupOf(schema as string, more)
    expect(body).toEqual({ error_code: 42201, message: expect.stringContaining(words) })
  })
})

describe('compatibility', () => {
  const check = (path: string, schema: unknown) =>
    ask('POST', `/compatibility/subjects/${path}`, JSON.stringify({ schema: JSON.stringify(schema) }))
  const { fields, ...head } = row.schema as { fields: object[] }
  const adding = (field: object) => ({ ...head, fields: [...fields, field] })

  test.each(['versions', 'versions/latest', 'versions/-1', 'versions/1'])('%s, in both directions', async (path) => {
    await open()
    const verdict = async (schema: unknown, query = '') => (await check(`${subject}/${path}${query}`, schema)).body
    const good = adding({ name: 'more', type: 'int', default: 0 })
    expect(await verdict(row.schema)).toEqual({ is_compatible: true })
    expect(await verdict(good, '?verbose=true')).toEqual({ is_compatible: true, messages: [] })
    const unread = await verdict(adding({ name: 'more', type: 'int' }), '?verbose=True&normalize=true')
    expect(unread).toEqual({
      is_compatible: false,
      messages: [expect.stringMatching(/^The schema could not read .*more/)],
    })
    const dropped = await verdict({ ...head, fields: fields.slice(1) }, '?verbose=true')
    expect(dropped).toEqual({ is_compatible: false, messages: [expect.stringMatching(/could not read the schema/)] })
    expect(await verdict({ ...head, fields: fields.slice(1) })).toEqual({ is_compatible: false })
  })

  test.each<[path: string, schema: unknown, code: number]>([
    ['nobody/versions', row.schema, 40401],
    ['nobody/versions/latest', row.schema, 40401],
    [`${subject}/versions/99`, row.schema, 40402],
    [`${subject}/versions/first`, row.schema, 42202],
    [`${subject}/versions`, 'strnig', 42201],
  ])('%s with %j is refused as Confluent does', async (path, schema, code) => {
    await open()
    expect((await check(path, schema)).body).toEqual({ error_code: code, message: expect.any(String) })
  })

  const many = (count: number, make: (at: number) => unknown) => Array.from({ length: count }, (_, at) => make(at))
  const record = (name: string, inside: unknown[]) => ({ type: 'record', name, fields: inside })
  test.each<[title: string, schema: unknown]>([
    ['many fields', { ...head, fields: many(1_300, (at) => ({ name: `f${at}`, type: 'int' })) }],
    ['long names', { ...head, fields: many(180, (at) => ({ name: `f${at}`.padEnd(220, 'x'), type: 'int' })) }],
    ['arrays in each other', many(1_500, () => 0).reduce<unknown>((items) => ({ type: 'array', items }), 'int')],
    [
      'branches of one name',
      {
        ...head,
        fields: [{ name: 'lines', type: { type: 'array', items: many(500, (at) => record(`n${at}.OrderLine`, [])) } }],
      },
    ],
    [
      'a default of many parts',
      {
        ...head,
        fields: [
          {
            name: 'lines',
            type: {
              type: 'array',
              items: record(
                'L',
                many(400, (at) => ({ name: `f${at}`, type: 'int', default: 0 })),
              ),
            },
            default: many(8_000, () => ({})),
          },
        ],
      },
    ],
    [
      'a chain of references',
      record('R', [
        { name: 'all', type: many(400, (at) => record(`T${at}`, [{ name: 'x', type: at ? `T${at - 1}` : 'int' }])) },
        { name: 'lines', type: 'T399' },
      ]),
    ],
  ])('%s in the longest body are answered, shortly', async (_, schema) => {
    await open()
    const payload = JSON.stringify({ schema: JSON.stringify(schema) })
    expect(payload.length).toBeLessThan(64 * 1024)
    for (const path of [`/compatibility/subjects/${subject}/versions?verbose=true`, `/subjects/${subject}/versions`]) {
      const { status, body } = await ask('POST', path, payload)
      expect([200, 422]).toContain(status)
      expect(JSON.stringify(body).length).toBeLessThan(25_000)
    }
  })
})

const another = JSON.stringify({
  schema: JSON.stringify({ type: 'record', name: 'X', fields: [{ name: 'a', type: 'int' }] }),
})
test.each<[...Parameters<typeof ask>, code: number]>([
  ['GET', '/subjects/nobody/versions', undefined, 40401],
  ['GET', '/subjects/nobody/versions/1', undefined, 40401],
  ['GET', `/subjects/${subject}/versions/99`, undefined, 40402],
  ['GET', `/subjects/${subject}/versions/0`, undefined, 42202],
  ['GET', `/subjects/${subject}/versions/first`, undefined, 42202],
  ['GET', `/subjects/${subject}/versions/2147483648`, undefined, 42202],
  ['GET', '/schemas/ids/1', undefined, 40403],
  ['GET', '/schemas/ids/0100001', undefined, 40403],
  ['GET', `/config/${subject}`, undefined, 40408],
  ['GET', `/mode/${subject}`, undefined, 40409],
  ['GET', '/associations/resources/-/shop.order.v1', undefined, 404],
  ['PUT', '/subjects', undefined, 405],
  ['GET', `/compatibility/subjects/${subject}/versions`, undefined, 405],
  ['POST', '/subjects/nobody', another, 40401],
  ['POST', `/subjects/${subject}`, another, 40403],
  ['POST', `/subjects/${subject}`, '{"schema": "{}"}', 42201],
  ['POST', `/subjects/${subject}`, '{', 42201],
  ['POST', `/subjects/${subject}`, '', 42201],
  ['POST', `/subjects/${subject}`, JSON.stringify({ schema: 'x'.repeat(70_000) }), 413],
  ['POST', `/subjects/${subject}/versions`, another, 42205],
  ['POST', '/subjects/nobody/versions', another, 42205],
  ['PUT', '/config', '{"compatibility": "NONE"}', 42205],
  ['PUT', `/mode/${subject}`, '{"mode": "IMPORT"}', 42205],
  ['DELETE', `/subjects/${subject}`, undefined, 42205],
  ['DELETE', `/subjects/${subject}/versions/1`, undefined, 42205],
])('%s %s with %j is refused as Confluent does', async (method, path, payload, code) => {
  await open()
  expect(await ask(method, path, payload)).toEqual({
    status: Number(String(code).slice(0, 3)),
    body: { error_code: code, message: expect.any(String) },
  })
})

describe('who may read', () => {
  const get = async (authorization?: string) =>
    (http as FastifyInstance).inject({
      url: '/schema-registry/subjects',
      headers: { ...(authorization && { authorization }) },
    })
  const basic = (credentials: string) => `Basic ${Buffer.from(credentials).toString('base64')}`

  test('nobody, unless it is set', async () => {
    await open({})
    const response = await get()
    expect([response.statusCode, response.json().code]).toEqual([404, 'route-not-found'])
  })

  test('those with the password', async () => {
    await open({ SCHEMA_REGISTRY_ACCESS: 'password', SCHEMA_REGISTRY_PASSWORD: 'a long password' })
    expect((await get(basic('reader:a long password'))).statusCode).toBe(200)
    for (const wrong of [
      undefined,
      'Basic',
      'Bearer x',
      basic('reader:'),
      basic('other:a long password'),
      basic('reader:a long password2'),
    ]) {
      const response = await get(wrong)
      expect([response.statusCode, response.json().error_code]).toEqual([401, 40101])
      expect(response.headers['www-authenticate']).toContain('Basic')
    }
  })

  test('who guesses is refused for a while, also with the right password, and nobody else is', async () => {
    await open({
      SCHEMA_REGISTRY_ACCESS: 'password',
      SCHEMA_REGISTRY_PASSWORD: 'a long password',
      TRUSTED_PROXIES: '127.0.0.1',
    })
    const from = async (address: string, credentials?: string) => {
      const headers = {
        'x-forwarded-for': address,
        ...(credentials !== undefined && { authorization: basic(credentials) }),
      }
      return (http as FastifyInstance).inject({ url: '/schema-registry/subjects', headers })
    }
    const guesses = await Promise.all(Array.from({ length: 30 }, (_, n) => from(`2001:db8::${n}`, `reader:guess ${n}`)))
    expect(guesses.map(({ statusCode }) => statusCode).toSorted()).toEqual([
      ...Array(20).fill(401),
      ...Array(10).fill(429),
    ])
    const right = await from('2001:db8::1', 'reader:a long password')
    expect([right.statusCode, right.json().error_code]).toEqual([429, 42901])
    expect(Number(right.headers['retry-after'])).toBeGreaterThan(0)
    expect(Number(right.headers['retry-after'])).toBeLessThanOrEqual(30)
    expect((await from('2001:db8:0:1::1', 'reader:a long password')).statusCode).toBe(200)
    // Clients that ask without a password first have guessed nothing.
    const asked = await Promise.all(Array.from({ length: 30 }, () => from('192.0.2.1')))
    expect(asked.every(({ statusCode }) => statusCode === 401)).toBe(true)
    expect((await from('192.0.2.1', 'reader:a long password')).statusCode).toBe(200)
  })

  test('a password that is not set is an error of the settings', () => {
    const config = readConfig(configSchema, { ...environment, SCHEMA_REGISTRY_ACCESS: 'password' })
    expect(() => checkConfig(config)).toThrow('SCHEMA_REGISTRY_PASSWORD is missing')
  })
})

test('of several versions the last is the latest, and each is found by its own schema', () => {
  const schemaOf = (...names: string[]) => ({
    type: 'record',
    name: 'a.B',
    fields: names.map((name) => ({ name, type: 'int' })),
  })
  const rows = [schemaOf('x'), schemaOf('x', 'y')].map((schema, at) => ({
    id: 7 + at,
    subject: 'a.B',
    version: 1 + at,
    fingerprint: '',
    schema,
  }))
  const answers = answersFrom(rows)
  expect(answers.versions('a.B')).toEqual([1, 2])
  expect([answers.version('a.B', 'latest').id, answers.version('a.B', '1').id]).toEqual([8, 7])
  expect(rows.map(({ schema }) => answers.lookup('a.B', JSON.stringify(schema)).version)).toEqual([1, 2])
})
