import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createDatabase } from '@shopstream/database'
import { createMessaging, kafkaOptions, openKafkaBus } from '@shopstream/messaging'
import { createMetrics } from '@shopstream/observability'
import { createWorld, eventually, type Mail, type MailSink, startMailSink, type World } from '@shopstream/testing'
import { consumes } from './consumes.ts'
import { produces } from './produces.ts'
import { orderOf, person, startNotification, type TestNotification } from './testing.ts'

let world: World
let sink: MailSink
let service: TestNotification
let other: TestNotification

beforeAll(async () => {
  world = await createWorld('notification')
  sink = await startMailSink()
  await world.publishSigningKey()
  // Two instances on one database, as in a deployment.
  service = await startNotification(world, sink.smtpUrl)
  other = await startNotification(world, sink.smtpUrl)
  await eventually('readiness', async () => (await service.get('/readyz')).status === 200)
})
afterAll(async () => {
  await service.stop()
  await other.stop()
  await sink.close()
  await world.close()
})

const mailsTo = (email: string) => sink.mails().filter((mail) => mail.to.some(({ address }) => address === email))
const mailTo = async (email: string, count = 1): Promise<Mail[]> => {
  await eventually(`${count} mails to ${email}`, () => mailsTo(email).length >= count)
  return mailsTo(email)
}
const causeIdOf = (headers: Record<string, unknown> | undefined) => String(headers?.ce_id)

const hasReadAll = async (group: string) => {
  const positions = await world.bus.positions(group, ['shop.user.v1', 'shop.order.v1'])
  return positions.length > 0 && positions.every(({ done, end }) => done === end)
}

/** Until everything published has been handled, and every mail that follows from it is out. */
async function everythingDone() {
  await eventually('all events handled', () => hasReadAll('notification'))
  await eventually('all mails sent', async () =>
    (await service.get('/metrics')).body.includes('shopstream_notifications{state="queued",service="notification"} 0'),
  )
}

test('registering is answered by a welcome mail, and the mail by an event', async () => {
  const ana = person('山田 "太郎" Ñandú')
  const [message] = await world.publish(ana.registered())
  const [mail] = await mailTo(ana.email)
  const causeId = causeIdOf(message?.headers)
  expect(mail).toMatchObject({
    subject: expect.stringContaining('welcome'),
    from: [{ address: 'shop@example.com', name: 'shopstream' }],
    to: [{ address: ana.email, name: '' }],
    headers: { 'message-id': `<${causeId}@shopstream.local>` },
  })
  expect(mail?.text).toContain('Hello,')
  expect(mail?.text).not.toContain('山田')
  expect(mail?.html).not.toContain('山田')
  await eventually('sent', async () => (await service.notificationsOf(ana.userId))[0]?.state === 'sent')
  const [listed] = await service.notificationsOf(ana.userId)
  expect(listed).toEqual({
    id: expect.any(String),
    kind: 'welcome',
    to: ana.email,
    subject: mail?.subject,
    causeId,
    state: 'sent',
    attempts: 1,
    createdAt: expect.any(String),
    sentAt: expect.any(String),
  })
  await eventually('the event', () => world.events('NotificationSent').some(({ key }) => key === listed?.id))
  const sent = world.events('NotificationSent').find(({ key }) => key === listed?.id)
  expect(sent).toMatchObject({
    sequence: 1n,
    data: {
      notificationId: listed?.id,
      userId: ana.userId,
      kind: 'welcome',
      causeId,
      messageId: `<${causeId}@shopstream.local>`,
    },
  })
  const traceOf = (traceparent: unknown) => String(traceparent).split('-')[1]
  expect(traceOf(sent?.traceparent)).toBe(traceOf(message?.headers.traceparent))
})

test.each([
  ['confirmed', ['2 × tea at €6.25', 'Total: €12.50']],
  ['rejected', ['tea: 2 ordered, 1 in stock']],
  ['shipped', ['Post & Sons', 'RR123']],
  ['cancelled', ['was cancelled']],
] as const)('an order that is %s is told of', async (kind, texts) => {
  const ana = person()
  const order = orderOf(ana.userId)
  await world.publish(ana.registered())
  await mailTo(ana.email)
  const [message] = await world.publish(order[kind]())
  const mail = (await mailTo(ana.email, 2)).find(({ subject }) => subject.includes(kind))
  expect(mail?.subject).toContain(order.orderId)
  expect(mail?.headers['message-id']).toBe(`<${causeIdOf(message?.headers)}@shopstream.local>`)
  for (const text of texts) expect(mail?.text).toContain(text)
  expect(mail?.html).not.toContain('<b>')
  expect(mail?.text).not.toContain('too late')
  expect((await service.notificationsOf(ana.userId)).map(({ kind: each, orderId }) => [each, orderId])).toEqual([
    ['welcome', undefined],
    [kind, order.orderId],
  ])
})

test('a cause that comes before its recipient waits, and is sent once that arrives', async () => {
  const ana = person()
  const order = orderOf(ana.userId)
  await world.publish(order.confirmed(), order.shipped())
  await eventually('both waiting', async () => (await service.notificationsOf(ana.userId)).length === 2)
  expect(await service.notificationsOf(ana.userId)).toMatchObject([
    { kind: 'confirmed', state: 'awaiting-recipient', to: null, attempts: 0, sentAt: null },
    { kind: 'shipped', state: 'awaiting-recipient', to: null, attempts: 0, sentAt: null },
  ])
  await world.publish(ana.registered())
  const subjects = (await mailTo(ana.email, 3)).map(({ subject }) => subject).join()
  for (const kind of ['welcome', 'confirmed', 'shipped']) expect(subjects).toContain(kind)
})

test('many causes and their recipients that come at the same moment all meet', async () => {
  const all = Array.from({ length: 60 }, () => person())
  const causes = all.map(({ userId }) => orderOf(userId).confirmed())
  await Promise.all([world.publish(...all.map((each) => each.registered())), world.publish(...causes)])
  for (const { email } of all) await mailTo(email, 2)
  await everythingDone()
  expect(all.map(({ email }) => mailsTo(email).length)).toEqual(all.map(() => 2))
})

test('the same event delivered three times is one mail', async () => {
  const ana = person()
  const order = orderOf(ana.userId)
  const messages = await world.publish(ana.registered(), order.confirmed(), order.shipped())
  await world.bus.publish(messages)
  await mailTo(ana.email, 3)
  await world.bus.publish(messages)
  await world.publish(ana.registered()) // published anew, as by a repair: another event id, the same sequence
  await everythingDone()
  expect(mailsTo(ana.email)).toHaveLength(3)
})

test('reading all topics again from the beginning sends nothing twice', async () => {
  const before = new Map(sink.mails().map((mail) => [mail.headers['message-id'], mail]))
  expect(before.size).toBeGreaterThan(3)
  const { DATABASE_URL: url } = world.settings
  const database = createDatabase<unknown>({ url, poolSize: 3, applicationName: 'again', logger: world.logger })
  const metrics = createMetrics('again')
  // Another group on the same database stands at the beginning, as the service's own does after a reset.
  const again = createMessaging({
    service: 'notification-again',
    database,
    bus: await openKafkaBus({ ...kafkaOptions(world.settings), clientId: 'again', logger: world.logger, metrics }),
    consumes,
    produces,
    logger: world.logger,
    metrics,
  })
  again.start()
  await eventually('all read again', () => hasReadAll('notification-again'))
  await again.stop()
  await database.close()
  await everythingDone()
  const ids = sink.mails().map(({ headers }) => headers['message-id'])
  expect(new Set(ids).size).toBe(ids.length)
})

test('a name that would break out of a header does not', async () => {
  const eve = person('Eve\r\nBcc: victim@example.com\r\n\r\nOh')
  await world.publish(eve.registered())
  const [mail] = await mailTo(eve.email)
  expect(mail?.to).toEqual([{ address: eve.email, name: '' }])
  expect(Object.keys(mail?.headers ?? {})).not.toContain('bcc')
  expect(mailsTo('victim@example.com')).toEqual([])
})

test('a later address is where later mails go', async () => {
  const ana = person()
  await world.publish(ana.registered())
  await mailTo(ana.email)
  const moved = `moved-${ana.email}`
  await world.publish(ana.moved(moved))
  await everythingDone()
  await world.publish(orderOf(ana.userId).confirmed())
  await mailTo(moved)
  expect((await service.notificationsOf(ana.userId)).map(({ to }) => to)).toEqual([ana.email, moved])
})

test('everyone lists their own, staff anybody’s, in pages', async () => {
  const [ana, eve] = [person(), person()]
  const order = orderOf(ana.userId)
  await world.publish(ana.registered(), eve.registered(), order.confirmed(), order.shipped())
  await mailTo(ana.email, 3)
  await mailTo(eve.email)
  await eventually('all marked sent', async () => {
    return (await service.notificationsOf(ana.userId)).every(({ state }) => state === 'sent')
  })
  const token = await world.token({ id: ana.userId, roles: ['customer'] })

  const own = (await service.get('/v1/notifications', token)).body
  expect(own.items.map(({ to }: { to: string }) => to)).toEqual(Array(3).fill(ana.email))
  expect(own.nextCursor).toBeNull()
  expect((await service.get(`/v1/notifications?userId=${ana.userId}`, token)).body).toEqual(own)
  expect(await service.get(`/v1/notifications?userId=${eve.userId}`, token)).toMatchObject({
    status: 403,
    body: { code: 'staff-only' },
  })

  const first = (await service.get('/v1/notifications?limit=2', token)).body
  const second = (await service.get(`/v1/notifications?limit=2&cursor=${first.nextCursor}`, token)).body
  expect([...first.items, ...second.items]).toEqual(own.items)
  expect(second.nextCursor).toBeNull()

  const everybody = (await service.get('/v1/notifications?limit=100')).body
  expect(new Set(everybody.items.map(({ to }: { to: string }) => to)).size).toBeGreaterThan(2)
  expect((await service.get(`/v1/notifications?userId=${eve.userId}`)).body.items).toHaveLength(1)
})

test.each(['userId=x', 'limit=0', 'limit=101', 'cursor=x', 'state=sent'])('?%s is refused', async (query) => {
  expect((await service.get(`/v1/notifications?${query}`)).status).toBe(400)
})

test('the backlog can be measured', async () => {
  const { body } = await service.get('/metrics')
  expect(body).toMatch(/shopstream_notifications\{state="queued",service="notification"\} \d+/)
  expect(body).toMatch(/shopstream_oldest_queued_mail_seconds\{service="notification"\} \d/)
  expect(body).toMatch(/shopstream_mail_attempts_total\{kind="welcome",outcome="sent",service="notification"\} \d+/)
})
