/** Writes a shop's databases, topics and offsets as its services would have left them, in minutes in place of hours. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openSession, type Session } from '@shopstream/database'
import { newEventId, partitionOf, topicOf } from '@shopstream/events'
import type { NewEvent } from '@shopstream/messaging'
import { type OutgoingMessage, outgoing } from '@shopstream/messaging/operations'
import { eventually } from '@shopstream/testing'
import type { Shop } from '../local/shop.ts'
import { readServices } from '../operations/services.ts'
import { findPlace, type Owner, owners, perOwner, type Reach, reach } from '../operations/shop-access.ts'
import { mails, type Story, storyOf, waitingStory } from './fill-stories.ts'
import type { Say } from './measure.ts'

/** Orders of one round: the messages of a topic stay well below the 1 MiB that the broker takes of a partition at once. */
const round = 2_000
const ordersPerUser = 20
const stocked = 1_000_000

/** What a shop is filled with. */
export interface Contents {
  orders: number
  /** Each as often ordered as any other. */
  products: number
  /** Of all inboxes; what the orders do not bring is of messages that the topics have no more. */
  inboxRows?: number
  /** Orders that were placed, and of which no group has handled anything yet; their users and products come before them. */
  waiting?: number
}

type Row = Record<string, unknown>

/** Rows and messages that are written together. */
interface Round {
  rows: Record<Owner, Record<string, Row[]>>
  messages: OutgoingMessage[]
}
const emptyRound = (): Round => ({ rows: perOwner(() => ({})), messages: [] })

function add({ rows }: Round, owner: Owner, table: string, row: Row): void {
  rows[owner][table] ??= []
  rows[owner][table].push(row)
}

const money = (amount: bigint) => ({ amount, currency: 'EUR' })
const userId = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`
/** A product that a shop was filled with, counted from 0. */
export const skuOf = (n: number) => `sku-${n}`
const priceOf = (product: number) => BigInt(100 + (product % 1_000))
const now = new Date()
/** Far away, so that nothing is cancelled that is to be handled. */
const deadline = new Date(now.getTime() + 86_400_000)

interface Filling {
  held: Reach
  /** As who may read files: `copy` from a file costs a fifth of inserting the same as JSON. */
  sessions: Record<Owner, Session>
  folder: string
  /** By event, the services that keep it in their inbox. */
  consumers: ReadonlyMap<string, readonly Owner[]>
  /** Of each topic, which may have been grown. */
  partitions: ReadonlyMap<string, number>
  /** Of the next message, by topic and partition. */
  offsets: Map<string, bigint>
  levels: { sku: string; onHand: number; reserved: number; sequence: bigint; moved: boolean }[]
}

/**
 * Fills a shop as its services would have left it. They must have been ready once, and are stopped; the shop has to be
 * started again.
 */
export async function fill(shop: Shop, contents: Contents, say: Say): Promise<void> {
  await Promise.all(Object.values(shop.services).map((service) => service.stop(5_000)))
  const begun = performance.now()
  const held = await reach(findPlace({ SHOPSTREAM_HOME: shop.home }))
  const opened = owners.map(async (owner): Promise<[Owner, Session]> => [owner, await openAdmin(shop, owner)])
  const sessions = Object.fromEntries(await Promise.all(opened)) as Filling['sessions']
  try {
    const filling = await beginFilling(held, sessions, shop.home, contents)
    const events = await writeAll(filling, contents, say)
    for (const session of Object.values(sessions)) await session.query('vacuum (analyze)')
    const seconds = Math.round((performance.now() - begun) / 1_000)
    say(`${contents.orders + (contents.waiting ?? 0)} orders, and their ${events} events, written in ${seconds} s`)
  } finally {
    await Promise.all([held.close(), ...Object.values(sessions).map((session) => session.close())])
  }
}

/** In a service's database, with every right, for as long as a statement takes. */
function openAdmin(shop: Shop, owner: Owner): Promise<Session> {
  const url = new URL(shop.postgres.url)
  url.pathname = new URL(shop.databaseUrl(owner)).pathname
  return openSession(url.href, 'bench', {}, 0)
}

async function beginFilling(
  held: Reach,
  sessions: Filling['sessions'],
  folder: string,
  { products }: Contents,
): Promise<Filling> {
  const wiring = await readServices()
  const consumers = new Map<string, Owner[]>()
  for (const { service, consumes } of wiring)
    for (const { event } of consumes) consumers.set(event, [...(consumers.get(event) ?? []), service as Owner])
  const topics = [...new Set([...consumers.keys()].map((event) => topicOf(event as NewEvent['type']).name))]
  const positions = await held.bus.positions('bench', [...topics, 'shop.stock.v1', 'shop.notification.v1'])
  const levels = Array.from({ length: products }, (_, n) => ({
    sku: skuOf(n),
    onHand: stocked,
    reserved: 0,
    sequence: 0n,
    moved: false,
  }))
  const offsets = new Map(positions.map(({ topic, partition, end }) => [`${topic}/${partition}`, end]))
  const partitions = new Map(
    [...Map.groupBy(positions, ({ topic }) => topic)].map(([topic, all]) => [topic, all.length]),
  )
  return { held, sessions, folder, consumers, partitions, offsets, levels }
}

/** Returns the number of events. While a round is written, the next is made. */
async function writeAll(filling: Filling, { orders, products, inboxRows, waiting = 0 }: Contents, say: Say) {
  let [events, writing] = [0, Promise.resolve(0)]
  const inRounds = async (end: number, make: (filling: Filling, from: number, to: number) => Round) => {
    for (let from = 0; from < end; from += round) {
      const made = make(filling, from, Math.min(from + round, end))
      events += await writing
      writing = write(filling, made)
      writing.catch(() => {}) // thrown where it is awaited
      if (from > 0 && from % 100_000 === 0) say(`${from} of ${end} written`)
    }
  }
  await inRounds(products, productsOf)
  await inRounds(Math.ceil((orders + waiting) / ordersPerUser), users)
  await inRounds(orders, (...those) => ordersOf(...those, (n) => storyOf[n % storyOf.length] as Story))
  await inRounds(products, finalLevels)
  events += await writing
  writing = Promise.resolve(0)
  if (inboxRows) await addOldInboxRows(filling, inboxRows)
  await passAll(filling)
  await inRounds(waiting, (...those) => ordersOf(...those, () => waitingStory))
  return events + (await writing)
}

/** Of the weeks before; at offsets before a topic's first, as of messages that retention has deleted. */
async function addOldInboxRows({ sessions }: Filling, inboxRows: number): Promise<void> {
  const consuming = [sessions.order, sessions.inventory, sessions.notification]
  await Promise.all(
    consuming.map((session) =>
      session.query(`
        insert into inbox (event_id, topic, partition, "offset", received_at)
        select uuidv7(at - now()), 'shop.order.v1', n % 6, -n, at
        from (select ${Math.ceil(inboxRows / consuming.length)} - count(*) as missing from inbox) as lack
        cross join generate_series(1, missing) as n
        cross join lateral (select now() - interval '1 day' - interval '18 days' * n / missing as at) as time`),
    ),
  )
}

/** Adds an event that nobody has handled yet. */
function announce(filling: Filling, to: Round, service: Owner, event: NewEvent) {
  const message = outgoing(service, event)
  const { topic } = message
  const partition = partitionOf(event.key, filling.partitions.get(topic) ?? 1)
  const place = `${topic}/${partition}`
  const offset = filling.offsets.get(place) ?? 0n
  filling.offsets.set(place, offset + 1n)
  to.messages.push({ ...message, partition })
  return { event_id: String(message.headers.ce_id), topic, partition, offset }
}

/** Adds an event, its place in the inboxes, and the mail that it asks for. */
function tell(filling: Filling, to: Round, service: Owner, event: NewEvent, user?: string): void {
  const announced = announce(filling, to, service, event)
  if (topicOf(event.type).cleanup === 'delete')
    for (const owner of filling.consumers.get(event.type) ?? [])
      add(to, owner, 'inbox', { ...announced, received_at: now })
  const kind = mails[event.type]
  if (kind !== undefined && user !== undefined) notify(filling, to, kind, announced.event_id, user, event)
}

function notify(filling: Filling, to: Round, kind: string, causeId: string, user: string, { key }: NewEvent): void {
  const id = newEventId()
  add(to, 'notification', 'notification', {
    id,
    user_id: user,
    kind,
    cause_id: causeId,
    order_id: kind === 'welcome' ? null : key,
    facts: {},
    subject: kind,
    state: 'sent',
    recipient_email: `${user}@example.com`,
    attempts: 1,
    sequence: 1n,
    created_at: now,
    sent_at: now,
  })
  const data = { notificationId: id, userId: user, kind, causeId, messageId: `<${id}@example.com>`, sentAt: now }
  tell(filling, to, 'notification', { type: 'NotificationSent', key: id, sequence: 1n, data })
}

function productsOf(filling: Filling, from: number, end: number): Round {
  const to = emptyRound()
  for (let n = from; n < end; n += 1) {
    const [sku, amount] = [skuOf(n), priceOf(n)]
    const product = { sku, name: sku, description: '', version: 1 }
    const price = { price_amount: amount, price_currency: 'EUR', retired: false, sequence: 1n }
    add(to, 'inventory', 'product', { ...product, ...price })
    const adjustment = { id: newEventId(), sku, delta: stocked, reason: 'delivery', made_by: userId(0) }
    add(to, 'inventory', 'stock_adjustment', adjustment)
    add(to, 'order', 'product', { sku, ...price })
    const listed = { ...product, price: money(amount) }
    tell(filling, to, 'inventory', { type: 'ProductListed', key: sku, sequence: 1n, data: listed })
    move(filling, n, 0, 0)
  }
  announceMoved(filling, to)
  return to
}

function move({ levels }: Filling, product: number, onHand: number, reserved: number): void {
  const level = levels[product] as Filling['levels'][number]
  level.onHand += onHand
  level.reserved += reserved
  level.moved = true
}

function users(filling: Filling, from: number, end: number): Round {
  const to = emptyRound()
  for (let n = from; n < end; n += 1) {
    const id = userId(n)
    const [email, displayName] = [`${id}@example.com`, `User ${n}`]
    const account = { id, email, display_name: displayName, password_hash: '', roles: '{}' }
    add(to, 'user', 'account', { ...account, sequence: 1n, created_at: now })
    const recipient = { user_id: id, email, erased: false, sequence: 1n }
    add(to, 'notification', 'recipient', recipient)
    const data = { userId: id, email, displayName, roles: [], registeredAt: now }
    tell(filling, to, 'user', { type: 'UserRegistered', key: id, sequence: 1n, data }, id)
  }
  return to
}

/** Each of them with two lines. */
function ordersOf(filling: Filling, from: number, end: number, storyOf: (n: number) => Story): Round {
  const to = emptyRound()
  for (let n = from; n < end; n += 1) addOrder(filling, to, n, storyOf(n))
  announceMoved(filling, to)
  return to
}

function addOrder(filling: Filling, to: Round, n: number, story: Story): void {
  const [id, user] = [newEventId(), userId(Math.floor(n / ordersPerUser))]
  const ordered = [n, n + 7].map((m) => ({ product: m % filling.levels.length, quantity: 1 + (m % 3) }))
  const held = ordered.map(({ product, quantity }) => ({ sku: skuOf(product), quantity }))
  const lines = ordered.map(({ product, quantity }) => ({
    sku: skuOf(product),
    quantity,
    unitPrice: money(priceOf(product)),
  }))
  const total = money(lines.reduce((sum, { quantity, unitPrice }) => sum + BigInt(quantity) * unitPrice.amount, 0n))
  const reason = { cancelled: 'changed my mind', rejected: 'out-of-stock' }[story.status] ?? null
  const shipment = { carrier: 'Post', trackingNumber: `T-${n}` }
  add(to, 'order', '"order"', {
    id,
    user_id: user,
    status: story.status,
    lines,
    total_amount: total.amount,
    total_currency: total.currency,
    shipping_address: {},
    reason,
    shipment: story.status === 'delivered' ? shipment : null,
    history: [],
    reservation_deadline: deadline,
    sequence: BigInt(story.order.length),
    created_at: now,
    updated_at: now,
  })
  const sequence = BigInt(story.reservation.length)
  if (story.state !== undefined)
    add(to, 'inventory', 'reservation', { order_id: id, state: story.state, lines: held, sequence, updated_at: now })
  const shortages = [{ sku: held[0]?.sku, requested: 1, available: 0 }]
  // Everything that any of these events says; each is given its own fields.
  const said = { orderId: id, userId: user, lines, total, shortages, reason: reason ?? '', ...shipment }
  const tellOrder = story.state === undefined ? announce : tell
  for (const [i, type] of story.order.entries())
    tellOrder(filling, to, 'order', eventOf(type, id, i + 1, said) as NewEvent, user)
  for (const [i, type] of story.reservation.entries())
    tell(filling, to, 'inventory', eventOf(type, id, i + 1, { ...said, lines: held }) as NewEvent)
  const { onHand, reserved } = story.moves
  if (story.state !== undefined)
    for (const { product, quantity } of ordered) move(filling, product, onHand * quantity, reserved * quantity)
}

const fields: Record<string, readonly string[]> = {
  OrderPlaced: ['userId', 'lines', 'total'],
  OrderConfirmed: ['userId', 'lines', 'total'],
  OrderRejected: ['userId', 'shortages'],
  OrderShipped: ['userId', 'carrier', 'trackingNumber'],
  OrderDelivered: ['userId'],
  OrderCancelled: ['userId', 'reason'],
  StockReserved: ['lines'],
  StockRejected: ['shortages'],
  StockReleased: ['lines', 'reason'],
  StockSold: ['lines'],
}
const times: Record<string, Row> = {
  OrderPlaced: { placedAt: now, reservationDeadline: deadline },
  OrderConfirmed: { confirmedAt: now },
  OrderRejected: { rejectedAt: now },
  OrderShipped: { shippedAt: now },
  OrderDelivered: { deliveredAt: now },
  OrderCancelled: { cancelledAt: now },
}

function eventOf(type: string, key: string, sequence: number, said: Row) {
  const own = Object.fromEntries((fields[type] ?? []).map((field) => [field, said[field]]))
  return { type, key, sequence: BigInt(sequence), data: { orderId: said.orderId, ...own, ...times[type] } }
}

/** One event for each level that has moved, as inventory tells them of a chunk of messages. */
function announceMoved(filling: Filling, to: Round): void {
  for (const level of filling.levels.filter(({ moved }) => moved)) {
    level.moved = false
    level.sequence += 1n
    const { sku, onHand, reserved, sequence } = level
    const data = { sku, onHand, reserved, available: onHand - reserved }
    tell(filling, to, 'inventory', { type: 'StockLevelChanged', key: sku, sequence, data })
  }
}

/** The levels as they are in the end. */
function finalLevels({ levels }: Filling, from: number, end: number): Round {
  const to = emptyRound()
  for (const { sku, onHand: on_hand, reserved, sequence } of levels.slice(from, end))
    add(to, 'inventory', 'stock', { sku, on_hand, reserved, sequence })
  return to
}

/** Returns the number of events. */
async function write(filling: Filling, { rows, messages }: Round): Promise<number> {
  const [deliveries] = await Promise.all([
    filling.held.bus.publish(messages),
    ...owners.map(async (owner) => {
      for (const [table, all] of Object.entries(rows[owner])) await copy(filling, owner, table, all)
    }),
  ])
  if (deliveries.some(({ error }) => error)) throw new Error('Kafka has not taken all events: run it again')
  return messages.length
}

async function copy({ sessions, folder }: Filling, owner: Owner, table: string, rows: readonly Row[]): Promise<void> {
  const file = join(folder, `${owner}.copy`)
  const columns = Object.keys(rows[0] as Row)
  writeFileSync(file, rows.map((row) => `${columns.map((column) => cell(row[column])).join('\t')}\n`).join(''))
  const names = columns.map((column) => `"${column}"`).join(', ')
  await sessions[owner].query(`copy ${table} (${names}) from '${file.replaceAll("'", "''")}'`)
  rmSync(file)
}

const escapes: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/** As `copy` reads it. */
function cell(value: unknown): string {
  if (value === null || value === undefined) return '\\N'
  const text =
    value instanceof Date
      ? value.toISOString()
      : typeof value === 'object'
        ? JSON.stringify(value, (_, inner) => (typeof inner === 'bigint' ? String(inner) : inner))
        : String(value)
  return text.replaceAll(/[\\\n\r\t]/g, (character) => escapes[character] as string)
}

/** Lets each group pass its topics to their ends, as it would have by handling them. */
async function passAll({ held, consumers }: Filling): Promise<void> {
  const passing = owners.map(async (owner) => {
    const events = [...consumers].filter(([, those]) => those.includes(owner)).map(([event]) => event)
    const topics = [...new Set(events.map((event) => topicOf(event as NewEvent['type']).name))]
    if (topics.length > 0) await pass(held, owner, topics)
  })
  await Promise.all(passing)
}

async function pass({ bus }: Reach, group: Owner, topics: string[]): Promise<void> {
  const consumer = bus.consume({ group, topics, handle: async ({ next }, partition) => partition.done(next) })
  try {
    await eventually(
      `group ${group} to have passed its topics`,
      async () => (await bus.positions(group, topics)).every(({ done, end }) => done >= end),
      { timeoutMs: 600_000, everyMs: 500 },
    )
  } finally {
    await consumer.close()
  }
}
