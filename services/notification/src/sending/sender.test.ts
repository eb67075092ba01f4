import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import { createDatabase, sql } from '@shopstream/database'
import { createWorld, eventually, freePort, startMailSink, startTcpProxy, type World } from '@shopstream/testing'
import { buildNotification } from '../app.ts'
import type { Tables } from '../tables.ts'
import { orderOf, person, startNotification, startReady } from '../testing.ts'
import { sendingPolicy } from './policy.ts'
import { startSmtpStub } from './smtp-stub.ts'

let world: World
const undo: (() => Promise<void>)[] = []

beforeAll(async () => {
  world = await createWorld('notification')
  await world.publishSigningKey()
})
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})
afterAll(() => world.close())

const start = (...[url, policy]: [string, Parameters<typeof startReady>[3]?]) => startReady(undo, world, url, policy)

/** The world, with a network to its database that can fail. */
async function behindProxy() {
  const url = new URL(world.settings.DATABASE_URL)
  const proxy = await startTcpProxy({ target: Number(url.port) })
  undo.push(() => proxy.close())
  url.hostname = '127.0.0.1'
  url.port = String(proxy.port)
  return { proxy, proxied: { ...world, settings: { ...world.settings, DATABASE_URL: url.href } } }
}
function openDatabase() {
  const { logger, settings } = world
  const url = settings.DATABASE_URL
  const database = createDatabase<Tables>({ url, poolSize: 1, applicationName: 'test', logger })
  undo.push(() => database.close())
  return database
}

const smtpOf = (readiness: { body: { checks: { name: string }[] } }) =>
  readiness.body.checks.find(({ name }) => name === 'smtp')

test('SMTP away: mails wait, readiness says so, and when it is back each goes out once', async () => {
  const smtpPort = await freePort()
  const service = await start(`smtp://127.0.0.1:${smtpPort}`)
  const people = Array.from({ length: sendingPolicy.lanes.urgent.concurrency + 2 }, () => person()) // more than it has hands
  await world.publish(...people.map((each) => each.registered()))
  const states = async () => (await Promise.all(people.map(({ userId }) => service.notificationsOf(userId)))).flat()
  await eventually(
    'all waiting, tried more often than a server may refuse one',
    async () => {
      const all = await states()
      return all.length === people.length && all.every(({ attempts }) => attempts > sendingPolicy.refused.attempts)
    },
    { timeoutMs: 40_000 },
  )
  expect(new Set((await states()).map(({ state }) => state))).toEqual(new Set(['queued']))
  const readiness = await service.get('/readyz')
  expect(readiness).toMatchObject({ status: 200, body: { status: 'degraded' } })
  expect(smtpOf(readiness)).toMatchObject({ status: 'failed', reason: expect.stringContaining('mails wait') })

  const sink = await startMailSink({ smtpPort })
  undo.push(() => sink.close())
  await eventually('all sent', async () => (await states()).every(({ state }) => state === 'sent'))
  const to = sink.mails().map((mail) => mail.to[0]?.address)
  expect(to.toSorted()).toEqual(people.map(({ email }) => email).toSorted())
  expect(smtpOf(await service.get('/readyz'))).toMatchObject({ status: 'ok' })
})

test('mails go out also after the clock was set back by an hour', async () => {
  const stub = await startSmtpStub({})
  undo.push(stub.close)
  const service = await start(stub.url)
  const sent = async (someone: ReturnType<typeof person>) => {
    await world.publish(someone.registered())
    await eventually('the mail', async () => (await service.notificationsOf(someone.userId))[0]?.state === 'sent')
  }
  const systemTime = Date.now
  const clock = jest.spyOn(Date, 'now')
  undo.push(async () => clock.mockRestore())
  for (const _ of Array(3)) {
    clock.mockImplementation(() => systemTime() + 3_600_000)
    await sent(person())
    await delay(130) // the sender looks every 100 ms, and mostly waits between: it is set back in one of these pauses
    clock.mockImplementation(systemTime)
    await sent(person())
  }
})

test('a recipient that is refused for good has failed after some attempts, and others are not held up', async () => {
  const gone = person()
  const stub = await startSmtpStub({
    recipient: (address) => (address === gone.email ? `550 5.1.1 <${address}>: no such user` : '250 ok'),
  })
  undo.push(stub.close)
  const service = await start(stub.url)
  const ana = person()
  await world.publish(gone.registered(), ana.registered())
  await eventually('the failure', async () => (await service.notificationsOf(gone.userId))[0]?.state === 'failed')
  await eventually('the other mail', async () => (await service.notificationsOf(ana.userId))[0]?.state === 'sent')
  expect((await service.notificationsOf(gone.userId))[0]).toMatchObject({ attempts: 3, sentAt: null })
  await eventually('the event', () => world.events('NotificationFailed').length > 0)
  const [failed] = world.events('NotificationFailed')
  expect(failed).toMatchObject({ sequence: 1n, data: { userId: gone.userId, reason: 'SMTP 550 5.1.1 at RCPT TO' } })
})

test('a recipient that is refused for now is tried until it is not', async () => {
  const ana = person()
  let refusals = 0
  const stub = await startSmtpStub({
    recipient: (address) => (address === ana.email && ++refusals <= 5 ? '451 4.7.1 try again' : '250 ok'),
  })
  undo.push(stub.close)
  const service = await start(stub.url)
  await world.publish(ana.registered())
  await eventually('the mail', async () => (await service.notificationsOf(ana.userId))[0]?.state === 'sent')
  expect((await service.notificationsOf(ana.userId))[0]).toMatchObject({ attempts: 6 })
})

test('stopping finishes the mails in hand', async () => {
  let inHand = 0
  let isStopping = false
  const stub = await startSmtpStub({
    async mail() {
      inHand++
      // A server slower than everything else takes to stop.
      if (!isStopping) {
        await eventually('the service being told to stop', () => isStopping)
        await delay(1_500)
      }
      return '250 accepted'
    },
  })
  undo.push(stub.close)
  const service = await startNotification(world, stub.url)
  const hands = sendingPolicy.lanes.urgent.concurrency
  const people = Array.from({ length: hands + 4 }, () => person())
  await world.publish(...people.map((each) => each.registered()))
  await eventually('as many mails in hand as it has hands', () => inHand === hands)
  isStopping = true
  await service.stop()
  expect(inHand).toBe(hands)

  const after = await start(stub.url)
  await eventually('the others', async () => {
    const all = (await Promise.all(people.map(({ userId }) => after.notificationsOf(userId)))).flat()
    return all.length === people.length && all.every(({ state }) => state === 'sent')
  })
  expect(inHand).toBe(people.length) // none of the first was sent again
})

test('a mail whose sender died is sent by another when its lease has ended, and not before', async () => {
  const stuck = await startSmtpStub({ mail: () => new Promise(() => {}) })
  undo.push(stuck.close)
  const ana = person()
  const stuckFor = { lanes: { ...sendingPolicy.lanes, urgent: { concurrency: 1 } }, leaseMs: 3_000, finishMs: 50 }
  const { proxy, proxied } = await behindProxy()
  const first = await startNotification(proxied, stuck.url, stuckFor)
  await world.publish(ana.registered())
  await eventually('the claim', async () => (await first.notificationsOf(ana.userId))[0]?.attempts === 1)
  const claimedAt = Date.now()
  proxy.cut() // as good as dead to the others

  const sink = await startMailSink()
  undo.push(() => sink.close())
  const second = await start(sink.smtpUrl)
  await eventually('the mail', () => sink.mails().length === 1)
  expect(Date.now() - claimedAt).toBeGreaterThan(2_000)
  await first.stop()
  await eventually('the state', async () => (await second.notificationsOf(ana.userId))[0]?.state === 'sent')
  expect((await second.notificationsOf(ana.userId))[0]).toMatchObject({ state: 'sent', attempts: 2 })
})

test('answers that come later than leases end are waited for, by nobody else and with nothing sent twice', async () => {
  const released = Promise.withResolvers<void>()
  const got: string[] = []
  const stub = await startSmtpStub({
    async mail(address) {
      got.push(address)
      if (address.startsWith('late')) await released.promise
      return '250 accepted'
    },
  })
  undo.push(stub.close)
  const impatient = { leaseMs: 600, asideMs: 50, silentMs: 500 }
  const services = [await start(stub.url, impatient), await start(stub.url, impatient)]
  const late = Array.from({ length: 12 }, (_, n) => person('Late', `late-${n}@example.com`))
  const ana = person()
  await world.publish(...late.map((each) => each.registered()), ana.registered())
  await eventually('the mail to somebody else', () => got.includes(ana.email))
  await eventually('all others to wait for their answers', () => got.length === late.length + 1)
  await delay(2_000) // more than three leases
  const checks = await Promise.all(services.map(async (service) => smtpOf(await service.get('/readyz'))))
  expect(checks).toContainEqual(
    expect.objectContaining({ status: 'failed', reason: expect.stringContaining('has answered nothing for') }),
  )
  released.resolve()
  const listed = async () => (await Promise.all(late.map(({ userId }) => services[0]?.notificationsOf(userId)))).flat()
  await eventually('all sent', async () => (await listed()).every((one) => one?.state === 'sent'))
  expect(got).toHaveLength(late.length + 1)
  for (const service of services) expect(smtpOf(await service.get('/readyz'))).toMatchObject({ status: 'ok' })
})

test('requests that hold all connections that are theirs end no claim, so no mail goes out twice', async () => {
  const released = Promise.withResolvers<void>()
  const [ana, eve] = [person(), person()]
  const got: string[] = []
  const stub = await startSmtpStub({
    async mail(address) {
      got.push(address)
      if (address === ana.email) await released.promise
      return '250 accepted'
    },
  })
  undo.push(stub.close)
  const url = new URL(world.settings.DATABASE_URL)
  url.searchParams.set('options', '-c lock_timeout=0')
  const patient = { ...world, settings: { ...world.settings, DATABASE_URL: url.href } }
  const impatient = { leaseMs: 600, asideMs: 50 }
  const first = await startReady(undo, patient, stub.url, impatient)
  await world.publish(ana.registered(), eve.registered())
  await eventually('ana’s data', () => got.includes(ana.email))
  await eventually('eve’s mail', async () => (await first.notificationsOf(eve.userId))[0]?.state === 'sent')

  const database = openDatabase()
  const holder = await database.session('holder', { idle_in_transaction_session_timeout: 0 })
  undo.push(() => holder.close())
  await holder.query('begin')
  await holder.query(`select from recipient where user_id = '${eve.userId}' for update`)
  const { DATABASE_POOL_SIZE: poolSize } = world.settings
  const authorization = `Bearer ${await world.token({ id: eve.userId, roles: ['customer'] })}`
  const choose = () =>
    first.ask({
      method: 'PUT',
      url: '/v1/notifications/preferences',
      headers: { authorization, 'content-type': 'application/json' },
      payload: JSON.stringify({ mailings: true }),
    })
  const asking = Array.from({ length: poolSize }, choose)
  await eventually('all connections to be taken', async () => {
    const { rows } = await sql`
      select from pg_stat_activity
      where datname = current_database() and application_name = 'notification' and wait_event_type = 'Lock'`.execute(
      database.query,
    )
    return rows.length === poolSize
  })
  await start(stub.url, impatient)
  const leaseEnds = new Set<number>()
  await eventually('three more leases', async () => {
    const [row] = await holder.query<{ end: Date }>(
      `select next_attempt_at "end" from notification where user_id = '${ana.userId}'`,
    )
    return leaseEnds.add(Number(row?.end)).size > 10 // each is renewed three times
  })
  expect(got).toEqual(expect.arrayContaining([ana.email, eve.email]))
  expect(got).toHaveLength(2)
  await holder.query('commit')
  await Promise.all(asking)
  released.resolve()
})

test('a mail after which the server breaks off goes out some times with one Message-ID, and then it is said', async () => {
  const seen: { messageId: string | undefined; at: number }[] = []
  let isGood = false
  const gone = person()
  const stub = await startSmtpStub({
    async mail(address, lines) {
      if (address !== gone.email) return '250 accepted'
      seen.push({ messageId: lines.find((line) => /^message-id:/i.test(line)), at: performance.now() })
      return isGood ? '250 accepted' : undefined
    },
  })
  undo.push(stub.close)
  const service = await start(stub.url, { unknown: { baseMs: 200, maxMs: 5_000, attempts: 4 } })
  await world.publish(gone.registered())
  await eventually('the failure', async () => (await service.notificationsOf(gone.userId))[0]?.state === 'failed')
  const reason = "outcome unknown: no answer after the mail's data (ECONNECTION)"
  const [failed] = await service.notificationsOf(gone.userId)
  expect(failed).toMatchObject({ attempts: 4, sentAt: null, reason })
  expect(new Set(seen.map(({ messageId }) => messageId)).size).toBe(1)
  const pauses = seen.slice(1).map(({ at }, n) => at - (seen[n]?.at as number))
  for (const [n, pause] of pauses.entries()) expect(pause).toBeGreaterThan(0.75 * 200 * 2 ** n)
  await eventually('the event', () => world.events('NotificationFailed').some(({ key }) => key === failed?.id))
  expect(world.events('NotificationFailed').find(({ key }) => key === failed?.id)?.data.reason).toBe(reason)
  const readiness = await service.get('/readyz')
  expect(readiness.body.status).toBe('degraded')
  expect(smtpOf(readiness)).toMatchObject({ reason: expect.stringContaining('the last 4 attempts without an answer') })

  isGood = true
  expect((await service.post(`/v1/notifications/${failed?.id}/resend`, {})).status).toBe(202)
  await eventually('the mail', async () => (await service.notificationsOf(gone.userId))[0]?.state === 'sent')
  expect(smtpOf(await service.get('/readyz'))).toMatchObject({ status: 'ok' })
  expect((await service.notificationsOf(gone.userId))[0]).not.toHaveProperty('reason')
  expect(seen).toHaveLength(5)
})

test('of a mail that a stopping service cannot finish, the outcome is unknown, and it is not sent again at once', async () => {
  let times = 0
  const ana = person()
  const stub = await startSmtpStub({
    async mail(address) {
      if (address !== ana.email) return '250 accepted'
      times += 1
      return new Promise(() => {})
    },
  })
  undo.push(stub.close)
  const policy = { finishMs: 100, unknown: { ...sendingPolicy.unknown, baseMs: 600_000 } }
  const first = await startNotification(world, stub.url, policy)
  await world.publish(ana.registered())
  await eventually('the data', () => times === 1)
  await first.stop()
  const second = await start(stub.url, policy)
  const other = person()
  await world.publish(other.registered())
  await eventually('another mail', async () => (await second.notificationsOf(other.userId))[0]?.state === 'sent')
  expect((await second.notificationsOf(ana.userId))[0]).toMatchObject({
    state: 'queued',
    attempts: 1,
    reason: "outcome unknown: no answer after the mail's data (EABORT)",
  })
})

test('what has gone out while the database was away is noted when it is back, and does not go out again', async () => {
  const { proxy, proxied } = await behindProxy()
  const got: string[] = []
  const stub = await startSmtpStub({
    async mail(address) {
      got.push(address)
      if (got.length === 4) proxy.cut()
      if (got.length <= 4) await eventually('the database to be away', () => proxy.connections === 0)
      return '250 accepted'
    },
  })
  undo.push(stub.close)
  const service = await startReady(undo, proxied, stub.url, { leaseMs: 600 })
  const people = Array.from({ length: 12 }, () => person())
  await world.publish(...people.map((each) => each.registered()))
  await eventually('the database to be away', () => got.length >= 4 && proxy.connections === 0)
  await delay(2_000) // more than three leases
  proxy.heal()
  const listed = async () => (await Promise.all(people.map(({ userId }) => service.notificationsOf(userId)))).flat()
  await eventually('all sent', async () => {
    const all = await listed()
    return all.length === people.length && all.every(({ state }) => state === 'sent')
  })
  expect(got.toSorted()).toEqual(people.map(({ email }) => email).toSorted())
})

test('an address that the server cannot take fails with a reason, and nothing of it is sent', async () => {
  const got: string[] = []
  const stub = await startSmtpStub({
    recipient(address) {
      got.push(address)
      return '250 ok'
    },
  })
  undo.push(stub.close)
  const service = await start(stub.url)
  const [remy, ana] = [person('Rémy', 'rémy@example.com'), person()]
  await world.publish(remy.registered(), ana.registered())
  await eventually('the failure', async () => (await service.notificationsOf(remy.userId))[0]?.state === 'failed')
  await eventually('the other mail', async () => (await service.notificationsOf(ana.userId))[0]?.state === 'sent')
  expect((await service.notificationsOf(remy.userId))[0]).toMatchObject({
    reason: 'the address needs SMTPUTF8, which the SMTP server does not offer',
  })
  expect(got).toEqual([ana.email])
})

test.each(['shopstream', '', 'shop@example.com\r\nBcc: eve@example.com'])('%j is no sender', async (MAIL_FROM) => {
  const config = { ...world.settings, SMTP_URL: 'smtp://127.0.0.1:1', SMTP_ANSWER_TIMEOUT_SECONDS: 600, MAIL_FROM }
  await expect(buildNotification(config, world.logger)).rejects.toThrow('MAIL_FROM must hold one email address')
})

test('an erased user is written to no more, and no trace of the address is left', async () => {
  const smtpPort = await freePort()
  const service = await start(`smtp://127.0.0.1:${smtpPort}`)
  const [ana, late] = [person(), person()]
  await world.publish(ana.registered())
  await eventually('an attempt', async () => ((await service.notificationsOf(ana.userId))[0]?.attempts ?? 0) > 0)
  expect((await service.notificationsOf(ana.userId))[0]).toMatchObject({ to: ana.email })
  await world.publish(ana.erased())
  await eventually('the erasure', async () => (await service.notificationsOf(ana.userId))[0]?.state === 'cancelled')
  await world.publish(orderOf(ana.userId).confirmed(), late.registered())
  await eventually('what came later', async () => (await service.notificationsOf(ana.userId)).length === 2)
  expect(await service.notificationsOf(ana.userId)).toMatchObject([
    { kind: 'welcome', state: 'cancelled', to: null },
    { kind: 'confirmed', state: 'cancelled', to: null },
  ])
  const sink = await startMailSink({ smtpPort })
  undo.push(() => sink.close())
  await eventually('the mail to somebody else', () => sink.mails().length > 0)
  expect(sink.mails().flatMap(({ to }) => to.map(({ address }) => address))).toEqual([late.email])
})
