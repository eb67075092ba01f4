import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { createDatabase, type Database, migrate, readMigrations, sql } from '@shopstream/database'
import { Registry } from '@shopstream/observability'
import { eventually, type TestDatabase, testDatabase, testLogger } from '@shopstream/testing'
import type { FastifyInstance } from 'fastify'
import { type CryptoKey, generateKeyPair, SignJWT } from 'jose'
import { Type } from 'typebox'
import { createHttp, errorsOf, reply, route } from './edge.ts'
import { effectGroup } from './effect-group.ts'
import { clean } from './idempotency.ts'

interface Tables {
  thing: { name: string }
}

const errors = errorsOf({ 'no-such-product': { status: 422, detail: 'There is no such product.' } })
const upTo = (count: number) => Array.from({ length: count }, (_, n) => n)
const logger = testLogger()
const [alice, bob] = ['0190c0de-0000-7000-8000-00000000000a', '0190c0de-0000-7000-8000-00000000000b'] as const

let own: TestDatabase
let database: Database<Tables>
let http: FastifyInstance
/** Another instance. */
let second: FastifyInstance
let privateKey: CryptoKey
/** What the handler waits for before it commits. */
let gate: Promise<void> = Promise.resolve()
let arrived = Promise.withResolvers<void>()
let overload: string | undefined

const things = route({
  method: 'POST',
  url: '/v1/things',
  summary: 'Makes a thing',
  access: 'user',
  sheds: true,
  schema: {
    body: Type.Object({ name: Type.String(), note: Type.Optional(Type.String()) }),
    response: { 201: Type.Object({ name: Type.String(), at: Type.String() }) },
  },
  handle: async ({ body, effect, amend, waitSeconds }) => {
    const answer = await effect(async (tx) => {
      await sql`insert into thing values (${body.name})`.execute(tx)
      if (body.name === 'unknown') throw errors['no-such-product']()
      arrived.resolve()
      await gate
      return reply.created({ name: body.name, at: new Date().toISOString() }, `/v1/things/${body.name}`)
    })
    if (waitSeconds) await amend({ ...answer, body: { name: 'amended', at: '' } } as typeof answer)
    return answer
  },
})

/** How many things each transaction has made. */
const groups: number[] = []
/** How many requests have joined a group, or wait for the next one. */
let joined = 0

/** As {@link things}, with others that come at the same time. */
function groupedThings() {
  const group = effectGroup<{ name: string }>(database, async (tx, all) => {
    groups.push(all.length)
    if (all.some(({ name }) => name === 'broken')) throw new Error('broken')
    if (all.some(({ name }) => name === 'held')) await gate
    const names = all.map(({ name }) => name).filter((name) => name !== 'unknown')
    await sql`insert into thing select unnest(${names}::text[])`.execute(tx)
    return all.map(({ name }) =>
      name === 'unknown' ? errors['no-such-product']() : reply.created({ name, at: new Date().toISOString() }),
    )
  })
  return route({
    method: 'POST',
    url: '/v1/grouped-things',
    summary: 'Makes a thing',
    access: 'user',
    schema: things.schema,
    handle: ({ body, effectIn }) => {
      const answer = effectIn(group, body as { name: string })
      joined += 1
      return answer
    },
  })
}

beforeAll(async () => {
  own = await testDatabase('http-idempotency')
  database = createDatabase({ url: own.url, poolSize: 10, applicationName: 'test', logger })
  await migrate(database, readMigrations('http', import.meta.url))
  await sql`create table thing (name text)`.execute(database.query)
  const pair = await generateKeyPair('EdDSA')
  privateKey = pair.privateKey
  const keys = { find: async () => pair.publicKey, check: { name: 'signing keys', check: () => undefined } }
  const instance = () =>
    createHttp({
      service: 'test',
      title: 'Test',
      routes: [things, groupedThings()],
      database,
      keys,
      checks: [],
      overloaded: () => overload,
      logger,
      metrics: new Registry(),
    })
  http = await instance()
  second = await instance()
})

afterAll(async () => {
  await http?.close()
  await second?.close()
  await database?.close()
  await own?.drop()
})

beforeEach(async () => {
  gate = Promise.resolve()
  arrived = Promise.withResolvers<void>()
  overload = undefined
  await sql`truncate thing, idempotency_key`.execute(database.query)
})

async function post(
  body: object,
  key: string | undefined,
  { userId = alice as string, prefer = '', at = http, url = '/v1/things' } = {},
) {
  const token = await new SignJWT({ iss: 'shopstream', aud: 'shopstream', sub: userId, roles: [], sid: 's1' })
    .setProtectedHeader({ alg: 'EdDSA', kid: 'k1' })
    .setIssuedAt()
    .setExpirationTime('15 min')
    .sign(privateKey)
  const headers = { authorization: `Bearer ${token}`, prefer, ...(key !== undefined && { 'idempotency-key': key }) }
  return at.inject({ method: 'POST', url, body, headers })
}

async function made(): Promise<string[]> {
  const rows = await database.query.selectFrom('thing').select('name').orderBy('name').execute()
  return rows.map(({ name }) => name)
}

test('the same key and body get the first answer again, and there is one effect', async () => {
  const first = await post({ name: 'a', note: 'b' }, 'key-1')
  expect([first.statusCode, first.headers['idempotency-replayed']]).toEqual([201, undefined])
  const again = await post({ note: 'b', name: 'a' }, 'key-1')
  expect([again.statusCode, again.headers['idempotency-replayed'], again.body]).toEqual([201, 'true', first.body])
  expect(again.headers.location).toBe('/v1/things/a')
  expect(again.headers['x-request-id']).not.toBe(first.headers['x-request-id'])
  expect(await made()).toEqual(['a'])
})

test('without a key, or with another key or user, there is an effect each time', async () => {
  for (const key of [undefined, undefined, 'key-1', 'key-2']) await post({ name: 'a' }, key)
  await post({ name: 'a' }, 'key-1', { userId: bob })
  expect(await made()).toHaveLength(5)
})

test('the same key with another body is 422', async () => {
  await post({ name: 'a' }, 'key-1')
  const other = await post({ name: 'b' }, 'key-1')
  expect(other.json()).toMatchObject({ status: 422, code: 'idempotency-key-reused' })
  expect(await made()).toEqual(['a'])
})

test('20 requests at once with one key have one effect and one answer', async () => {
  const answers = await Promise.all(Array.from({ length: 20 }, () => post({ name: 'a' }, 'key-1')))
  expect(new Set(answers.map(({ statusCode }) => statusCode))).toEqual(new Set([201]))
  expect(new Set(answers.map(({ body }) => body)).size).toBe(1)
  expect(answers.filter(({ headers }) => headers['idempotency-replayed'] === undefined)).toHaveLength(1)
  expect(await made()).toEqual(['a'])
})

describe('requests that come at the same time', () => {
  const url = '/v1/grouped-things'

  test('20 with one key, in one group and in two instances, have one effect and one answer, beside others', async () => {
    const release = Promise.withResolvers<void>()
    gate = release.promise
    groups.length = 0
    joined = 0
    const first = post({ name: 'held' }, undefined, { url })
    await eventually('the first', () => groups.length === 1)
    const all = Promise.all([
      Promise.all(upTo(20).map((n) => post({ name: 'a' }, 'key-1', { url, at: n % 2 === 0 ? http : second }))),
      Promise.all(upTo(5).map((n) => post({ name: 'b' }, `key-${n + 2}`, { url }))),
    ])
    await eventually('the others', () => joined === 26)
    release.resolve()
    const [answers, others] = await all
    expect((await first).statusCode).toBe(201)
    expect(new Set(answers.map(({ statusCode }) => statusCode))).toEqual(new Set([201]))
    expect(new Set(answers.map(({ body }) => body)).size).toBe(1)
    expect(answers.filter(({ headers }) => headers['idempotency-replayed'] === undefined)).toHaveLength(1)
    expect(new Set(others.map(({ statusCode }) => statusCode))).toEqual(new Set([201]))
    expect(await made()).toEqual(['a', ...upTo(5).map(() => 'b'), 'held'])
    expect(Math.max(...groups)).toBeGreaterThan(1)
  })

  test('one that is refused fails no other, and has left nothing, its key neither', async () => {
    const names = ['a', 'unknown', 'b', 'unknown', 'c']
    const answers = await Promise.all(names.map((name, n) => post({ name }, `key-${n}`, { url })))
    expect(answers.map(({ statusCode }) => statusCode)).toEqual([201, 422, 201, 422, 201])
    expect((await post({ name: 'd' }, 'key-1', { url })).statusCode).toBe(201)
    expect((await post({ name: 'a' }, 'key-0', { url })).body).toBe(answers[0]?.body)
    expect(await made()).toEqual(['a', 'b', 'c', 'd'])
  })

  test('one that all fail with together fails alone', async () => {
    const names = ['a', 'broken', 'b']
    const answers = await Promise.all(names.map((name, n) => post({ name }, `key-${n}`, { url })))
    expect(answers.map(({ statusCode }) => statusCode)).toEqual([201, 500, 201])
    expect(await made()).toEqual(['a', 'b'])
  })

  test('one whose key is held makes no other wait for it', async () => {
    const release = Promise.withResolvers<void>()
    gate = release.promise
    const holder = post({ name: 'a' }, 'key-1')
    await arrived.promise
    const waiting = post({ name: 'a' }, 'key-1', { url })
    const others = await Promise.all(upTo(5).map((n) => post({ name: 'b' }, `other-${n}`, { url })))
    expect(new Set(others.map(({ statusCode }) => statusCode))).toEqual(new Set([201]))
    release.resolve()
    expect((await holder).statusCode).toBe(201)
    expect((await waiting).json()).toMatchObject({ code: 'idempotency-key-reused' }) // another path makes another request
  })
})

test('while new work is refused, a repeated request gets its answer, and others 503 with the reason', async () => {
  const first = await post({ name: 'a' }, 'key-1')
  overload = 'Nothing new is taken now.'
  const again = await post({ name: 'a' }, 'key-1')
  expect([again.statusCode, again.headers['idempotency-replayed'], again.body]).toEqual([201, 'true', first.body])
  expect((await post({ name: 'b' }, 'key-1')).json()).toMatchObject({ code: 'idempotency-key-reused' })
  for (const key of ['key-2', undefined]) {
    const refused = await post({ name: 'c' }, key)
    expect(refused.json()).toMatchObject({ status: 503, code: 'overloaded', detail: overload })
    expect(refused.headers['retry-after']).toBe('30')
  }
  expect(await made()).toEqual(['a'])
  overload = undefined
  expect((await post({ name: 'c' }, 'key-2')).statusCode).toBe(201)
})

test('a request that waits too long for the first one is 409, and the first one goes on', async () => {
  const release = Promise.withResolvers<void>()
  gate = release.promise
  const first = post({ name: 'a' }, 'key-1')
  await arrived.promise
  const second = await database
    .transaction(async (tx) => {
      await sql`set local lock_timeout = '200ms'`.execute(tx)
      const { answerOnce, hashRequest } = await import('./idempotency.ts')
      const request = { userId: alice, key: 'key-1', hash: hashRequest('POST', '/v1/things', { name: 'a' }) }
      return answerOnce(tx, request, async () => ({ status: 201 }))
    })
    .catch((error: unknown) => error)
  expect(second).toMatchObject({ code: 'request-in-progress', status: 409 })
  release.resolve()
  expect((await first).statusCode).toBe(201)
})

test('an error is not kept and leaves nothing half done', async () => {
  for (let i = 0; i < 2; i++) {
    const refused = await post({ name: 'unknown' }, 'key-1')
    expect([refused.json().code, refused.headers['idempotency-replayed']]).toEqual(['no-such-product', undefined])
  }
  expect((await post({ name: 'a' }, 'key-1')).statusCode).toBe(201)
  expect(await made()).toEqual(['a'])
})

test('an amended answer is what a repetition gets; a repetition amends nothing', async () => {
  const first = await post({ name: 'a' }, 'key-1', { prefer: 'wait=1' })
  expect(first.json().name).toBe('a')
  expect((await post({ name: 'a' }, 'key-1', { prefer: 'wait=1' })).json()).toEqual({ name: 'amended', at: '' })
})

test.each([
  ['empty', ''],
  ['a blank', 'a b'],
  ['not ASCII', 'ä'],
  ['too long', 'k'.repeat(256)],
])('a bad key is 400: %s', async (_, key) => {
  const response = await post({ name: 'a' }, key)
  expect(response.json()).toMatchObject({ code: 'invalid-request', errors: [{ field: 'idempotency-key' }] })
  expect(await made()).toEqual([])
})

test('a key of 255 characters is taken', async () => {
  expect((await post({ name: 'a' }, '~'.repeat(255))).statusCode).toBe(201)
})

test('after 24 hours a key is as good as new, and is deleted', async () => {
  const age = () => sql`update idempotency_key set created_at = now() - interval '25 hours'`.execute(database.query)
  await post({ name: 'a' }, 'key-1')
  await age()
  const again = await post({ name: 'b' }, 'key-1')
  expect([again.statusCode, again.headers['idempotency-replayed']]).toEqual([201, undefined])
  await post({ name: 'c' }, 'key-2')
  await sql`insert into idempotency_key (user_id, key, request_hash, created_at)
    select ${bob}, n::text, '', now() - interval '25 hours' from generate_series(1, 1200) n`.execute(database.query)
  await clean(database)
  const { rows } = await sql<{ key: string }>`select key from idempotency_key order by key`.execute(database.query)
  expect(rows).toEqual([{ key: 'key-1' }, { key: 'key-2' }])
})

test('/readyz checks the database; without it a request is 503 with Retry-After', async () => {
  expect((await http.inject('/readyz')).json()).toMatchObject({
    status: 'ok',
    checks: expect.arrayContaining([{ name: 'database', status: 'ok' }]),
  })
  const closing = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
  await once(closing, 'listening')
  const { port } = closing.address() as AddressInfo
  const away = createDatabase({
    url: `postgres://a:b@127.0.0.1:${port}/none`,
    poolSize: 1,
    applicationName: 'test',
    logger,
  })
  const keys = { find: async () => undefined, check: { name: 'signing keys', check: () => undefined } }
  const open = route({
    ...things,
    access: 'anyone',
    schema: { response: { 201: Type.Object({}) } },
    handle: ({ effect }) => effect(async () => reply.created({})),
  })
  const metrics = new Registry()
  const other = await createHttp({
    service: 'test',
    title: 'Test',
    routes: [open],
    database: away,
    keys,
    checks: [],
    logger,
    metrics,
  })
  const response = await other.inject({ method: 'POST', url: '/v1/things' })
  expect(response.json()).toMatchObject({ status: 503, code: 'database-unavailable' })
  expect(response.headers['retry-after']).toBe('2')
  expect((await other.inject('/readyz')).json()).toMatchObject({
    status: 'unavailable',
    checks: expect.arrayContaining([
      expect.objectContaining({ name: 'database', status: 'failed', reason: expect.stringContaining('terminated') }),
    ]),
  })
  await other.close()
  await away.close()
  closing.close()
})
