import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import { createDatabase } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { createWorld, eventually, freePort, startMailSink, type World } from '@shopstream/testing'
import { sendingPolicy } from '../sending/policy.ts'
import { startSmtpStub } from '../sending/smtp-stub.ts'
import type { Tables } from '../tables.ts'
import { insertRecipients, orderOf, person, startNotification, startReady } from '../testing.ts'
import { createOptOutLinks } from './opt-out.ts'
import { causeOfMailing } from './queries.ts'

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

const patience = { timeoutMs: 90_000 }
const unhurried = { lanes: { ...sendingPolicy.lanes, bulk: { concurrency: 2 } } }

const start = (url: string) => startReady(undo, world, url, unhurried)

test('a mailing reaches each known user once, erased ones not, and can be followed', async () => {
  const sink = await startMailSink()
  undo.push(sink.close)
  const service = await start(sink.smtpUrl)
  const [ana, eve, gone] = [person('Ana'), person('Eve'), person('Gone')]
  await world.publish(ana.registered(), eve.registered(), gone.registered())
  await eventually('the welcomes', () => sink.mails().length === 3)
  await world.publish(gone.erased())
  const everybody = async () => (await service.get('/v1/notifications?limit=100')).body.items
  await eventually('the erasure', async () => (await service.notificationsOf(gone.userId))[0]?.to === null)

  const made = await service.post('/v1/mailings', { subject: 'Summer sale', text: 'Hello all,\n\ncome & see.' })
  expect(made).toMatchObject({ status: 202, body: { subject: 'Summer sale', sent: 0, failed: 0 } })
  const { location } = made.headers
  expect(location).toBe(`/v1/mailings/${made.body.id}`)
  const done = await eventually('the mailing to be through', async () => {
    const { body } = await service.get(location as string)
    return body.state === 'done' && body
  })
  expect(done).toMatchObject({ recipients: 2, sent: 2, failed: 0, cancelled: 0 })
  const mails = sink.mails().filter(({ subject }) => subject === 'Summer sale')
  expect(mails.map(({ to }) => to[0]?.address).toSorted()).toEqual([ana.email, eve.email].toSorted())
  const toAna = mails.find(({ to }) => to[0]?.address === ana.email)
  expect(toAna?.headers).toMatchObject({
    'message-id': `<${causeOfMailing(made.body.id, ana.userId)}@shopstream.local>`,
    precedence: 'bulk',
  })
  expect(toAna?.html).toContain('<p>come &amp; see.</p>')
  expect((await everybody()).filter(({ kind }: { kind: string }) => kind === 'mailing')).toHaveLength(2)
  const [, listed] = await service.notificationsOf(ana.userId)
  expect(listed).toMatchObject({ kind: 'mailing', mailingId: made.body.id, state: 'sent', subject: 'Summer sale' })
  await eventually(
    'the events',
    () => world.events('NotificationSent').filter(({ data }) => data.kind === 'mailing').length === 2,
  )
})

test('who opts out gets no mailing, queued or later, and still the mails of orders; all by the link, without a login', async () => {
  const smtpPort = await freePort()
  const service = await start(`smtp://127.0.0.1:${smtpPort}`) // away until all is said
  const [ana, eve] = [person('Ana'), person('Eve')]
  const token = await world.token({ id: ana.userId, roles: ['customer'] })
  const choice = async () => (await service.get('/v1/notifications/preferences', token)).body
  await world.publish(ana.registered(), eve.registered())
  await eventually('both', async () => (await service.notificationsOf(eve.userId)).length === 1)
  expect(await choice()).toEqual({ mailings: true })
  const mailing = async (subject: string) => {
    const { headers } = await service.post('/v1/mailings', { subject, text: 'Hello all.' })
    const progress = async () => (await service.get(headers.location as string)).body
    await eventually('the mailing to be filled', async () => (await progress()).state !== 'filling')
    return progress
  }
  const queued = await mailing('Queued')
  const mailOf = async (userId: string) =>
    (await service.notificationsOf(userId)).find(({ kind }) => kind === 'mailing')
  await eventually('the mails', async () => (await mailOf(ana.userId)) && (await mailOf(eve.userId)))

  const links = createOptOutLinks(openDatabase(), 'https://shop.example.org/')
  await links.load()
  const url = new URL(links.linkOf(ana.userId) as string).pathname
  const page = await service.ask({ method: 'GET', url })
  expect([page.statusCode, page.headers['content-type']]).toEqual([200, 'text/html; charset=utf-8'])
  expect(page.body).toContain('<form method="post">')
  expect(await choice()).toEqual({ mailings: true }) // programs that look into links choose nothing
  const post = (payload: string, type: string, to = url) =>
    service.ask({ method: 'POST', url: to, payload, headers: { 'content-type': type } })
  const form = 'application/x-www-form-urlencoded'
  expect((await post('List-Unsubscribe=No', form)).statusCode).toBe(400)
  expect((await post('List-Unsubscribe=One-Click', form, `${url.slice(0, -5)}AAAAA`)).statusCode).toBe(404)
  expect((await post('{', 'multipart/form-data')).statusCode).toBe(400)
  expect(await choice()).toEqual({ mailings: true })
  const multipart = '--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n'
  for (const [payload, type] of [
    ['List-Unsubscribe=One-Click', form],
    [multipart, 'multipart/form-data; boundary=x'],
  ] as const) {
    const done = await post(payload, type)
    expect([done.statusCode, done.body]).toEqual([200, expect.stringContaining('no more mailings')])
  }
  expect((await post('subject=News&text=None', form, '/v1/mailings')).statusCode).toBe(401)
  expect(await choice()).toEqual({ mailings: false })
  expect(await queued()).toMatchObject({ cancelled: 1 })
  const later = await mailing('Later')
  expect((await service.notificationsOf(ana.userId)).map(({ state }) => state)).toEqual(['queued', 'cancelled'])

  const sink = await startMailSink({ smtpPort })
  undo.push(sink.close)
  await world.publish(orderOf(ana.userId).confirmed())
  await eventually('all mails', async () => (await later()).state === 'done' && (await queued()).state === 'done')
  const to = (email: string) => sink.mails().filter((mail) => mail.to[0]?.address === email)
  await eventually('both mails to her', () => to(ana.email).length === 2)
  // Several go out at once, so either may arrive first.
  expect(
    to(ana.email)
      .map(({ subject }) => subject)
      .sort(),
  ).toEqual([expect.stringContaining('welcome'), expect.stringContaining('confirmed')])
  const news = to(eve.email).find(({ subject }) => subject === 'Later')
  const link = links.linkOf(eve.userId)
  expect(link).toMatch(/^https:\/\/shop\.example\.org\/v1\/mailings\/opt-out\/[\w-]{43}$/)
  expect(news?.headers).toMatchObject({
    'list-unsubscribe': `<${link}>`,
    'list-unsubscribe-post': 'List-Unsubscribe=One-Click',
  })
  expect(news?.text).toContain(link)
  expect(to(ana.email)[0]?.headers).not.toHaveProperty('list-unsubscribe')

  const sent = (await service.notificationsOf(eve.userId)).find(({ subject }) => subject === 'Later')
  const eveToken = await world.token({ id: eve.userId, roles: ['customer'] })
  const put = (mailings: unknown, as: string) =>
    service.ask({
      method: 'PUT',
      url: '/v1/notifications/preferences',
      payload: JSON.stringify({ mailings }),
      headers: { authorization: `Bearer ${as}`, 'content-type': 'application/json' },
    })
  expect((await put('no', eveToken)).statusCode).toBe(400)
  expect((await put(false, eveToken)).json()).toEqual({ mailings: false })
  expect((await service.post(`/v1/notifications/${sent?.id}/resend`, {})).body.code).toBe('opted-out')
  expect((await put(true, token)).json()).toEqual({ mailings: true })
  expect(await choice()).toEqual({ mailings: true })
})

test('mailings and resending are for staff; what would break a mail is refused', async () => {
  const service = await start('smtp://127.0.0.1:1')
  const customer = await world.token({ id: newEventId(), roles: ['customer'] })
  const body = { subject: 'News', text: 'text' }
  expect((await service.post('/v1/mailings', body, customer)).status).toBe(403)
  expect((await service.get(`/v1/mailings/${newEventId()}`, customer)).status).toBe(403)
  expect((await service.post(`/v1/notifications/${newEventId()}/resend`, {}, customer)).status).toBe(403)
  expect((await service.get(`/v1/mailings/${newEventId()}`)).body.code).toBe('mailing-not-found')
  expect((await service.post(`/v1/notifications/${newEventId()}/resend`, {})).body.code).toBe('notification-not-found')
  for (const wrong of [
    { subject: 'News\r\nBcc: eve@example.com' },
    { subject: ' ' },
    { subject: 'x'.repeat(201) },
    { text: '' },
    { text: ' \n ' },
    { text: 'a\u0000b' },
    { text: 'x'.repeat(20_001) },
  ]) {
    expect(await service.post('/v1/mailings', { ...body, ...wrong })).toMatchObject({
      status: 400,
      body: { errors: [{ field: Object.keys(wrong)[0] }] },
    })
  }
})

test('a mail that was sent goes out again on request, as another mail, and it is kept who asked', async () => {
  const sink = await startMailSink()
  undo.push(sink.close)
  const service = await start(sink.smtpUrl)
  const ana = person()
  const mine = () => sink.mails().filter(({ to }) => to[0]?.address === ana.email)
  await world.publish(ana.registered())
  const sent = await eventually('the welcome', async () => {
    const [first] = await service.notificationsOf(ana.userId)
    return first?.state === 'sent' && first
  })
  const { id, causeId } = sent as { id: string; causeId: string }
  const staffId = newEventId()
  const staff = await world.token({ id: staffId, roles: ['staff'] })
  const again = await service.post(`/v1/notifications/${id}/resend`, {}, staff)
  expect(again).toMatchObject({ status: 202, body: { id, state: 'queued' } })
  await eventually('the second mail', async () => mine().length === 2)
  await eventually('its record', async () => (await service.notificationsOf(ana.userId))[0]?.state === 'sent')
  expect((await service.notificationsOf(ana.userId))[0]).toMatchObject({ state: 'sent', resends: 1, attempts: 2 })
  const ids = mine().map(({ headers }) => headers['message-id'])
  expect(ids).toEqual([`<${causeId}@shopstream.local>`, `<${causeId}.1@shopstream.local>`])
  await eventually('both events', () => world.events('NotificationSent').filter(({ key }) => key === id).length === 2)
  expect(world.events('NotificationSent').filter(({ key }) => key === id)).toMatchObject([
    { sequence: 1n, data: { messageId: ids[0] } },
    { sequence: 2n, data: { messageId: ids[1] } },
  ])

  const database = openDatabase()
  const kept = await database.query.selectFrom('resend').selectAll().where('notification_id', '=', id).execute()
  expect(kept).toMatchObject([{ number: 1, former_state: 'sent', requested_by: staffId }])
  await world.publish(ana.erased())
  await eventually('the erasure', async () => (await service.notificationsOf(ana.userId))[0]?.to === null)
  expect((await service.post(`/v1/notifications/${id}/resend`, {})).body.code).toBe('no-recipient')
})

test('who opts out, or is erased, while the server lets a mail wait is not written to any more', async () => {
  const released = Promise.withResolvers<void>()
  const [ana, eve] = [person('Ana'), person('Eve')]
  const asked: string[] = []
  const got: string[] = []
  let isSlow = false
  const stub = await startSmtpStub({
    async recipient(address) {
      asked.push(address)
      if (isSlow && [ana.email, eve.email].includes(address)) await released.promise
      return '250 ok'
    },
    async mail(address) {
      got.push(address)
      return '250 accepted'
    },
  })
  undo.push(stub.close)
  const policy = { ...unhurried, asideMs: 50, lookAgainMs: 0 }
  const service = await startNotification(world, stub.url, policy)
  try {
    await world.publish(ana.registered(), eve.registered())
    await eventually('the welcomes', () => [ana, eve].every(({ email }) => got.includes(email)))
    isSlow = true
    const openDataOf = (email: string) =>
      asked.filter((to) => to === email).length - got.filter((to) => to === email).length
    await world.publish(orderOf(ana.userId).confirmed())
    await eventually('the order mail to wait', () => openDataOf(ana.email) === 1)
    await service.post('/v1/mailings', { subject: 'News', text: 'text' })
    await eventually('the mailing to wait', () => openDataOf(eve.email) === 1, patience)
    const choice = await service.ask({
      method: 'PUT',
      url: '/v1/notifications/preferences',
      payload: JSON.stringify({ mailings: false }),
      headers: {
        authorization: `Bearer ${await world.token({ id: eve.userId, roles: ['customer'] })}`,
        'content-type': 'application/json',
      },
    })
    expect(choice.statusCode).toBe(200)
    await world.publish(ana.erased())
    const states = async (userId: string) => (await service.notificationsOf(userId)).map(({ state }) => state)
    await eventually('the erasure', async () => (await states(ana.userId)).slice(1).every((one) => one === 'cancelled'))
    expect(await states(eve.userId)).toEqual(['sent', 'cancelled'])
    got.length = 0
    released.resolve()
  } finally {
    await service.stop() // finishes what is in hand
  }
  expect(got).not.toContain(eve.email)
  expect(got).not.toContain(ana.email)
})

test('with thousands of bulk mails queued at a slow server, an order mail goes ahead of all but those in hand', async () => {
  const count = 2_000
  const accepted: string[] = []
  const released = Promise.withResolvers<void>()
  let inHand = 0
  const stub = await startSmtpStub({
    async mail(address) {
      if (address.startsWith('known-')) {
        inHand += 1
        await released.promise
      }
      accepted.push(address)
      return '250 accepted'
    },
  })
  undo.push(stub.close)
  const service = await start(stub.url)
  await insertRecipients(openDatabase().query, count)
  const ana = person()
  await world.publish(ana.registered())
  await eventually('the welcome', () => accepted.includes(ana.email))
  accepted.length = 0

  const { body: mailing } = await service.post('/v1/mailings', { subject: 'News', text: 'text' })
  const progress = async () => (await service.get(`/v1/mailings/${mailing.id}`)).body
  await eventually('all to be queued', async () => (await progress()).recipients > count, patience)
  await eventually('the bulk lane to have its hands full', () => inHand === unhurried.lanes.bulk.concurrency)
  await world.publish(orderOf(ana.userId).confirmed())
  await eventually('the order mail', () => accepted.includes(ana.email))
  expect(inHand).toBe(unhurried.lanes.bulk.concurrency)
  expect(accepted.filter((address) => address.startsWith('known-'))).toEqual([])

  released.resolve()
  const sent = () => accepted.filter((address) => address.startsWith('known-'))
  await eventually('the mailing to go on', () => sent().length > 20, patience)
  expect(new Set(sent()).size).toBe(sent().length)
}, 180_000)

test('a lane in which no hand is free for long is told of, while mails of the other go out', async () => {
  const released = Promise.withResolvers<void>()
  const got: string[] = []
  const stub = await startSmtpStub({
    async mail(address) {
      if (address.startsWith('known-')) await released.promise
      got.push(address)
      return '250 accepted'
    },
  })
  undo.push(stub.close)
  const service = await startReady(undo, world, stub.url, { ...unhurried, asideMs: 50, asideMax: 2, silentMs: 500 })
  await insertRecipients(openDatabase().query, 20)
  await service.post('/v1/mailings', { subject: 'News', text: 'text' })
  const lane = async (name: string) => {
    const { body } = await service.get('/readyz')
    return [body.status, body.checks.find((check: { name: string }) => check.name === `${name}-mails`)]
  }
  await eventually('the bulk lane to be told of', async () => (await lane('bulk'))[1]?.status === 'failed')
  const ana = person()
  await world.publish(ana.registered())
  await eventually('the welcome', () => got.includes(ana.email))
  expect(await lane('bulk')).toEqual([
    'degraded',
    { name: 'bulk-mails', status: 'failed', reason: expect.stringContaining('4 mails wait for the SMTP server') },
  ])
  expect((await lane('urgent'))[1]).toEqual({ name: 'urgent-mails', status: 'ok' })
  released.resolve()
  await eventually('the bulk lane to go on', async () => (await lane('bulk'))[1]?.status === 'ok')
})

function openDatabase() {
  const { logger, settings } = world
  const url = settings.DATABASE_URL
  const database = createDatabase<Tables>({ url, poolSize: 1, applicationName: 'test', logger })
  undo.push(() => database.close())
  return database
}
