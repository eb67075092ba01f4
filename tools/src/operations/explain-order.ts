import { type Database, sql } from '@shopstream/database'
import { topics } from '@shopstream/events'
import { clock, faint, table } from '../terminal/format.ts'
import { Refusal } from '../terminal/options.ts'
import { ask } from './answers.ts'
import { placesOf } from './partitions-of-key.ts'
import { clockSlackMs, type EventStory, type Gap, type KeyPlace, type Teller } from './story.ts'
import { eventLines, headline, mailLine, verdictLines } from './story-lines.ts'
import { timeOfId } from './uuids.ts'
import { type MailStory, nameOf, orderVerdict, type Services, type Verdict } from './verdict.ts'
import { mailKinds } from './verify/checks.ts'

interface OrderRow {
  id: string
  userId: string
  status: string
  sequence: bigint
  reason: string | null
  lines: { sku: string; quantity: number }[]
  reservationDeadline: Date
  createdAt: Date
  updatedAt: Date
}

interface Archived {
  file: string
  batch: bigint
  at: Date
}

interface Request {
  key: string
  answeredAt: Date
}

/** Everything about one order. */
export interface OrderStory {
  kind: 'order'
  id: string
  order: OrderRow | undefined
  /** Where it is, when it was moved out of the order database. */
  archived: Archived | undefined
  /** The idempotency key it was placed with, where one was and is still kept (24 h). */
  request: Request | undefined
  reservation: { state: string; sequence: bigint } | undefined
  traceIds: string[]
  events: EventStory[]
  mails: MailStory[]
  missing: string[]
  notAsked: string[]
  /** Places of its topics that could not be read. */
  gaps: Gap[]
  verdict: Verdict
}

/** The topics whose key is an order's id. */
const orderTopics = topics.filter(({ key }) => key === 'order id')

/** Throws a Refusal when nobody knows the order. */
export async function tellOrder(teller: Teller, id: string, now = new Date()): Promise<OrderStory> {
  const { databases } = teller
  const [found, reserved, notified, waiting] = await Promise.all([
    ask('the order database', () => findOrder(databases.order, id)),
    ask('the inventory database', () => findReservation(databases.inventory, id)),
    ask('the notification database', () => findMails(databases.notification, sql`order_id = ${id}`)),
    teller.unpublished({ key: id }),
  ])
  const { order, archived } = found.answer ?? {}
  const since = new Date((order?.createdAt ?? timeOfId(id) ?? new Date(0)).getTime() - clockSlackMs)
  const lastOf = (topic: string) => {
    const known = topic === 'shop.order.v1' ? order?.sequence : reserved.answer?.sequence
    const queued = waiting.rows.filter((event) => event.topic === topic).length
    return known && known > queued ? known - BigInt(queued) : undefined
  }
  const published = await ask('Kafka', async () => {
    const places = await placesOf(teller.bus, orderTopics, id)
    const { messages, gaps } = await teller.published(
      places.map((place): KeyPlace => ({ ...place, key: id, since, last: lastOf(place.topic) })),
    )
    return { ...(await teller.handlings(messages)), gaps }
  })
  const gaps = published.answer?.gaps ?? []
  const events = inOrder([...(published.answer?.events ?? []), ...waiting.rows])
  if (!order && !archived && found.answer && events.length === 0)
    throw new Refusal(
      [
        `Nobody knows an order ${id}: it is not in the order database, and no event since ${since.toISOString()} tells of it.`,
        ...gaps.map(({ what }) => what),
      ].join('\n'),
    )
  const missing = published.answer
    ? missingOf(events, { 'shop.order.v1': order?.sequence, 'shop.reservation.v1': reserved.answer?.sequence })
    : []
  const mails = notified.answer ?? []
  const unmailed = notified.answer ? unmailedOf(events, notified.answer) : []
  const services = await servicesOf(teller, events, mails)
  const notAsked = [
    ...Object.entries({ order: found, inventory: reserved, notification: notified }).flatMap(([owner, { reason }]) =>
      reason ? [`the ${owner} database ${reason}`] : [],
    ),
    ...(published.reason ? [`Kafka ${published.reason}`] : []),
  ]
  return {
    kind: 'order',
    id,
    order,
    archived,
    request: found.answer?.request,
    reservation: reserved.answer,
    traceIds: [...new Set(events.flatMap(({ traceId }) => traceId ?? []))],
    events,
    mails,
    missing,
    notAsked,
    gaps,
    verdict: orderVerdict({ id, order, archived, events, mails, missing, unmailed, services, notAsked, gaps }, now),
  }
}

/** States of services that have not handled or published an event, or hold a mail back. */
export async function servicesOf(teller: Teller, events: EventStory[], mails: MailStory[]): Promise<Services> {
  const concerned = new Set([
    ...events.flatMap(({ inOutbox }) => inOutbox?.owner ?? []),
    ...events.flatMap(({ handledBy }) => handledBy.flatMap(({ group, state }) => (state === 'lagging' ? [group] : []))),
    ...(mails.some(({ state }) => state === 'queued') ? ['notification'] : []),
  ])
  return new Map(await Promise.all([...concerned].map(async (name) => [name, await teller.service(name)] as const)))
}

/** By when they were decided, or written where they do not say it; those of one key stay in their sequence. */
export const inOrder = (events: EventStory[]): EventStory[] =>
  events.toSorted((a, b) => momentOf(a) - momentOf(b) || Number((a.sequence ?? 0n) - (b.sequence ?? 0n)))

const momentOf = ({ time, writtenAt }: EventStory) => (time ?? writtenAt)?.getTime() ?? 0

/** Sequences that the owner's tables have assigned, but whose events are nowhere. */
function missingOf(events: readonly EventStory[], last: Record<string, bigint | undefined>): string[] {
  return Object.entries(last).flatMap(([topic, end = 0n]) => {
    const seen = new Set(events.filter((event) => event.topic === topic).map(({ sequence }) => sequence))
    return Array.from({ length: Number(end) }, (_, n) => BigInt(n) + 1n)
      .filter((sequence) => !seen.has(sequence))
      .map((sequence) => `${nameOf({ type: 'event', sequence })} of ${topic}`)
  })
}

/** Events that notification has handled, and that have no mail, although they ask for one. */
const unmailedOf = (events: readonly EventStory[], mails: readonly MailStory[]): string[] =>
  events
    .filter(({ type, handledBy }) => {
      const handling = handledBy.find(({ group }) => group === 'notification')
      return Object.hasOwn(mailKinds, type ?? '') && handling?.state === 'handled'
    })
    .filter(({ id }) => !mails.some(({ causeId }) => causeId === id?.toLowerCase()))
    .map((event) => nameOf(event))

async function findOrder({ query }: Database<unknown>, id: string) {
  const { rows } = await sql<OrderRow>`
    select id, user_id "userId", status, sequence, reason, lines, reservation_deadline "reservationDeadline",
      created_at "createdAt", updated_at "updatedAt"
    from "order" where id = ${id}`.execute(query)
  const [order] = rows
  const requests = await sql<Request>`
    select key, created_at "answeredAt" from idempotency_key
    where user_id = ${order?.userId ?? null} and body->>'id' = ${id}`.execute(query)
  const archives = await sql<Archived>`
    select file, batch_id "batch", archived_at "at" from archived join archived_batch on archived_batch.id = batch_id
    where key = ${id}`.execute(query)
  return { order, request: requests.rows[0], archived: archives.rows[0] }
}

async function findReservation({ query }: Database<unknown>, id: string) {
  const { rows } = await sql<{ state: string; sequence: bigint }>`
    select state, sequence from reservation where order_id = ${id}`.execute(query)
  return rows[0]
}

/** The mails that fit a condition, the first asked for first. */
export async function findMails(
  { query }: Database<unknown>,
  condition: ReturnType<typeof sql>,
  limit = 50,
): Promise<MailStory[]> {
  const { rows } = await sql<MailStory>`
    select id, kind, state, cause_id "causeId", user_id "userId", attempts, problems, last_error "lastError",
      coalesce(resent_at, created_at) "askedAt", sent_at "sentAt", next_attempt_at "nextAttemptAt"
    from notification where ${condition} order by created_at desc limit ${limit}`.execute(query)
  return rows.reverse()
}

/** The story on one screen. */
export function orderScreen({
  id,
  order,
  archived,
  request,
  reservation,
  traceIds,
  events,
  mails,
  missing,
  notAsked,
  gaps,
  verdict,
}: OrderStory): string {
  const now = new Date()
  const placed = order && `placed ${clock(order.createdAt, now)} by user ${order.userId}`
  const deadline =
    order?.status === 'pending'
      ? [`  is cancelled at ${clock(order.reservationDeadline, now)} unless it is decided`]
      : []
  const key = request ? `, idempotency key ${request.key}, answered ${clock(request.answeredAt, now)}` : ''
  return [
    headline(`Order ${id}`, order?.status ?? (archived ? 'archived' : 'unknown to the order service'), verdict),
    ...(placed ? [`  ${placed}${key}`] : []),
    ...deadline,
    ...(order ? [`  ${order.lines.map(({ sku, quantity }) => `${quantity} × ${sku}`).join(', ')}`] : []),
    ...(order?.reason ? [`  reason: ${order.reason}`] : []),
    ...(reservation ? [`  reservation: ${reservation.state}`] : []),
    `  trace ${traceIds.join(', ') || 'unknown'}`,
    '',
    ...events.flatMap((event) => eventLines(event, now)),
    ...missing.map((what) => `  ${what} is missing`),
    ...table(mails.map((mail) => mailLine(mail, now))),
    ...[...notAsked, ...gaps.map(({ what }) => what)].map((what) => faint(`  ${what}`)),
    '',
    ...verdictLines(verdict),
  ].join('\n')
}
