import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createDatabase } from '@shopstream/database'
import { createWorld, eventually, type World } from '@shopstream/testing'
import { decodeJwt, decodeProtectedHeader, importJWK, jwtVerify } from 'jose'
import type { Tables } from './tables.ts'
import { published, startUser, type TestUser } from './testing.ts'

const password = 'correct horse battery'
let world: World
let user: TestUser
let other: TestUser
let database: ReturnType<typeof createDatabase<Tables>>

beforeAll(async () => {
  world = await createWorld('user')
  const staff = { STAFF_EMAIL: 'Staff@Example.com', STAFF_PASSWORD: 'staff password 1' }
  // Two instances at once, as in a deployment: together they make one signing key and one staff account.
  ;[user, other] = await Promise.all([startUser(world, staff), startUser(world, staff)])
  const url = world.settings.DATABASE_URL
  database = createDatabase<Tables>({ url, poolSize: 1, applicationName: 'test', logger: world.logger })
})
afterAll(async () => {
  await database.close()
  await user.stop()
  await other.stop()
  await world.close()
})

let people = 0
const register = (more: object = {}) =>
  user.call('POST', '/v1/users', { email: `p${++people}@example.com`, password, displayName: 'Ana', ...more })
const login = (email: string, as = password) => user.call('POST', '/v1/sessions', { email, password: as })
const refresh = (refreshToken: string) => user.call('POST', '/v1/sessions/refresh', { refreshToken })
const registrationsOf = (email: string) => published(world, 'UserRegistered').filter(({ data }) => data.email === email)

test('registering makes an account and its event', async () => {
  const { status, headers, body } = await register({ email: ' Ana@Example.com ', displayName: ' 山田 Ñandú ' })
  expect(status).toBe(201)
  expect(body).toEqual({
    id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7/),
    email: 'ana@example.com',
    displayName: '山田 Ñandú',
    roles: ['customer'],
    createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
  })
  expect(headers.location).toBe('/v1/users/me')
  await eventually('the event', () => registrationsOf('ana@example.com').length > 0)
  const [event] = registrationsOf('ana@example.com')
  expect(event).toMatchObject({ key: body.id, sequence: 1n, topic: 'shop.user.v1' })
  expect(event?.data).toEqual({
    userId: body.id,
    email: 'ana@example.com',
    displayName: '山田 Ñandú',
    roles: ['customer'],
    registeredAt: new Date(body.createdAt),
  })
})

test('an address in another case is the same account', async () => {
  await register({ email: 'case@example.com' })
  const again = await register({ email: 'CASE@Example.Com' })
  expect(again).toMatchObject({ status: 409, body: { code: 'email-taken' } })
  expect((await login('cASE@example.COM')).status).toBe(201)
})

test('of many registrations of one address at once exactly one succeeds, with one event', async () => {
  const email = 'race@example.com'
  const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => register({ email, displayName: `Racer ${i}` })))
  expect(answers.map(({ status }) => status).toSorted()).toEqual([201, ...Array(7).fill(409)])
  const marker = await register()
  await eventually('what was registered afterwards', () => registrationsOf(marker.body.email).length > 0)
  expect(registrationsOf(email)).toHaveLength(1)
})

test.each([
  ['no body', undefined, ['body']],
  ['nothing', {}, ['email', 'password', 'displayName']],
  ['an unknown field', { email: 'x@example.com', password, displayName: 'X', roles: ['staff'] }, ['roles']],
  ['numbers', { email: 1, password: 123456789012, displayName: true }, ['email', 'password', 'displayName']],
  ['a short password', { email: 'x@example.com', password: 'short', displayName: 'X' }, ['password']],
  ['a long password', { email: 'x@example.com', password: 'x'.repeat(257), displayName: 'X' }, ['password']],
  ['no address', { email: 'x', password, displayName: 'X' }, ['email']],
  [
    'a line break in the name',
    { email: 'x@example.com', password, displayName: 'X\r\nBcc: y@example.com' },
    ['displayName'],
  ],
  ['a blank name', { email: 'x@example.com', password, displayName: '  ' }, ['displayName']],
  ['a NUL', { email: 'x@example.com', password, displayName: 'X\u0000' }, ['displayName']],
])('registering with %s is refused', async (_what, body, fields) => {
  const answer = await user.call('POST', '/v1/users', body)
  expect(answer).toMatchObject({ status: 400 })
  expect(answer.headers['content-type']).toContain('application/problem+json')
  if (body === undefined) return
  expect(answer.body.code).toBe('invalid-request')
  expect(answer.body.errors.map((error: { field: string }) => error.field)).toEqual(fields)
})

test('a login gives tokens that are verified by the published key', async () => {
  const { body: account } = await register()
  const { status, body } = await login(account.email)
  expect(status).toBe(201)
  expect(body).toMatchObject({ tokenType: 'Bearer', expiresIn: 900 })

  const { kid } = decodeProtectedHeader(body.accessToken)
  await eventually('the key of the token', () => published(world, 'SigningKeyPublished').length > 0)
  const jwk = JSON.parse(published(world, 'SigningKeyPublished').find(({ key }) => key === kid)?.data.publicKey ?? '')
  expect(jwk).not.toHaveProperty('d')
  const { payload } = await jwtVerify(body.accessToken, await importJWK(jwk, 'EdDSA'))
  expect(payload).toMatchObject({ iss: 'shopstream', aud: 'shopstream', sub: account.id, roles: ['customer'] })
  expect(payload.sid).toMatch(/^[0-9a-f-]{36}$/)
  expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(900)

  const me = await user.call('GET', '/v1/users/me', undefined, body.accessToken)
  expect(me).toMatchObject({ status: 200, body: account })
})

test('a wrong password and an unknown address get the same answer after the same steps', async () => {
  const { body: account } = await register()
  const wrong = await login(account.email, 'wrong horse battery')
  const unknown = await login('nobody@example.com')
  expect(wrong.status).toBe(401)
  expect({ ...unknown.body, requestId: '' }).toEqual({ ...wrong.body, requestId: '' })
  expect(wrong.body.code).toBe('invalid-credentials')

  const timeOf = async (email: string) => {
    const start = performance.now()
    await login(email, 'wrong horse battery')
    return performance.now() - start
  }
  const best = { known: Number.POSITIVE_INFINITY, unknown: Number.POSITIVE_INFINITY }
  for (let i = 0; i < 9; i++) {
    best.known = Math.min(best.known, await timeOf(account.email)) // the least disturbed of several
    best.unknown = Math.min(best.unknown, await timeOf('nobody@example.com'))
  }
  expect(best.unknown / best.known).toBeGreaterThan(0.6)
  expect(best.unknown / best.known).toBeLessThan(1.6)
})

test('a refresh token is good for one refresh, and the session goes on', async () => {
  const { body: account } = await register()
  const first = (await login(account.email)).body
  const second = await refresh(first.refreshToken)
  expect(second.status).toBe(201)
  expect(second.body.refreshToken).not.toBe(first.refreshToken)
  expect(decodeJwt(second.body.accessToken)).toMatchObject({
    sub: account.id,
    sid: decodeJwt(first.accessToken).sid,
    roles: ['customer'],
  })
  expect(await refresh(first.refreshToken)).toMatchObject({ status: 401, body: { code: 'invalid-refresh-token' } })
  expect(await refresh('made-up')).toMatchObject({ status: 401, body: { code: 'invalid-refresh-token' } })
  expect((await refresh(second.body.refreshToken)).status).toBe(201)
})

test('of many refreshes with one token at once exactly one wins', async () => {
  const { body: account } = await register()
  const { refreshToken } = (await login(account.email)).body
  const answers = await Promise.all(Array.from({ length: 8 }, () => refresh(refreshToken)))
  expect(answers.map(({ status }) => status).toSorted()).toEqual([201, ...Array(7).fill(401)])
})

test('logging out ends the refresh tokens of this login alone', async () => {
  const { body: account } = await register()
  const [here, there] = [(await login(account.email)).body, (await login(account.email)).body]
  expect((await user.call('DELETE', '/v1/sessions/current', undefined, here.accessToken)).status).toBe(204)
  expect((await user.call('DELETE', '/v1/sessions/current', undefined, here.accessToken)).status).toBe(204)
  expect(await refresh(here.refreshToken)).toMatchObject({ status: 401, body: { code: 'invalid-refresh-token' } })
  expect((await refresh(there.refreshToken)).status).toBe(201)
})

test('an expired refresh token is refused', async () => {
  const { body: account } = await register()
  const { refreshToken } = (await login(account.email)).body
  await database.query.updateTable('refresh_token').set({ expires_at: new Date() }).execute()
  expect(await refresh(refreshToken)).toMatchObject({ status: 401, body: { code: 'invalid-refresh-token' } })
})

test.each([
  ['no token', undefined],
  ['no token at all', 'nonsense'],
  ['a token of another key', 'eyJhbGciOiJFZERTQSIsImtpZCI6IngifQ.eyJzdWIiOiJ4In0.AAAA'],
])('with %s there is no profile', async (_what, token) => {
  const answer = await user.call('GET', '/v1/users/me', undefined, token)
  expect(answer).toMatchObject({ status: 401, body: { code: 'invalid-token' } })
  expect(answer.headers['www-authenticate']).toContain('Bearer')
})

test('two instances seeded one staff account and one signing key', async () => {
  const { status, body } = await login('staff@example.com', 'staff password 1')
  expect(status).toBe(201)
  expect(decodeJwt(body.accessToken).roles).toEqual(['customer', 'staff'])
  const marker = await register()
  await eventually('what was registered afterwards', () => registrationsOf(marker.body.email).length > 0)
  expect(registrationsOf('staff@example.com')).toHaveLength(1)
  expect(published(world, 'SigningKeyPublished')).toHaveLength(1)
})

test('neither passwords nor tokens are kept readable', async () => {
  const { body: account } = await register()
  const { refreshToken } = (await login(account.email)).body
  const stored = await Promise.all(
    (['account', 'refresh_token', 'signing_key_pair'] as const).map((table) =>
      database.query.selectFrom(table).selectAll().execute(),
    ),
  )
  const text = JSON.stringify(stored, (_, value) =>
    value?.type === 'Buffer'
      ? Buffer.from(value.data).toString('latin1')
      : typeof value === 'bigint'
        ? `${value}`
        : value,
  )
  for (const secret of [password, refreshToken, '"d":']) expect(text.includes(secret)).toBe(false)
})

test('with another secret the service says what to set and does not start', async () => {
  const secret = { KEY_ENCRYPTION_SECRET: 'quite another secret, of more than 32 characters' }
  await expect(startUser(world, secret)).rejects.toThrow(/KEY_ENCRYPTION_SECRET does not open/)
})

test('another STAFF_PASSWORD is the one that counts from the next start on', async () => {
  const again = await startUser(world, { STAFF_EMAIL: 'staff@example.com', STAFF_PASSWORD: 'staff password 2' })
  await again.stop()
  expect((await login('staff@example.com', 'staff password 1')).status).toBe(401)
  expect((await login('staff@example.com', 'staff password 2')).status).toBe(201)
  const back = await startUser(world, { STAFF_EMAIL: 'staff@example.com', STAFF_PASSWORD: 'staff password 1' })
  await back.stop()
})

test('half a staff account, or one with a short password, is an error of the settings', async () => {
  await expect(startUser(world, { STAFF_EMAIL: 's@example.com' })).rejects.toThrow(/belong together/)
  const wrong = { STAFF_EMAIL: 'staff', STAFF_PASSWORD: 'short' }
  await expect(startUser(world, wrong)).rejects.toThrow(/STAFF_EMAIL must.*\n.*STAFF_PASSWORD must/)
})
