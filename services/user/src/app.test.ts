import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { createDatabase, sql } from '@shopstream/database'
import { allButTheClock, createWorld, eventually, type World } from '@shopstream/testing'
import { decodeJwt, decodeProtectedHeader, importJWK, jwtVerify } from 'jose'
import { buildUser } from './app.ts'
import { rotateKeys } from './signing-keys/rotation.ts'
import { deleteEnded } from './sweeping.ts'
import type { Tables } from './tables.ts'
import { published, startUser, type TestUser, testConfig } from './testing.ts'

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
const login = (email: string, as = password, { at = user, from }: { at?: TestUser; from?: string } = {}) =>
  at.call('POST', '/v1/sessions', { email, password: as }, undefined, from)
const refresh = (refreshToken: string) => user.call('POST', '/v1/sessions/refresh', { refreshToken })
const statusesOf = async (answers: Promise<{ status: number }>[]) =>
  (await Promise.all(answers)).map(({ status }) => status).toSorted()
/** Runs an instance with other settings for as long as `work` takes. */
const withInstance = async (settings: Parameters<typeof startUser>[1], work: (at: TestUser) => Promise<void>) => {
  const instance = await startUser(world, settings)
  await work(instance).finally(instance.stop)
}
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
  const own = { requestId: '', traceId: '' }
  expect({ ...unknown.body, ...own }).toEqual({ ...wrong.body, ...own })
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
  // One that is not hashed takes less than a tenth; the machine may be busy.
  expect(best.unknown / best.known).toBeGreaterThan(0.33)
  expect(best.unknown / best.known).toBeLessThan(3)
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
  expect(await refresh('made-up')).toMatchObject({ status: 401, body: { code: 'invalid-refresh-token' } })
  expect((await refresh(second.body.refreshToken)).status).toBe(201)
})

test('a spent refresh token that is used again ends its session, and no other', async () => {
  const { body: account } = await register()
  const [stolen, there] = [(await login(account.email)).body, (await login(account.email)).body]
  const second = (await refresh(stolen.refreshToken)).body
  const third = (await refresh(second.refreshToken)).body
  expect(await refresh(stolen.refreshToken)).toMatchObject({ status: 401, body: { code: 'invalid-refresh-token' } })
  expect(await refresh(third.refreshToken)).toMatchObject({ status: 401, body: { code: 'invalid-refresh-token' } })
  expect((await refresh(there.refreshToken)).status).toBe(201)
})

test('of many refreshes with one token at once exactly one wins, and its session goes on', async () => {
  const { body: account } = await register()
  const { refreshToken } = (await login(account.email)).body
  // All connections are open already: else the first is through before the second has one.
  await Promise.all(Array.from({ length: 30 }, () => refresh('of nobody')))
  const answers = await Promise.all(Array.from({ length: 30 }, () => refresh(refreshToken))) // three times the pool
  expect(answers.map(({ status }) => status).toSorted()).toEqual([201, ...Array(29).fill(401)])
  const winner = answers.find(({ status }) => status === 201)
  expect((await refresh(winner?.body.refreshToken)).status).toBe(201)
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

const staffOf = (n: number, email = 'staff@example.com') => ({
  STAFF_EMAIL: email,
  STAFF_PASSWORD: `staff password ${n}`,
})
const restart = (settings: object) => withInstance(settings, async () => {})

test('another STAFF_PASSWORD is the one that counts from the next start on, and ends the sessions of the one before', async () => {
  const { refreshToken } = (await login('staff@example.com', 'staff password 1')).body
  await restart(staffOf(1))
  const kept = await refresh(refreshToken)
  expect(kept.status).toBe(201)
  await restart(staffOf(2))
  expect((await login('staff@example.com', 'staff password 1')).status).toBe(401)
  expect(await refresh(kept.body.refreshToken)).toMatchObject({ status: 401, body: { code: 'invalid-refresh-token' } })
  expect((await login('staff@example.com', 'staff password 2')).status).toBe(201)
  await restart(staffOf(1))
})

test('another STAFF_EMAIL takes the role and the sessions of the one before, and may give it back', async () => {
  const { body: customer } = await register()
  const { refreshToken } = (await login('staff@example.com', 'staff password 1')).body
  const rolesOf = async (email: string) => {
    const { body } = await login(email, 'staff password 1')
    return decodeJwt(body.accessToken).roles
  }
  await restart(staffOf(1, 'next@example.com'))
  expect((await refresh(refreshToken)).status).toBe(401)
  expect(await rolesOf('next@example.com')).toEqual(['customer', 'staff'])
  expect(await rolesOf('staff@example.com')).toEqual(['customer'])
  await restart(staffOf(1, customer.email)) // who registered this address is nobody that the settings know
  expect(decodeJwt((await login(customer.email)).body.accessToken).roles).toEqual(['customer'])
  expect(await rolesOf('next@example.com')).toEqual(['customer'])
  await restart(staffOf(1))
  expect(await rolesOf('staff@example.com')).toEqual(['customer', 'staff'])
  const changesOf = (email: string) =>
    published(world, 'UserProfileChanged').flatMap(({ data, sequence }) =>
      data.email === email ? [[sequence, data.roles]] : [],
    )
  await eventually('the changes', () => changesOf('staff@example.com').length === 2)
  expect(changesOf('staff@example.com')).toEqual([
    [2n, ['customer']],
    [3n, ['customer', 'staff']],
  ])
})

test.each([
  ['another password', sql`update account set password_hash = 'another'`],
  ['a role less', sql`update account set roles = '{}'`],
  ['erasure', sql`delete from account`],
])('%s ends all sessions of an account, whoever brings it about', async (_what, change) => {
  const [{ body: ana }, { body: eve }] = await Promise.all([register(), register()])
  const [here, there, other] = await Promise.all([login(ana.email), login(ana.email), login(eve.email)])
  await sql`${change} where id = ${ana.id}`.execute(database.query)
  expect((await refresh(here.body.refreshToken)).status).toBe(401)
  expect((await refresh(there.body.refreshToken)).status).toBe(401)
  expect((await refresh(other.body.refreshToken)).status).toBe(201)
})

test('another name or one role more ends no session', async () => {
  const { body: ana } = await register()
  const { refreshToken } = (await login(ana.email)).body
  await sql`update account set roles = roles || '{editor}', display_name = 'A' where id = ${ana.id}`.execute(
    database.query,
  )
  expect(decodeJwt((await refresh(refreshToken)).body.accessToken).roles).toEqual(['customer', 'editor'])
})

test('a login whose password is changed while it is checked opens no session', async () => {
  const { body: ana } = await register()
  const answer = await database.transaction(async (tx) => {
    await sql`update account set password_hash = 'another' where id = ${ana.id}`.execute(tx)
    const answer = login(ana.email)
    await eventually('the login to wait', async () => {
      const { rows } = await sql`
        select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`.execute(tx)
      return rows.length > 0
    })
    return { answer }
  })
  expect(await answer.answer).toMatchObject({ status: 401, body: { code: 'invalid-credentials' } })
})

describe('guesses are limited', () => {
  const wrong = 'wrong horse battery'
  let addresses = 0
  const anywhere = () => `192.0.2.${++addresses}`
  /** Wrong passwords from many addresses, half of them at each instance. */
  const guess = (email: string, times: number) =>
    statusesOf(
      Array.from({ length: times }, (_, i) => login(email, wrong, { at: i % 2 ? user : other, from: anywhere() })),
    )

  test('for an account, over all instances and addresses, whether it exists or not', async () => {
    const { body: ana } = await register()
    for (const email of [ana.email, 'nobody-at-all@example.com']) {
      const refused = (await guess(email, 40)).filter((status) => status === 429).length
      expect(refused).toBeLessThanOrEqual(20)
      expect(refused).toBeGreaterThanOrEqual(17) // 20 failures, and each instance checks two passwords at once
      const answer = await login(email, wrong, { from: anywhere() })
      expect(answer).toMatchObject({ status: 429, body: { code: 'too-many-attempts' } })
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
      expect(Number(answer.headers['retry-after'])).toBeLessThanOrEqual(4 * 30)
    }
    expect((await login(ana.email, password, { from: anywhere() })).status).toBe(429) // or it could be guessed on
  })

  test('and do not lock out an owner, who logs in from where a login was before', async () => {
    const { body: ana } = await register()
    const home = '2001:db8::1'
    await login(ana.email, password, { from: home })
    await guess(ana.email, 30)
    expect((await login(ana.email, password, { from: '2001:db8::2' })).status).toBe(201) // of the same network
    expect((await login(ana.email, password, { from: '2001:db8:0:1::1' })).status).toBe(429)
    // Elsewhere the owner waits half a minute once the stranger stops, not for as long as the stranger has guessed.
    await sql`update allowance set whole_at = whole_at - interval '120 s'`.execute(database.query)
    expect((await login(ana.email, password, { from: '2001:db8:0:1::1' })).status).toBe(201)
  })

  test('and nothing that a stranger gives as an address uses up what an owner has', async () => {
    const { body: ana } = await register()
    const from = '203.0.113.5'
    await login(ana.email, password, { from })
    for (const joined of [`${ana.email} from ${from}`, `${ana.id} ${from}`]) {
      await guess(joined, 25)
      expect((await login(ana.email, password, { from })).status).toBe(201)
    }
  })

  test('also where a login was before', async () => {
    const { body: ana } = await register()
    const from = '198.51.100.7'
    await login(ana.email, password, { from })
    const answers = await statusesOf(Array.from({ length: 30 }, () => login(ana.email, wrong, { from })))
    expect(answers.filter((status) => status === 401).length).toBeLessThanOrEqual(21)
  })

  test('for an address, by a setting', async () => {
    await withInstance({ LOGIN_FAILURES_PER_ADDRESS: 3 }, async (at) => {
      const from = '198.51.100.1'
      const tries = Array.from({ length: 5 }, (_, i) => login(`nobody-${i}@example.com`, wrong, { at, from }))
      expect((await statusesOf(tries)).filter((status) => status === 401).length).toBeLessThanOrEqual(4)
      expect((await login('nobody-9@example.com', wrong, { at, from })).status).toBe(429)
      expect((await login('nobody-9@example.com', wrong, { at, from: '198.51.100.2' })).status).toBe(401)
    })
  })

  test('and right passwords are not, however many at once', async () => {
    const { body: ana } = await register()
    expect(await statusesOf(Array.from({ length: 60 }, () => login(ana.email)))).toEqual(Array(60).fill(201))
  })
})

test('registrations are limited, for an address and in all', async () => {
  const settings = { REGISTRATIONS_PER_ADDRESS: 3, REGISTRATIONS_IN_ALL: 5, REGISTRATIONS_SECONDS: 60 }
  await withInstance(settings, async (at) => {
    const from = async (address: string, email = `p${++people}@example.com`) =>
      at.call('POST', '/v1/users', { email, password, displayName: 'Ana' }, undefined, address)
    const fromOneNetwork = Array.from({ length: 6 }, (_, i) => from(`2001:db8:1::${i}`))
    expect(await statusesOf(fromOneNetwork)).toEqual([201, 201, 201, 429, 429, 429])
    const refused = await from('2001:db8:1::7')
    expect(refused).toMatchObject({ status: 429, body: { code: 'too-many-registrations' } })
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
    expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(20)
    expect((await from('192.0.2.1', 'no address')).status).toBe(400) // makes no account and mails nobody
    expect((await from('192.0.2.1')).status).toBe(201)
    expect((await from('192.0.2.2')).status).toBe(201)
    expect((await from('192.0.2.3')).status).toBe(429)
  })
})

test('one mailbox is one account, in whichever spelling', async () => {
  const { status, body } = await register({ email: 'Ida@Bücher.example' })
  expect([status, body.email]).toEqual([201, 'ida@xn--bcher-kva.example'])
  const spellings = [
    'ida@bücher.example',
    'IDA@XN--BCHER-KVA.EXAMPLE',
    'ida@bu\u0308cher.example',
    'ｉｄａ@ｂücher.example',
  ]
  for (const email of spellings) {
    expect((await register({ email })).status).toBe(409)
    expect((await login(email)).status).toBe(201)
  }
})

test('addresses that were stored in another form are brought into it; of two that become equal both stay', async () => {
  const [one, first, second] = await Promise.all([
    register(),
    register(),
    register({ email: 'twin@xn--bcher-kva.example' }),
  ])
  const store = (id: string, email: string) =>
    sql`update account set email = ${email} where id = ${id}`.execute(database.query)
  await store(one.body.id, 'one@bücher.example')
  await store(first.body.id, 'twin@bücher.example')
  await restart({})
  const stored = await database.query.selectFrom('account').select(['id', 'email', 'sequence']).execute()
  const storedOf = ({ body }: typeof one) => stored.find(({ id }) => id === body.id)
  expect(storedOf(one)).toMatchObject({ email: 'one@xn--bcher-kva.example', sequence: 2n })
  await eventually('the event', () => published(world, 'UserProfileChanged').some(({ key }) => key === one.body.id))
  expect(storedOf(first)).toMatchObject({ email: 'twin@bücher.example', sequence: 1n })
  expect(storedOf(second)).toMatchObject({ email: 'twin@xn--bcher-kva.example', sequence: 1n })
  const idOf = async (email: string) => decodeJwt((await login(email)).body.accessToken).sub
  expect(await idOf('one@BÜCHER.example')).toBe(one.body.id)
  expect(await idOf('one@xn--bcher-kva.example')).toBe(one.body.id)
  expect(await idOf('twin@Bücher.example')).toBe(first.body.id)
  expect(await idOf('twin@xn--bcher-kva.example')).toBe(second.body.id)
  expect((await register({ email: 'twin@bücher.example' })).status).toBe(409)
  await sql`delete from account where id = ${second.body.id}`.execute(database.query)
  await restart({})
  expect(await idOf('twin@xn--bcher-kva.example')).toBe(first.body.id)
})

test('it is not ready while the staff account is made: once it is, it registers', async () => {
  const staff = { STAFF_EMAIL: 'late@example.com', STAFF_PASSWORD: 'staff password 3' }
  const service = await buildUser(testConfig(world, staff), world.logger)
  const starting = service.start()
  try {
    await eventually('it is ready', async () => (await service.http.inject('/readyz')).statusCode === 200)
    const body = { email: 'at-once@example.com', password, displayName: 'Ana' }
    expect((await service.http.inject({ method: 'POST', url: '/v1/users', body })).statusCode).toBe(201)
  } finally {
    await starting
    await service.stop()
  }
})

/** The wall clock of this process alone is wrong while `work` is done. */
async function withClock<T>(daysAhead: number, work: () => Promise<T>): Promise<T> {
  jest.useFakeTimers({ now: Date.now() + daysAhead * 86_400_000, doNotFake: [...allButTheClock] })
  return work().finally(() => jest.useRealTimers())
}

test.each([60, -60])(
  'an instance whose clock is %s days off ends nothing that others use, and opens what they take',
  async (days) => {
    const { body: ana } = await register()
    const before = (await login(ana.email)).body
    const { during, actions } = await withClock(days, async () => {
      const during = (await login(ana.email)).body
      await deleteEnded(database.query)
      const { KEY_ENCRYPTION_SECRET } = testConfig(world)
      const settings = { lifetimeMs: 30 * 86_400_000, leadMs: 600_000, checkMs: 30_000, tokenMs: 900_000 }
      return { during, actions: await rotateKeys(database, KEY_ENCRYPTION_SECRET, settings) }
    })
    await deleteEnded(database.query)
    expect(actions).toEqual([])
    for (const { accessToken, refreshToken } of [before, during]) {
      expect((await user.call('GET', '/v1/users/me', undefined, accessToken)).status).toBe(200)
      expect((await refresh(refreshToken)).status).toBe(201)
    }
  },
)

test('what has ended is deleted in batches, and no session drags any number of tokens along', async () => {
  const { body: ana } = await register()
  const { sid } = decodeJwt((await login(ana.email)).body.accessToken)
  const execute = (text: string) => sql.raw(text).execute(database.query)
  const left = async () => {
    const { rows } = await sql<{ sessions: number; tokens: number; allowances: number }>`
      select (select count(*)::int from session where expires_at < now()) sessions,
             (select count(*)::int from refresh_token where expires_at < now() or session_id = ${sid}) tokens,
             (select count(*)::int from allowance where whole_at < now()) allowances`.execute(database.query)
    return rows[0]
  }
  await execute(`
    create function refuse_many() returns trigger language plpgsql as $$ begin
      if (select count(*) from gone) > 1000 then raise exception 'too many rows for one statement'; end if;
      return null;
    end $$`)
  for (const table of ['session', 'refresh_token', 'allowance'])
    await execute(`
      create trigger in_batches after delete on ${table} referencing old table as gone
      for each statement execute function refuse_many()`)
  try {
    await execute(`
      with ended as (
        insert into session select gen_random_uuid(), '${ana.id}', now(), now() - interval '1 s' from generate_series(1, 1200)
        returning id)
      insert into refresh_token select sha256(id::text::bytea), id, now(), now() - interval '1 s' from ended`)
    // As after a shorter REFRESH_TOKEN_DAYS: the tokens of before outlive their session.
    await execute(`
      insert into refresh_token select sha256(n::text::bytea), '${sid}', now(), now() + interval '1 d', now()
      from generate_series(1, 1200) n`)
    await execute(`update session set expires_at = now() - interval '1 s' where id = '${sid}'`)
    await execute(`insert into allowance select sha256(n::text::bytea), '-infinity' from generate_series(1, 1200) n`)
    await deleteEnded(database.query)
    expect(await left()).toEqual({ sessions: 1, tokens: 1201, allowances: 0 })
    await execute(`update refresh_token set expires_at = now() - interval '1 s' where session_id = '${sid}'`)
    await deleteEnded(database.query)
    expect(await left()).toEqual({ sessions: 0, tokens: 0, allowances: 0 })
  } finally {
    await execute('drop function refuse_many cascade')
  }
})

test('half a staff account, or one with a short password, is an error of the settings', async () => {
  await expect(startUser(world, { STAFF_EMAIL: 's@example.com' })).rejects.toThrow(/belong together/)
  const wrong = { STAFF_EMAIL: 'staff', STAFF_PASSWORD: 'short' }
  await expect(startUser(world, wrong)).rejects.toThrow(/STAFF_EMAIL must.*\n.*STAFF_PASSWORD must/)
})

test('before the first signing key is read, metrics say none that expires', async () => {
  const expiry = /^shopstream_signing_key_expiry_timestamp_seconds\S* (\d+)/m
  const service = await buildUser(testConfig(world), world.logger)
  const metrics = async () => (await service.http.inject('/metrics')).body
  try {
    expect(await metrics()).not.toMatch(expiry)
    await service.start()
    const expires = await eventually('the key', async () => Number(expiry.exec(await metrics())?.[1] ?? 0))
    expect(expires).toBeGreaterThan(Date.now() / 1_000)
  } finally {
    await service.stop()
  }
})
