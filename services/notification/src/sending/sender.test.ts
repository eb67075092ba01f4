import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals'
import { createWorld, eventually, freePort, startMailSink, type World } from '@shopstream/testing'
import { buildNotification } from '../app.ts'
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
const smtpOf = (readiness: { body: { checks: { name: string }[] } }) =>
  readiness.body.checks.find(({ name }) => name === 'smtp')

test('SMTP away: mails wait, readiness says so, and when it is back each goes out once', async () => {
  const smtpPort = await freePort()
  const service = await start(`smtp://127.0.0.1:${smtpPort}`)
  const people = Array.from({ length: 15 }, () => person())
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
  const people = Array.from({ length: 12 }, () => person())
  await world.publish(...people.map((each) => each.registered()))
  await eventually('as many mails in hand as it has hands', () => inHand === 4)
  isStopping = true
  await service.stop()
  expect(inHand).toBe(4)

  const after = await start(stub.url)
  await eventually('the others', async () => {
    const all = (await Promise.all(people.map(({ userId }) => after.notificationsOf(userId)))).flat()
    return all.length === people.length && all.every(({ state }) => state === 'sent')
  })
  expect(inHand).toBe(12) // none of the four was sent again
})

test('a mail whose sender died is sent by another when its lease has ended, and not before', async () => {
  const stuck = await startSmtpStub({ mail: () => new Promise(() => {}) })
  undo.push(stuck.close)
  const ana = person()
  const stuckFor = {
    lanes: { ...sendingPolicy.lanes, urgent: { concurrency: 1 } },
    attemptMs: 60_000,
    leaseMs: 3_000,
    finishMs: 50,
  }
  const first = await startNotification(world, stuck.url, stuckFor)
  await world.publish(ana.registered())
  await eventually('the claim', async () => (await first.notificationsOf(ana.userId))[0]?.attempts === 1)
  const claimedAt = Date.now()

  const sink = await startMailSink()
  undo.push(() => sink.close())
  const second = await start(sink.smtpUrl)
  await eventually('the mail', () => sink.mails().length === 1)
  expect(Date.now() - claimedAt).toBeGreaterThan(2_000)
  await first.stop()
  await eventually('the state', async () => (await second.notificationsOf(ana.userId))[0]?.state === 'sent')
  expect((await second.notificationsOf(ana.userId))[0]).toMatchObject({ state: 'sent', attempts: 2 })
})

test.each(['shopstream', '', 'shop@example.com\r\nBcc: eve@example.com'])('%j is no sender', async (MAIL_FROM) => {
  const config = { ...world.settings, SMTP_URL: 'smtp://127.0.0.1:1', MAIL_FROM }
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
