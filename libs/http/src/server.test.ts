import { once } from 'node:events'
import { METHODS } from 'node:http'
import { connect } from 'node:net'
import { Writable } from 'node:stream'
import { afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import type { ReadinessCheck } from '@shopstream/messaging'
import { childOf, createLogger, currentTrace, Registry, recordSpans } from '@shopstream/observability'
import { allButTheClock } from '@shopstream/testing'
import type { FastifyInstance } from 'fastify'
import { type CryptoKey, exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose'
import { Type } from 'typebox'
import { createHttp, errorsOf, type HttpOptions, type KeyStore, page, type Route, reply, route } from './edge.ts'
import { waitingAtOnce } from './request.ts'
import { requestsAtOnce } from './server.ts'

const errors = errorsOf({ 'sold-out': { status: 409, detail: 'Nothing is left.' } })
const userId = '0190c0de-0000-7000-8000-000000000001'

let privateKey: CryptoKey
let foreignKey: CryptoKey
let keys: KeyStore
const lines: string[] = []

beforeAll(async () => {
  const pair = await generateKeyPair('EdDSA')
  privateKey = pair.privateKey
  foreignKey = (await generateKeyPair('EdDSA')).privateKey
  keys = {
    find: async (keyId) => (keyId === 'k1' ? pair.publicKey : undefined),
    check: { name: 'signing keys', check: () => undefined },
  }
})

let app: FastifyInstance | undefined
afterEach(async () => {
  await app?.close()
  app = undefined
  lines.length = 0
})

async function start(routes: Route[], options: Partial<HttpOptions> = {}): Promise<FastifyInstance> {
  const destination = new Writable({
    write: (line, _, done) => {
      lines.push(String(line))
      done()
    },
  })
  app = await createHttp({
    service: 'test',
    title: 'Test',
    routes,
    keys,
    checks: [],
    logger: createLogger({ service: 'test', level: 'info', format: 'json' }, destination),
    metrics: new Registry(),
    ...options,
  })
  return app
}

const item = Type.Object({
  sku: Type.String({ minLength: 1 }),
  quantity: Type.Integer({ minimum: 1, maximum: 10_000 }),
})
const orders = [
  route({
    method: 'POST',
    url: '/v1/things',
    summary: 'Makes a thing',
    access: 'anyone',
    schema: {
      body: Type.Object({
        name: Type.Optional(Type.String({ format: 'line', maxLength: 20 })),
        items: Type.Array(item, { minItems: 1, maxItems: 3 }),
        address: Type.Optional(Type.Union([Type.Object({ city: Type.String({ minLength: 1 }) }), Type.Null()])),
        kind: Type.Optional(Type.Union([Type.Literal('small'), Type.Literal('large')])),
      }),
      response: { 201: Type.Object({ count: Type.Integer() }) },
    },
    handle: async ({ body }) =>
      reply.created({ count: body.items.length, secret: 'not in the schema' }, '/v1/things/1'),
  }),
  route({
    method: 'GET',
    url: '/v1/things/:id',
    summary: 'Shows a thing',
    access: 'anyone',
    schema: {
      params: Type.Object({ id: Type.String({ format: 'uuid' }) }),
      query: Type.Object({ ...page.query }),
      response: { 200: Type.Object({ limit: Type.Integer(), cursor: Type.Array(Type.String()) }) },
    },
    handle: async ({ query }) =>
      reply.ok({ limit: query.limit, cursor: [...(page.decodeCursor(query.cursor, ['uuid', 'time']) ?? [])] }),
  }),
  route({
    method: 'DELETE',
    url: '/v1/things/:id',
    summary: 'Deletes a thing',
    access: 'staff',
    schema: { params: Type.Object({ id: Type.String({ format: 'uuid' }) }), response: { 204: Type.Null() } },
    handle: async () => reply.noContent(),
  }),
]

const failing = (error: () => unknown) =>
  route({
    method: 'GET',
    url: '/v1/failing',
    summary: 'Fails',
    access: 'anyone',
    schema: { response: { 200: Type.Object({}) } },
    handle: async () => {
      throw error()
    },
  })

const whoAmI = route({
  method: 'GET',
  url: '/v1/me',
  summary: 'Who am I',
  access: 'user',
  schema: { response: { 200: Type.Object({ id: Type.String(), isStaff: Type.Boolean() }) } },
  handle: async ({ user, isStaff }) => reply.ok({ id: user.id, isStaff }),
})

const token = (claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}, key = privateKey) =>
  new SignJWT({ iss: 'shopstream', aud: 'shopstream', sub: userId, roles: [], sid: 's1', ...claims })
    .setProtectedHeader({ alg: 'EdDSA', kid: 'k1', ...header })
    .setIssuedAt()
    .setExpirationTime(typeof claims.exp === 'number' ? claims.exp : '15 min')
    .sign(key)

const now = () => Math.floor(Date.now() / 1000)
const json = { 'content-type': 'application/json' }

test('a valid request is answered by its schema, with location and request id', async () => {
  const { statusCode, headers, body } = await (await start(orders)).inject({
    method: 'POST',
    url: '/v1/things',
    body: { items: [{ sku: 'a', quantity: 1 }] },
  })
  expect([statusCode, body]).toEqual([201, '{"count":1}'])
  expect(headers).toMatchObject({ location: '/v1/things/1', 'x-request-id': expect.any(String) })
})

test.each([
  ['an unknown field', { items: [{ sku: 'a', quantity: 1 }], extra: 1 }, ['extra: is not a known field']],
  ['an unknown field inside', { items: [{ sku: 'a', quantity: 1, x: 1 }] }, ['items[0].x: is not a known field']],
  ['a missing field', {}, ['items: is required']],
  ['no items', { items: [] }, ['items: must have at least 1 entries']],
  ['too many items', { items: Array(4).fill({ sku: 'a', quantity: 1 }) }, ['items: must have at most 3 entries']],
  [
    'several fields',
    { items: [{ sku: '', quantity: 0 }, { quantity: '1' }] },
    [
      'items[0].sku: must not be empty',
      'items[0].quantity: must be at least 1',
      'items[1].sku: is required',
      'items[1].quantity: must be of the type integer',
    ],
  ],
  ['1.5', { items: [{ sku: 'a', quantity: 1.5 }] }, ['items[0].quantity: must be of the type integer']],
  ['10^9', { items: [{ sku: 'a', quantity: 1e9 }] }, ['items[0].quantity: must be at most 10000']],
  ['a line break', { items: [{ sku: 'a', quantity: 1 }], name: 'a\nb' }, [/^name: must be one line of text/]],
  ['only blanks', { items: [{ sku: 'a', quantity: 1 }], name: ' ' }, [/^name: must be one line of text/]],
  ...[
    '\u3164',
    '\u2800',
    '\u{13441} \u{13442}',
    '\ufffc',
    '\u200b',
    ' \u115f\u00ad\ufe0f ',
    '\u0301',
    'a\u202eb',
    'a\u202a',
    'a\u2066b\u2069',
    'a\tb',
    'a\u2028b',
    'a\u0085b',
    'a\u001b[2J',
  ].map((name): [string, object, RegExp[]] => [
    `what cannot be seen or turns text around, ${JSON.stringify(name)}`,
    { items: [{ sku: 'a', quantity: 1 }], name },
    [/^name: must be one line of text/],
  ]),
  ['a NUL', { items: [{ sku: 'a\0', quantity: 1 }] }, [/^items\[0\].sku: must be text without NUL/]],
  ['half a surrogate pair', { items: [{ sku: '\ud800', quantity: 1 }] }, [/^items\[0\].sku: must be text/]],
  ['no literal', { items: [{ sku: 'a', quantity: 1 }], kind: 'x' }, ['kind: must be one of small, large']],
  ['a branch', { items: [{ sku: 'a', quantity: 1 }], address: { city: '' } }, ['address.city: must not be empty']],
  ['a branch, lacking', { items: [{ sku: 'a', quantity: 1 }], address: {} }, ['address.city: is required']],
  ['no branch', { items: [{ sku: 'a', quantity: 1 }], address: 1 }, ['address: must be one of object, null']],
  ['300,000 errors', { items: Array(300_000).fill({}) }, ['items: must have at most 3 entries']],
  ['an array', [], ['body: must be of the type object']],
  ['null', null, ['body: must be of the type object']],
])('400 invalid-request with an entry per field: %s', async (_, body, expected) => {
  const response = await (await start(orders)).inject({
    method: 'POST',
    url: '/v1/things',
    headers: json,
    body: JSON.stringify(body),
  })
  expect(response.statusCode).toBe(400)
  expect(response.headers['content-type']).toMatch(/^application\/problem\+json/)
  const problem = response.json()
  expect(problem).toMatchObject({
    type: 'about:blank',
    title: 'Bad Request',
    status: 400,
    code: 'invalid-request',
    instance: '/v1/things',
    requestId: response.headers['x-request-id'],
  })
  const found = problem.errors.map(({ field, message }: { field: string; message: string }) => `${field}: ${message}`)
  expect(found).toEqual(expected.map((text) => (text instanceof RegExp ? expect.stringMatching(text) : text)))
})

test.each(['Zoë 👩‍🚀', 'محمد', 'דן\u200f 2', 'ক্‍ষ', '👍', '2', '\u00a0a'])('%j is a line of text', async (name) => {
  const body = { items: [{ sku: 'a', quantity: 1 }], name }
  const { statusCode } = await (await start(orders)).inject({ method: 'POST', url: '/v1/things', body })
  expect(statusCode).toBe(201)
})

test.each<[string, string, boolean]>([
  ['lines', 'one\n\ttwo\r\n', true],
  ['lines', '\u3164\n', false],
  ['lines', 'one\n\u202etwo', false],
  ['lines', 'one\u0007', false],
  ['printable', '', true],
  ['printable', ' \n', true],
  ['printable', 'one\u2067', false],
])('%s: %j, %s', async (format, text, isTaken) => {
  const saying = route({
    method: 'POST',
    url: '/v1/said',
    summary: 'Says',
    access: 'anyone',
    schema: { body: Type.Object({ text: Type.String({ format }) }), response: { 204: Type.Null() } },
    handle: async () => reply.noContent(),
  })
  const { statusCode } = await (await start([saying])).inject({ method: 'POST', url: '/v1/said', body: { text } })
  expect(statusCode).toBe(isTaken ? 204 : 400)
})

test.each([
  [{}, '127.0.0.1'],
  [{ 'x-real-ip': '192.0.2.1' }, '192.0.2.1'],
  [{ 'x-real-ip': '2001:db8::1' }, '2001:db8::1'],
  [{ 'x-real-ip': 'nonsense' }, '127.0.0.1'],
  [{ 'x-forwarded-for': '192.0.2.1' }, '127.0.0.1'],
])('with %j the client is %s', async (headers, clientAddress) => {
  const telling = route({
    method: 'GET',
    url: '/v1/client',
    summary: 'Where are you',
    access: 'anyone',
    schema: { response: { 200: Type.Object({ clientAddress: Type.String() }) } },
    handle: async (request) => reply.ok({ clientAddress: request.clientAddress }),
  })
  const response = await (await start([telling])).inject({ url: '/v1/client', headers })
  expect(response.json()).toEqual({ clientAddress })
})

test('a refusal says when to try again', async () => {
  const table = errorsOf({ 'too-often': { status: 429, detail: 'Too often.' } })
  const http = await start([failing(() => table['too-often']().retryIn(17))])
  const { statusCode, headers } = await http.inject('/v1/failing')
  expect([statusCode, headers['retry-after']]).toEqual([429, '17'])
})

test.each([
  ['malformed JSON', { body: '{"items":', headers: json }, 400, 'malformed-json'],
  ['JSON that is not UTF-8', { body: Buffer.from([0x22, 0xff, 0x22]), headers: json }, 400, 'malformed-json'],
  ['an empty body', { body: '', headers: json }, 400, 'malformed-json'],
  ['a forbidden name', { body: '{"__proto__":{}}', headers: json }, 400, 'malformed-json'],
  ['nesting', { body: `{"items":${'['.repeat(5e5)}${']'.repeat(5e5)}}`, headers: json }, 400, 'invalid-request'],
  ['no body', {}, 400, 'invalid-request'],
  [
    'a form',
    { body: 'a=1', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
    415,
    'unsupported-media-type',
  ],
  ['a text', { body: 'a', headers: { 'content-type': 'text/plain' } }, 415, 'unsupported-media-type'],
  ['2 MB', { body: `"${'x'.repeat(2e6)}"`, headers: json }, 413, 'body-too-large'],
])('a bad body is a problem: %s', async (_, request, status, code) => {
  const response = await (await start(orders)).inject({ method: 'POST', url: '/v1/things', ...request })
  expect(response.json()).toMatchObject({ status, code })
  expect(response.statusCode).toBe(status)
})

test.each([
  ['GET', '/v1/nothing', 404, 'route-not-found'],
  ['PATCH', '/v1/things', 405, 'method-not-allowed'],
  ['GET', '/v1/things/abc', 400, 'invalid-request'],
  ['GET', `/v1/things/urn:uuid:${userId}`, 400, 'invalid-request'],
  ['GET', `/v1/things/${'a'.repeat(500)}`, 400, 'malformed-request'],
  ['GET', '/v1/things/%E0%A4%A', 400, 'malformed-request'],
  ['GET', `/v1/things/${userId}?limit=0`, 400, 'invalid-request'],
  ['GET', `/v1/things/${userId}?limit=101`, 400, 'invalid-request'],
  ['GET', `/v1/things/${userId}?limit=ten`, 400, 'invalid-request'],
  ['GET', `/v1/things/${userId}?limit=1&limit=2`, 400, 'invalid-request'],
  ['GET', `/v1/things/${userId}?order=up`, 400, 'invalid-request'],
  ['GET', `/v1/things/${userId}?cursor=%00`, 400, 'invalid-request'],
  ['GET', `/v1/things/${userId}?cursor=xyz`, 400, 'invalid-cursor'],
  ['GET', `/v1/things/${userId}?cursor=${page.encodeCursor([userId])}`, 400, 'invalid-cursor'],
  ['GET', `/v1/things/${userId}?cursor=${page.encodeCursor([userId, 'now'])}`, 400, 'invalid-cursor'],
  [
    'GET',
    `/v1/things/${userId}?cursor=${page.encodeCursor([userId, '2026-13-45T00:00:00.000Z'])}`,
    400,
    'invalid-cursor',
  ],
] as const)('%s %s is %d %s', async (method, url, status, code) => {
  const response = await (await start(orders)).inject({ method, url })
  expect(response.json()).toMatchObject({ status, code, requestId: response.headers['x-request-id'] })
  expect(response.statusCode).toBe(status)
  if (status === 405) expect(response.headers.allow).toBe('POST')
})

test('query values are converted, defaults filled in, cursors given back', async () => {
  const position = [userId, '2026-11-24T00:00:00.000Z']
  const http = await start(orders)
  const answer = await http.inject(`/v1/things/${userId}?limit=7&cursor=${page.encodeCursor(position)}`)
  expect(answer.json()).toEqual({ limit: 7, cursor: position })
  expect((await http.inject(`/v1/things/${userId}`)).json()).toEqual({ limit: 20, cursor: [] })
})

test('a page says where the next one begins, and the last one that there is none', () => {
  const rows = ['a', 'b', 'c']
  const first = page.of(
    rows,
    2,
    (row) => row,
    (row) => [row],
  )
  expect(first.items).toEqual(['a', 'b'])
  expect(page.decodeCursor(first.nextCursor ?? '', ['text'])).toEqual(['b'])
  expect(
    page.of(
      rows,
      3,
      (row) => row,
      (row) => [row],
    ),
  ).toEqual({ items: rows, nextCursor: null })
})

test("a service's own error keeps its code, status, detail and fields", async () => {
  const http = await start([
    failing(() => errors['sold-out']('No a is left.', [{ field: 'sku', message: 'is sold out' }])),
  ])
  const response = await http.inject('/v1/failing?token=x')
  expect(response.json()).toMatchObject({
    status: 409,
    code: 'sold-out',
    detail: 'No a is left.',
    instance: '/v1/failing',
    errors: [{ field: 'sku', message: 'is sold out' }],
  })
})

test('an unexpected error is 500 with the request id, nothing of the inside, and logged once', async () => {
  const http = await start([failing(() => new Error('inside: hunter2'))])
  const response = await http.inject({ url: '/v1/failing', headers: { 'x-request-id': 'my-request' } })
  expect(response.json()).toMatchObject({ status: 500, code: 'internal-error', requestId: 'my-request' })
  expect(response.body).not.toContain('inside')
  const logged = lines.map((line) => JSON.parse(line)).filter(({ err }) => err)
  expect(logged).toEqual([
    expect.objectContaining({
      level: 'error',
      requestId: 'my-request',
      err: expect.objectContaining({ message: 'inside: hunter2' }),
    }),
  ])
})

test.each([
  ['a valid one', 'abc-123.X:y_z', 'abc-123.X:y_z'],
  ['too long', 'a'.repeat(129), undefined],
  ['empty', '', undefined],
  ['other characters', 'a b', undefined],
])('X-Request-Id is taken over when valid: %s', async (_, id, expected) => {
  const { headers } = await (await start(orders)).inject({ url: '/livez', headers: { 'x-request-id': id } })
  if (expected) expect(headers['x-request-id']).toBe(expected)
  else expect(headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/)
})

test('the trace continues from traceparent, in the handler and in the log', async () => {
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  const http = await start([
    route({
      method: 'POST',
      url: '/v1/trace',
      summary: 'Trace',
      access: 'anyone',
      schema: { body: Type.Object({}), response: { 200: Type.Object({ traceId: Type.String() }) } },
      handle: async () => reply.ok({ traceId: currentTrace()?.traceId ?? 'none' }),
    }),
  ])
  const address = await http.listen({ port: 0 })
  const headers = { traceparent: `00-${traceId}-00f067aa0ba902b7-01`, ...json }
  const response = await fetch(`${address}/v1/trace`, { method: 'POST', headers, body: '{}' })
  expect(await response.json()).toEqual({ traceId })
  expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ msg: 'POST /v1/trace 200', traceId })
})

test('a problem names the trace of its request, which the log and the span have too', async () => {
  const told: string[] = []
  recordSpans((_, { parent }) => {
    const context = childOf(parent)
    return { context, set() {}, end: () => void told.push(context.traceId) }
  })
  const http = await start([
    route({ ...orders[0], url: '/v1/broken', handle: async () => Promise.reject(new Error('a bug')) } as Route),
  ])
  const answers = [
    await http.inject({ method: 'POST', url: '/v1/broken', body: { items: [{ sku: 'a', quantity: 1 }] } }),
    await http.inject({ method: 'POST', url: '/v1/broken', body: {} }),
    await http.inject({ url: '/v1/nowhere' }),
  ].map((response) => response.json())
  recordSpans(undefined)
  expect(answers.map(({ status }) => status)).toEqual([500, 400, 404])
  const logged = lines.map((line) => JSON.parse(line)).filter(({ msg }) => / \d{3}$/.test(msg))
  for (const traces of [told, logged.map(({ traceId }) => traceId)])
    expect(traces).toEqual(answers.map(({ traceId }) => traceId))
  expect(new Set(told).size).toBe(3)
})

test('a valid token names the user', async () => {
  const http = await start([whoAmI])
  const response = await http.inject({ url: '/v1/me', headers: { authorization: `Bearer ${await token()}` } })
  expect(response.json()).toEqual({ id: userId, isStaff: false })
  const staff = await http.inject({
    url: '/v1/me',
    headers: { authorization: `bearer ${await token({ roles: ['staff'] })}` },
  })
  expect(staff.json()).toEqual({ id: userId, isStaff: true })
})

test.each<[string, () => Promise<string> | string]>([
  ['none', () => ''],
  ['no bearer', () => 'Basic dXNlcjpwYXNz'],
  ['rubbish', () => 'Bearer abc.def.ghi'],
  ['expired', async () => `Bearer ${await token({ exp: now() - 10 })}`],
  ['signed by another key', async () => `Bearer ${await token({}, {}, foreignKey)}`],
  ['an unknown key id', async () => `Bearer ${await token({}, { kid: 'k2' })}`],
  ['no key id', async () => `Bearer ${await token({}, { kid: undefined })}`],
  ['another audience', async () => `Bearer ${await token({ aud: 'bank' })}`],
  ['another issuer', async () => `Bearer ${await token({ iss: 'bank' })}`],
  ['not valid yet', async () => `Bearer ${await token({ nbf: now() + 60 })}`],
  ['no roles', async () => `Bearer ${await token({ roles: undefined })}`],
  ['a user that is no UUID', async () => `Bearer ${await token({ sub: "x' or 1=1" })}`],
  [
    'alg none',
    () =>
      `Bearer ${new UnsecuredJWT({ sub: userId, roles: ['staff'], sid: 's' }).setIssuer('shopstream').setAudience('shopstream').setExpirationTime('1h').encode()}`,
  ],
  [
    'HS256 with the public key as the secret',
    async () => {
      const { x = '' } = await exportJWK((await keys.find('k1')) as CryptoKey)
      const secret = Buffer.from(x, 'base64url')
      return `Bearer ${await new SignJWT({ roles: [], sid: 's1', sub: userId, iss: 'shopstream', aud: 'shopstream' }).setProtectedHeader({ alg: 'HS256', kid: 'k1' }).setIssuedAt().setExpirationTime('1h').sign(secret)}`
    },
  ],
  [
    'changed after signing',
    async () => {
      const [head, , signature] = (await token()).split('.')
      const claims = {
        iss: 'shopstream',
        aud: 'shopstream',
        sub: userId,
        roles: ['staff'],
        sid: 's',
        iat: now(),
        exp: now() + 60,
      }
      return `Bearer ${head}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.${signature}`
    },
  ],
])('401 invalid-token: %s', async (_, header) => {
  const response = await (await start([whoAmI])).inject({ url: '/v1/me', headers: { authorization: await header() } })
  expect(response.json()).toMatchObject({ status: 401, code: 'invalid-token' })
  expect(response.headers['www-authenticate']).toBe('Bearer')
})

test('a token that was good is refused once it has expired, or its key is not used any more', async () => {
  const find = jest.spyOn(keys, 'find')
  const later = () => jest.useFakeTimers({ now: Date.now() + 16 * 60_000, doNotFake: [...allButTheClock] })
  const http = await start([whoAmI])
  const statusWith = async (authorization: string) =>
    (await http.inject({ url: '/v1/me', headers: { authorization } })).statusCode
  const good = `Bearer ${await token()}`
  for (let times = 0; times < 2; times++) expect(await statusWith(good)).toBe(200)
  find.mockResolvedValue(undefined)
  expect(await statusWith(good)).toBe(401)
  find.mockRestore()
  expect(await statusWith(good)).toBe(200)
  later()
  expect(await statusWith(good)).toBe(401)
  jest.useRealTimers()
})

test('403 staff-only for a user, after 401 and before the path is looked at', async () => {
  const http = await start(orders)
  const url = '/v1/things/abc'
  expect((await http.inject({ method: 'DELETE', url })).json()).toMatchObject({ code: 'invalid-token' })
  for (const roles of [[], ['customer'], ['staffing']]) {
    const user = { authorization: `Bearer ${await token({ roles })}` }
    expect((await http.inject({ method: 'DELETE', url, headers: user })).json()).toMatchObject({
      status: 403,
      code: 'staff-only',
    })
  }
  const staff = { authorization: `Bearer ${await token({ roles: ['staff'] })}` }
  const gone = await http.inject({ method: 'DELETE', url: `/v1/things/${userId}`, headers: staff })
  expect([gone.statusCode, gone.body]).toEqual([204, ''])
})

test('requests that failed are counted from 0, without those of probes', async () => {
  const fails = route({
    method: 'GET',
    url: '/v1/fails',
    summary: 'Fails',
    access: 'anyone',
    schema: { response: { 200: Type.Object({}) } },
    handle: async () => {
      throw new Error('no')
    },
  })
  const ready = { name: 'part', optional: false, check: () => Promise.reject(new Error('away')) }
  const http = await start([fails], { checks: [ready] })
  const failed = async () => /^http_requests_failed_total (\d+)$/m.exec((await http.inject('/metrics')).body)?.[1]
  expect(await failed()).toBe('0')
  expect((await http.inject('/readyz')).statusCode).toBe(503)
  expect((await http.inject('/v1/nothing')).statusCode).toBe(404)
  expect((await http.inject('/v1/fails')).statusCode).toBe(500)
  expect(await failed()).toBe('1')
})

test('/readyz is ok, degraded or unavailable, with a reason for each part that is away', async () => {
  const reasons: Record<string, string | undefined> = {}
  const check = (name: string, optional: boolean): ReadinessCheck => ({
    name,
    optional,
    check: () => {
      if (reasons[name]) throw new Error(reasons[name])
    },
  })
  const http = await start([], { checks: [check('kafka', true), check('replicas', false)] })
  expect((await http.inject('/readyz')).json()).toMatchObject({ service: 'test', status: 'ok' })
  reasons.kafka = 'no broker answers'
  const degraded = await http.inject('/readyz')
  expect(degraded.statusCode).toBe(200)
  expect(degraded.json()).toMatchObject({
    status: 'degraded',
    checks: expect.arrayContaining([{ name: 'kafka', status: 'failed', reason: 'no broker answers' }]),
  })
  reasons.replicas = 'still reading'
  const unavailable = await http.inject('/readyz')
  expect([unavailable.statusCode, unavailable.json().status]).toEqual([503, 'unavailable'])
  expect((await http.inject('/livez')).statusCode).toBe(200)
})

test('a check that hangs counts as failed after 2 s', async () => {
  const http = await start([], { checks: [{ name: 'stuck', check: () => new Promise<void>(() => undefined) }] })
  expect((await http.inject('/readyz')).json().checks).toContainEqual({
    name: 'stuck',
    status: 'failed',
    reason: 'no answer within 2000 ms',
  })
})

test('/metrics counts requests by route, unless it is not to be served', async () => {
  const http = await start(orders)
  await http.inject(`/v1/things/${userId}`)
  expect((await http.inject('/metrics')).body).toMatch(
    /http_request_duration_seconds_count\{method="GET",route="\/v1\/things\/:id",status="200"\} 1/,
  )
  await http.close()
  const outside = await start(orders, { serveMetrics: false })
  expect((await outside.inject('/metrics')).statusCode).toBe(404)
})

test('/openapi.json describes every route, /docs shows it', async () => {
  const http = await start([...orders, whoAmI])
  const address = await http.listen({ port: 0 })
  const document = (await (await fetch(`${address}/openapi.json`)).json()) as {
    openapi: string
    paths: Record<
      string,
      Record<string, { security?: unknown; responses: Record<string, unknown>; requestBody?: unknown }>
    >
  }
  expect(document.openapi).toBe('3.1.0')
  expect(Object.entries(document.paths).map(([path, methods]) => [path, Object.keys(methods)])).toEqual([
    ['/v1/things', ['post']],
    ['/v1/things/{id}', ['get', 'delete']],
    ['/v1/me', ['get']],
  ])
  expect(document.paths['/v1/things']?.post).toMatchObject({
    summary: 'Makes a thing',
    requestBody: { content: { 'application/json': { schema: { additionalProperties: false } } } },
    responses: { 201: { content: { 'application/json': {} } }, '4XX': { content: { 'application/problem+json': {} } } },
  })
  expect(document.paths['/v1/me']?.get?.security).toEqual([{ token: [] }])
  for (const path of ['/docs', '/docs/', '/docs/static/swagger-ui-bundle.js', '/docs/json']) {
    const response = await fetch(`${address}${path}`)
    expect([path, response.status]).toEqual([path, 200])
    expect(response.headers.get('x-request-id')).toMatch(/./)
    await response.body?.cancel()
  }
})

test('a client that sends a large body gets its whole answer over the same connection', async () => {
  const http = await start(orders)
  const { port } = new URL(await http.listen({ port: 0, host: '127.0.0.1' }))
  const socket = connect(Number(port), '127.0.0.1')
  await once(socket, 'connect')
  const body = `"${'x'.repeat(2e6)}"`
  const request = `POST /v1/things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  socket.write(request)
  expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1.1 413 /)
  socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n')
  expect(String((await once(socket, 'data'))[0])).toMatch(/200 OK/)
  socket.destroy()
})

/** Listens, and sends what no HTTP library would. Gives the answer's status, headers and body. */
async function listening(routes: Route[]) {
  const { port } = new URL(await (await start(routes)).listen({ port: 0, host: '127.0.0.1' }))
  return async (message: string) => {
    const socket = connect(Number(port), '127.0.0.1')
    socket.write(message, 'latin1')
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk)
    const [head = '', body = ''] = String(Buffer.concat(chunks)).split('\r\n\r\n')
    const headers = Object.fromEntries(head.split('\r\n').map((line) => line.toLowerCase().split(': ', 2)))
    return { status: Number(head.split(' ', 2)[1]), headers, body }
  }
}

/** A message with its usual headers; it is the last of its connection. */
const message = (start: string, headers: string[] = [], body = '') =>
  [`${start} HTTP/1.1`, 'Host: x', 'Connection: close', ...headers, '', body].join('\r\n')

const bodiless = [
  route({
    method: 'DELETE',
    url: '/v1/session',
    summary: 'Ends',
    access: 'anyone',
    schema: { response: { 204: Type.Null() } },
    handle: async () => reply.noContent(),
  }),
  route({
    method: 'POST',
    url: '/v1/things/:id/cancel',
    summary: 'Cancels',
    access: 'anyone',
    schema: {
      params: Type.Object({ id: Type.String() }),
      body: Type.Union([Type.Object({ reason: Type.String() }), Type.Null()]),
      response: { 204: Type.Null() },
    },
    handle: async ({ body }) => {
      if (body !== null) throw new Error('there was a body')
      return reply.noContent()
    },
  }),
]

test.each([
  ['JSON', ['Content-Type: application/json', 'Content-Length: 0']],
  ['JSON without a length', ['Content-Type: application/json']],
  ['JSON with a charset', ['Content-Type: application/json; charset=UTF-8', 'Content-Length: 0']],
  ['a form, as curl says', ['Content-Type: application/x-www-form-urlencoded', 'Content-Length: 0']],
  ['JSON in chunks', ['Content-Type: application/json', 'Transfer-Encoding: chunked'], '0\r\n\r\n'],
  ['nothing in chunks', ['Transfer-Encoding: chunked'], '0\r\n\r\n'],
])('an empty body that is said to be %s is no body', async (_, headers, body = '') => {
  const send = await listening([...bodiless, ...orders])
  expect(await send(message('DELETE /v1/session', headers, body))).toMatchObject({ status: 204 })
  expect(await send(message('POST /v1/things/1/cancel', headers, body))).toMatchObject({ status: 204 })
  expect(await send(message('POST /v1/things', headers, body))).toMatchObject({ status: 400 })
})

test.each([
  ['text', ['Content-Type: text/plain', 'Content-Length: 2'], '{}'],
  ['text in chunks', ['Content-Type: text/plain', 'Transfer-Encoding: chunked'], '2\r\n{}\r\n0\r\n\r\n'],
  ['no type', ['Content-Length: 2'], '{}'],
  ['rubbish', ['Content-Type: ;;', 'Content-Length: 2'], '{}'],
  ['compressed JSON', ['Content-Type: application/json', 'Content-Encoding: gzip', 'Content-Length: 2'], '{}'],
])('a body of %s is 415', async (_, headers, body) => {
  const send = await listening(orders)
  const { status, body: problem } = await send(message('POST /v1/things', headers, body))
  expect([status, JSON.parse(problem).code]).toEqual([415, 'unsupported-media-type'])
})

test('a path has the methods of its routes: OPTIONS lists them, every other one is 405, before a body is read', async () => {
  const send = await listening([...orders, ...bodiless])
  const paths: Record<string, string> = {
    '/v1/things': 'POST',
    '/v1/%74hings?x=%zz': 'POST',
    [`/v1/things/${userId}`]: 'GET, HEAD, DELETE',
    '/livez': 'GET, HEAD',
    '/docs/static/x.js': 'GET, HEAD',
  }
  for (const [path, allow] of Object.entries(paths)) {
    const tried = path === '/v1/things' ? METHODS.filter((method) => method !== 'CONNECT') : ['OPTIONS', 'PUT', 'QUERY']
    for (const method of tried.filter((one) => !allow.includes(one))) {
      const wrong = ['Content-Type: application/json', 'Content-Length: 1']
      const answer = await send(message(`${method} ${path}`, wrong, '{'))
      expect([method, path, answer.status, answer.headers.allow]).toEqual([
        method,
        path,
        method === 'OPTIONS' ? 204 : 405,
        allow.toLowerCase(),
      ])
      expect(answer.headers).toHaveProperty('x-request-id')
      if (answer.body) expect(JSON.parse(answer.body).code).toBe('method-not-allowed')
    }
  }
  for (const method of ['OPTIONS', 'QUERY', 'PATCH']) {
    expect(await send(message(`${method} /v1/nothing`))).toMatchObject({ status: 404 })
  }
  expect(await send(message('OPTIONS *'))).toMatchObject({ status: 204, headers: { allow: expect.any(String) } })
  expect(lines.filter((line) => /"level":"(error|fatal)"/.test(line))).toEqual([])
})

test.each([
  ['an absolute target', message('GET http://shop/livez'), 200],
  ['one with port and query', message('GET HTTPS://shop:443/livez?x'), 200],
  ['one without a path', message('GET http://shop?x'), 404],
  ['HTTP/1.0 without Host', 'GET /livez HTTP/1.0\r\n\r\n', 200],
  ['an empty Host', 'GET /livez HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n', 200],
  ['Expect: 100-continue', message('GET /livez', ['Expect: 100-Continue', 'Content-Length: 1'], 'x'), 100],
  ['a body of GET', message('GET /livez', ['Content-Type: x', 'Content-Length: 2'], '{}'), 200],
])('%s is understood', async (_, text, status) => {
  expect(await (await listening([]))(text)).toMatchObject({ status })
})

test.each([
  ['what is no HTTP', 'NONSENSE\r\n\r\n'],
  ['no Host', 'GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n'],
  ['two Hosts', message('GET /livez', ['Host: x'])],
  ['a Host that is none', 'GET /livez HTTP/1.1\r\nHost: a b/c\r\nConnection: close\r\n\r\n'],
  ['HTTP/0.9', 'GET /livez\r\n\r\n'],
  ['HTTP/2.0', 'GET /livez HTTP/2.0\r\nHost: x\r\nConnection: close\r\n\r\n'],
  ['a name and password in the target', message('GET http://u:hunter2@shop/livez')],
  ['another scheme', message('GET ftp://shop/livez')],
  ['a fragment', message('QUERY /v1/things#%')],
  ['* with GET', message('GET *')],
  ['a target without a slash', message('GET livez')],
  ['a method in lower case', message('get /livez')],
  ['a method that is none', message('BREW /livez')],
  ['length and chunks', message('POST /livez', ['Content-Length: 5', 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
  ['two lengths', message('POST /livez', ['Content-Length: 1', 'Content-Length: 2'], 'xx')],
  ['another transfer coding', message('POST /livez', ['Transfer-Encoding: gzip, chunked'], '0\r\n\r\n')],
  ['a folded header', message('GET /livez', ['X-A: b', ' c'])],
  ['a NUL', message('GET /livez', ['X-A: \0'])],
  ['broken percent-encoding', message('GET /livez%')],
  ['broken UTF-8', message('QUERY /%ff')],
  ['an expectation', message('POST /livez', ['Expect: tea']), 417, 'expectation-failed'],
  ['CONNECT', 'CONNECT shop:80 HTTP/1.1\r\nHost: x\r\n\r\n', 405, 'method-not-allowed'],
  ['a long target', message(`GET /${'a'.repeat(500_000)}`), 431, 'headers-too-large'],
  ['a long header', message('GET /livez', [`X-A: ${'a'.repeat(500_000)}`]), 431, 'headers-too-large'],
  ['empty segments', message('GET //livez'), 404, 'route-not-found'],
  ['dots', message('QUERY /v1/../livez'), 404, 'route-not-found'],
])('%s is refused with a problem', async (_, text, expected = 400, code = 'malformed-request') => {
  const { status, headers, body } = await (await listening([]))(text)
  expect([status, headers['content-type']]).toEqual([expected, 'application/problem+json'])
  expect(JSON.parse(body)).toMatchObject({ status, code, requestId: headers['x-request-id'] })
  expect(body).not.toContain('hunter2')
  expect(lines.filter((line) => /"level":"(error|fatal)"/.test(line))).toEqual([])
})

test('closing does not wait for connections that were never used', async () => {
  const http = await start([])
  const { port } = new URL(await http.listen({ port: 0, host: '127.0.0.1' }))
  const socket = connect(Number(port), '127.0.0.1')
  await once(http.server, 'connection')
  const startedAt = performance.now()
  await Promise.all([http.close(), once(socket, 'close')])
  expect(performance.now() - startedAt).toBeLessThan(2_000)
})

test('closing drains: what waits is told to stop waiting and answered', async () => {
  const arrived = Promise.withResolvers<void>()
  const http = await start([
    route({
      method: 'GET',
      url: '/v1/wait',
      summary: 'Waits',
      access: 'anyone',
      schema: { response: { 200: Type.Object({ waitSeconds: Type.Integer() }) } },
      handle: async ({ signal, waitSeconds }) => {
        arrived.resolve()
        if (!signal.aborted) await once(signal, 'abort')
        return reply.ok({ waitSeconds: waitSeconds ?? 0 })
      },
    }),
  ])
  const address = await http.listen({ port: 0 })
  const answer = fetch(`${address}/v1/wait`, { headers: { prefer: 'respond-async, wait=10' } })
  await arrived.promise
  await http.close()
  const response = await answer
  expect(response.headers.get('preference-applied')).toBe('wait=10')
  expect(await response.json()).toEqual({ waitSeconds: 10 })
})

test.each([
  ['wait=1', 1],
  ['wait=30', 30],
  ['Wait = "5"; x=1', 5],
  ['wait=0', 0],
  ['wait=31', 30],
  ['wait=86400', 30],
  ['wait=1.5', 0],
  ['wait=-1', 0],
  ['await=5', 0],
])('Prefer: %s waits %d s', async (prefer, expected) => {
  const http = await start([
    route({
      method: 'GET',
      url: '/v1/wait',
      summary: 'Waits',
      access: 'anyone',
      schema: { response: { 200: Type.Object({ waitSeconds: Type.Integer() }) } },
      handle: async ({ waitSeconds }) => reply.ok({ waitSeconds: waitSeconds ?? 0 }),
    }),
  ])
  const response = await http.inject({ url: '/v1/wait', headers: { prefer } })
  expect(response.json()).toEqual({ waitSeconds: expected })
  expect('preference-applied' in response.headers).toBe(expected > 0)
})

test('more requests than a process lets wait are answered at once, and wait again once others are through', async () => {
  const over = Promise.withResolvers<void>()
  let waiting = 0
  const http = await start([
    route({
      method: 'GET',
      url: '/v1/wait',
      summary: 'Waits',
      access: 'anyone',
      schema: { response: { 200: Type.Object({ waitSeconds: Type.Integer() }) } },
      handle: async ({ waitSeconds }) => {
        if (waitSeconds !== undefined) {
          waiting += 1
          await over.promise
        }
        return reply.ok({ waitSeconds: waitSeconds ?? 0 })
      },
    }),
  ])
  const ask = () => http.inject({ url: '/v1/wait', headers: { prefer: 'wait=30' } })
  const held = Array.from({ length: waitingAtOnce }, ask)
  while (waiting < waitingAtOnce) await new Promise(setImmediate)
  const answer = await ask()
  expect([answer.json(), 'preference-applied' in answer.headers]).toEqual([{ waitSeconds: 0 }, false])
  over.resolve()
  await Promise.all(held)
  expect((await ask()).json()).toEqual({ waitSeconds: 30 })
})

test('more requests than a process can hold are 503 with Retry-After; probes are answered', async () => {
  const over = Promise.withResolvers<void>()
  let inHand = 0
  const http = await start([
    route({
      method: 'GET',
      url: '/v1/slow',
      summary: 'Takes long',
      access: 'anyone',
      schema: { response: { 204: Type.Null() } },
      handle: async () => {
        inHand += 1
        await over.promise
        return reply.noContent()
      },
    }),
  ])
  const held = Array.from({ length: requestsAtOnce }, () => http.inject('/v1/slow'))
  while (inHand < requestsAtOnce) await new Promise(setImmediate)
  const refused = await Promise.all(Array.from({ length: 50 }, () => http.inject('/v1/slow')))
  for (const one of refused) expect(one.json()).toMatchObject({ status: 503, code: 'overloaded' })
  // What was refused together does not come again together.
  expect(new Set(refused.map(({ headers }) => headers['retry-after']))).toEqual(new Set(['1', '2', '3', '4', '5']))
  expect((await http.inject('/livez')).statusCode).toBe(200)
  over.resolve()
  await Promise.all(held)
  expect((await http.inject('/v1/slow')).statusCode).toBe(204)
})
