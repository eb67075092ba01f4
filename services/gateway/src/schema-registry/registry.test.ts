import { afterEach, describe, expect, test } from '@jest/globals'
import { readConfig } from '@shopstream/config'
import { registry } from '@shopstream/events/registry'
import { createLogger } from '@shopstream/observability'
import type { FastifyInstance } from 'fastify'
import { buildGateway } from '../app.ts'
import { checkConfig, configSchema } from '../config.ts'
import { answersFrom } from './answers.ts'

const services = ['USER', 'ORDER', 'INVENTORY', 'NOTIFICATION']
const environment = {
  PORT: '0',
  ...Object.fromEntries(services.map((name) => [`${name}_URL`, 'http://127.0.0.1:1'])),
}
const subject = 'shopstream.order.OrderPlaced'
const row = registry.findLast((one) => one.subject === subject) as (typeof registry)[number]
const text = JSON.stringify(row.schema)

let http: FastifyInstance | undefined
afterEach(() => http?.close())

async function open(env: Record<string, string> = { SCHEMA_REGISTRY_ACCESS: 'anonymous' }) {
  const config = readConfig(configSchema, { ...environment, ...env })
  http = (await buildGateway(config, createLogger({ service: 'test', level: 'silent', format: 'json' }))).http
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
