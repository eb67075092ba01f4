/** Mails that notification sends a second, beside nodemailer's pool with the same mails from memory. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { sql } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { eventually, temporaryFolder } from '@shopstream/testing'
import { createTransport } from 'nodemailer'
import { type Shop, startShop } from '../local/shop.ts'
import { findPlace, type Reach, reach } from '../operations/shop-access.ts'
import { startArm } from './arm.ts'
import { environmentOf, startInstance } from './arm-ours.ts'
import type { Say } from './measure.ts'
import { compared, findBest, inTurns, type Result } from './results.ts'
import { type Cause, loadMails, type Recipient } from './services.ts'
import type { Question, Received } from './sink.ts'

const { queueNotifications, composeMail, messageIdOf } = await loadMails()

/** Of each round, for each of its seconds: 5,000 with 10 seconds. */
const mailsPerSecond = 500
/** Each gets one mail after the other; between two of them all others get one. */
const recipientCount = 500
const queuedAtOnce = 1_000
const mostConnections = 64
const patience = { timeoutMs: 300_000, everyMs: 20 }

export async function mails(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const parts = await startParts()
  try {
    const recipients = await makeRecipients(parts)
    const count = mailsPerSecond * seconds
    const pooled = (connections: number, many: number) => sendPooled(parts, recipients, connections, many)
    const connections = await findBest('connections', say, mostConnections, (most) => pooled(most, count / 2))
    const turns = await inTurns(say, {
      ours: () => sendQueued(parts, recipients, count),
      reference: () => pooled(connections, count),
    })
    const reference = { name: `nodemailer's pool, ${connections} connections`, figures: turns.reference }
    return [compared({ name: 'mails', unit: 'mails/s', goal: 0.5, ours: turns.ours, reference })]
  } finally {
    await parts.stop()
  }
}

interface Parts {
  shop: Shop
  held: Reach
  sink: Sink
}
type Sink = Awaited<ReturnType<typeof startSink>>

const startParts = () =>
  startArm(async (undo) => {
    const home = temporaryFolder('bench-mails')
    undo.push(async () => rmSync(home, { recursive: true, force: true }))
    const sink = await startSink()
    undo.push(sink.close)
    const startMail = async () => ({ smtpUrl: sink.url, mails: () => [], close: sink.close })
    const shop = await startShop({ home, only: ['user', 'notification'], startMail })
    undo.push(shop.stop)
    await eventually(
      'notification to be ready',
      async () => (await fetch(`${shop.serviceUrls.notification}/readyz`)).ok,
    )
    await Promise.all(Object.values(shop.services).map((service) => service.stop(5_000)))
    await sink.take() // the staff's welcome
    const held = await reach(findPlace({ SHOPSTREAM_HOME: home }))
    undo.push(held.close)
    return { shop, held, sink }
  })

async function startSink() {
  const child = fork(join(import.meta.dirname, 'sink.ts'))
  const [port] = await once(child, 'message')
  const ask = async (question: Question) => {
    const answer = once(child, 'message')
    child.send(question)
    return (await answer)[0]
  }
  return {
    port: port as number,
    url: `smtp://127.0.0.1:${port}`,
    count: () => ask('count') as Promise<number>,
    take: () => ask('take') as Promise<Received[]>,
    async close() {
      if (!child.connected) return
      child.disconnect()
      await once(child, 'exit')
    },
  }
}

async function makeRecipients({ held }: Parts): Promise<Recipient[]> {
  const recipients = Array.from({ length: recipientCount }, (_, n) => ({
    user_id: newEventId(),
    email: `customer-${n}@example.com`,
    erased: false,
    sequence: 1n,
  }))
  await held.databases.notification.query.insertInto('recipient').values(recipients).execute()
  return recipients
}

/** What so many confirmations ask for, of one recipient after the other. */
const causesOf = (recipients: readonly Recipient[], count: number): Cause[] =>
  Array.from({ length: count }, (_, n) => {
    const orderId = newEventId()
    const userId = recipients[n % recipients.length]?.user_id ?? ''
    const facts = { orderId, total: '€12.50', items: ['2 × tea-sencha-100g at €6.25'] }
    return { kind: 'confirmed', userId, orderId, causeId: newEventId(), traceparent: null, facts }
  })

/** Throws unless each mail has arrived, once, and those of a recipient in their order. */
function check(received: readonly Received[], expected: readonly Received[]): void {
  const idsOf = (all: readonly Received[]) =>
    new Map(
      [...Map.groupBy(all, ([recipient]) => recipient)].map(([recipient, its]) => [
        recipient,
        its.map(([, id]) => id).join(),
      ]),
    )
  const [its, wanted] = [idsOf(received), idsOf(expected)]
  const wrong = [...wanted].filter(([recipient, ids]) => its.get(recipient) !== ids)
  if (received.length !== expected.length || wrong.length > 0)
    throw new Error(
      `${received.length} of ${expected.length} mails; not in order, or not all, for ${wrong.length} recipients`,
    )
}

const expectedOf = (causes: readonly Cause[], recipients: readonly Recipient[]) => {
  const emails = new Map(recipients.map(({ user_id, email }) => [user_id, email]))
  return causes.map(({ userId, causeId }): Received => [emails.get(userId) ?? '', messageIdOf(causeId)])
}

/** Mails that wait when the service starts: from the first that arrives until all are written down as sent. */
async function sendQueued(
  { shop, held, sink }: Parts,
  recipients: readonly Recipient[],
  count: number,
): Promise<number> {
  const database = held.databases.notification
  const byId = new Map(recipients.map((recipient) => [recipient.user_id, recipient]))
  const causes = causesOf(recipients, count)
  await sql`truncate notification, inbox, outbox cascade`.execute(database.query)
  for (let from = 0; from < count; from += queuedAtOnce)
    await database.transaction((tx) => queueNotifications(tx, causes.slice(from, from + queuedAtOnce), byId))
  await sql`analyze notification`.execute(database.query) // as it is of a table that fills by and by
  const notification = await startInstance(shop, 'notification')
  try {
    const first = await eventually('the first mail', sink.count, patience)
    const begun = performance.now()
    await eventually('all mails', async () => (await sink.count()) >= count, patience)
    await eventually('all to be written down', async () => (await sentOf(held)) === count, patience)
    const seconds = (performance.now() - begun) / 1_000
    check(await sink.take(), expectedOf(causes, recipients))
    return (count - first) / seconds
  } finally {
    await notification.stop()
  }
}

async function sentOf({ databases }: Reach): Promise<number> {
  const { rows } = await sql<{ n: number }>`
    select count(*)::integer as n from notification where state = 'sent'`.execute(databases.notification.query)
  return rows[0]?.n ?? 0
}

/** The same mails, made before the clock starts, twice as many in hand as there are connections. */
async function sendPooled(
  { shop, sink }: Parts,
  recipients: readonly Recipient[],
  maxConnections: number,
  count: number,
): Promise<number> {
  const causes = causesOf(recipients, count)
  const expected = expectedOf(causes, recipients)
  const from = environmentOf(shop, 'notification').MAIL_FROM ?? ''
  const composed = causes.map(({ causeId, facts }, n) =>
    composeMail(from, {
      kind: 'confirmed',
      causeId,
      facts,
      createdAt: new Date(),
      recipient: { email: expected[n]?.[0] ?? '' },
    }),
  )
  const transport = createTransport({
    host: '127.0.0.1',
    port: sink.port,
    pool: true,
    maxConnections,
    maxMessages: Number.POSITIVE_INFINITY,
  })
  let next = 0
  const begun = performance.now()
  await Promise.all(
    Array.from({ length: 2 * maxConnections }, async () => {
      for (let mail = composed[next++]; mail; mail = composed[next++]) await transport.sendMail(mail)
    }),
  )
  const seconds = (performance.now() - begun) / 1_000
  transport.close()
  check(await sink.take(), expected)
  return count / seconds
}
