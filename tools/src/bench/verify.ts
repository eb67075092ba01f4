import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { json } from 'node:stream/consumers'
import { sql } from '@shopstream/database'
import { newEventId, topicOf } from '@shopstream/events'
import type { NewEvent, OutgoingMessage } from '@shopstream/messaging'
import { outgoing } from '@shopstream/messaging'
import { eventually, repository, temporaryFolder } from '@shopstream/testing'
import { readWiring } from '../schemas/wiring.ts'
import { findPlace, type Owner, owners, type Reach, reach } from '../shop/reach.ts'
import type { Summary } from '../shop/verify.ts'
import { startShop } from '../stack/shop.ts'
import type { Say } from './measure.ts'

/** What becomes of the orders: so many of twenty, and the events of each order and of its reservation. */
const stories = [
  {
    of20: 12,
    status: 'delivered',
    order: ['OrderPlaced', 'OrderConfirmed', 'OrderShipped', 'OrderDelivered'],
    state: 'sold',
    reservation: ['StockReserved', 'StockSold'],
    moves: { onHand: -1, reserved: 0 },
  },
  {
    of20: 4,
    status: 'confirmed',
    order: ['OrderPlaced', 'OrderConfirmed'],
    state: 'reserved',
    reservation: ['StockReserved'],
    moves: { onHand: 0, reserved: 1 },
  },
  {
    of20: 3,
    status: 'cancelled',
    order: ['OrderPlaced', 'OrderConfirmed', 'OrderCancelled'],
    state: 'released',
    reservation: ['StockReserved', 'StockReleased'],
    moves: { onHand: 0, reserved: 0 },
  },
  {
    of20: 1,
    status: 'rejected',
    order: ['OrderPlaced', 'OrderRejected'],
    state: 'rejected',
    reservation: ['StockRejected'],
    moves: { onHand: 0, reserved: 0 },
  },
] as const
const storyOf = stories.flatMap((story) => Array<(typeof stories)[number]>(story.of20).fill(story))

const mails: Record<string, string> = {
  UserRegistered: 'welcome',
  OrderConfirmed: 'confirmed',
  OrderRejected: 'rejected',
  OrderShipped: 'shipped',
  OrderCancelled: 'cancelled',
}

/** Orders of one round: the messages of a topic stay well below the 1 MiB that the broker takes of a partition at once. */
const round = 1_000
const productCount = 1_000
const ordersPerUser = 20
const stocked = 1_000_000

/** Fills a shop of its own with orders and everything that came of them, and times `verify` over it. */
export async function verify(say: Say, { orders }: { orders: number }) {
  const home = temporaryFolder('bench')
  const shop = await startShop({ home })
  try {
    await Promise.all(Object.values(shop.services).map((service) => service.stop(5_000)))
    const held = await reach(findPlace({ SHOPSTREAM_HOME: home }))
    try {
      const begun = performance.now()
      const events = await fill(held, orders, say)
      const seconds = Math.round((performance.now() - begun) / 1_000)
      say(`${orders} orders and their ${events} events written in ${seconds} s`)
    } finally {
      await held.close()
    }
    const summary = await verifyAlone(home)
    for (const { name, rows, findings } of summary.checks)
      say(`${name}: ${rows} rows${findings.map(({ message }) => `\n    ${message}`).join('')}`)
    const { discrepancies, rows, seconds, peakMegabytes } = summary
    say(
      `${discrepancies} discrepancies; ${rows} rows in ${seconds} s, ${peakMegabytes} MB of memory at most in its process`,
    )
    return { orders, discrepancies, rows, seconds, peakMegabytes }
  } finally {
    await shop.stop()
    rmSync(home, { recursive: true, force: true })
  }
}

/** In a process of its own, whose memory is its own. */
async function verifyAlone(home: string): Promise<Summary> {
  const child = spawn(process.execPath, ['tools/src/shop.ts', 'verify', '--json'], {
    cwd: repository,
    env: { ...process.env, SHOPSTREAM_HOME: home },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return (await json(child.stdout)) as Summary
}

type Row = Record<string, unknown>

/** Rows and messages that are written together. */
interface Round {
  rows: Record<Owner, Record<string, Row[]>>
  messages: OutgoingMessage[]
}
const emptyRound = (): Round => ({ rows: { user: {}, order: {}, inventory: {}, notification: {} }, messages: [] })

function add({ rows }: Round, owner: Owner, table: string, row: Row): void {
  rows[owner][table] ??= []
  rows[owner][table].push(row)
}

const money = (amount: bigint) => ({ amount, currency: 'EUR' })
const userId = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`
const skuOf = (n: number) => `sku-${n % productCount}`
const priceOf = (n: number) => BigInt(100 + (n % productCount))
const now = new Date()

interface Filling {
  held: Reach
  /** By event, the services that keep it in their inbox. */
  consumers: ReadonlyMap<string, readonly Owner[]>
  /** Of the next message, by topic and partition. */
  offsets: Map<string, bigint>
  levels: { sku: string; onHand: number; reserved: number; sequence: bigint; moved: boolean }[]
}

/** Writes databases, topics and offsets as the services would have left them; returns the number of events. */
async function fill(held: Reach, orders: number, say: Say): Promise<number> {
  const wiring = await readWiring(repository)
  const consumers = new Map<string, Owner[]>()
  for (const { service, consumes } of wiring)
    for (const { event } of consumes) consumers.set(event, [...(consumers.get(event) ?? []), service as Owner])
  const topics = [...new Set([...consumers.keys()].map((event) => topicOf(event as NewEvent['type']).name))]
  const filled = [...topics, 'shop.stock.v1', 'shop.notification.v1']
  const positions = await held.bus.positions('bench', filled)
  const levels = Array.from({ length: productCount }, (_, n) => ({
    sku: skuOf(n),
    onHand: stocked,
    reserved: 0,
    sequence: 0n,
    moved: true,
  }))
  const offsets = new Map(positions.map(({ topic, partition, end }) => [`${topic}/${partition}`, end]))
  const filling: Filling = { held, consumers, offsets, levels }

  let events = await write(filling, products(filling))
  for (let from = 0; from < orders / ordersPerUser; from += round)
    events += await write(filling, users(filling, from, Math.min(from + round, orders / ordersPerUser)))
  for (let from = 0; from < orders; from += round) {
    events += await write(filling, ordersOf(filling, from, Math.min(from + round, orders)))
    if (from > 0 && from % 100_000 === 0) say(`${from} orders written`)
  }
  await write(filling, finalLevels(filling))
  for (const owner of owners) await sql`analyze`.execute(held.databases[owner].query)
  await passAll(filling)
  return events
}

/** Adds an event, its place in the inboxes, and the mail that it asks for. */
function tell(filling: Filling, to: Round, service: Owner, event: NewEvent, user?: string): void {
  const message = outgoing(service, event)
  const eventId = String(message.headers.ce_id)
  const { topic, partition } = message
  const place = `${topic}/${partition}`
  const offset = filling.offsets.get(place) ?? 0n
  filling.offsets.set(place, offset + 1n)
  to.messages.push(message)
  if (topicOf(event.type).cleanup === 'delete')
    for (const owner of filling.consumers.get(event.type) ?? [])
      add(to, owner, 'inbox', { event_id: eventId, topic, partition, offset, received_at: now })
  const kind = mails[event.type]
  if (kind !== undefined && user !== undefined) notify(filling, to, kind, eventId, user, event)
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

function products(filling: Filling): Round {
  const to = emptyRound()
  for (let n = 0; n < productCount; n += 1) {
    const [sku, amount] = [skuOf(n), priceOf(n)]
    const product = { sku, name: sku, description: '', version: 1 }
    const price = { price_amount: amount, price_currency: 'EUR', retired: false, sequence: 1n }
    add(to, 'inventory', 'product', { ...product, ...price })
    add(to, 'inventory', 'stock', { sku, on_hand: stocked, reserved: 0, sequence: 0n })
    const adjustment = { id: newEventId(), sku, delta: stocked, reason: 'delivery', made_by: userId(0) }
    add(to, 'inventory', 'stock_adjustment', adjustment)
    add(to, 'order', 'product', { sku, ...price })
    const listed = { ...product, price: money(amount) }
    tell(filling, to, 'inventory', { type: 'ProductListed', key: sku, sequence: 1n, data: listed })
  }
  announceMoved(filling, to)
  return to
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

/** Each of them with two lines, as `stories` says. */
function ordersOf(filling: Filling, from: number, end: number): Round {
  const to = emptyRound()
  for (let n = from; n < end; n += 1) {
    const story = storyOf[n % storyOf.length] as (typeof stories)[number]
    const [id, user] = [newEventId(), userId(Math.floor(n / ordersPerUser))]
    const lines = [n, n + 7].map((m) => ({ sku: skuOf(m), quantity: 1 + (m % 3), unitPrice: money(priceOf(m)) }))
    const total = money(lines.reduce((sum, { quantity, unitPrice }) => sum + BigInt(quantity) * unitPrice.amount, 0n))
    const reason = { cancelled: 'changed my mind', rejected: 'out-of-stock' }[story.status as string] ?? null
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
      reservation_deadline: now,
      sequence: BigInt(story.order.length),
      created_at: now,
      updated_at: now,
    })
    const held = lines.map(({ sku, quantity }) => ({ sku, quantity }))
    const sequence = BigInt(story.reservation.length)
    add(to, 'inventory', 'reservation', { order_id: id, state: story.state, lines: held, sequence, updated_at: now })
    const shortages = [{ sku: skuOf(n), requested: 1, available: 0 }]
    // Everything that any of these events says; each is given its own fields.
    const said = { orderId: id, userId: user, lines, total, shortages, reason: reason ?? '', ...shipment }
    for (const [i, type] of story.order.entries())
      tell(filling, to, 'order', eventOf(type, id, i + 1, said) as NewEvent, user)
    for (const [i, type] of story.reservation.entries())
      tell(filling, to, 'inventory', eventOf(type, id, i + 1, { ...said, lines: held }) as NewEvent)
    for (const { sku, quantity } of held) {
      const level = filling.levels[Number(sku.slice(4))] as Filling['levels'][number]
      level.onHand += story.moves.onHand * quantity
      level.reserved += story.moves.reserved * quantity
      level.moved = true
    }
  }
  announceMoved(filling, to)
  return to
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
  OrderPlaced: { placedAt: now, reservationDeadline: now },
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
function finalLevels({ levels }: Filling): Round {
  const to = emptyRound()
  for (const { sku, onHand: on_hand, reserved, sequence } of levels)
    add(to, 'inventory', 'stock', { sku, on_hand, reserved, sequence })
  return to
}

/** Returns the number of events. */
async function write({ held }: Filling, { rows, messages }: Round): Promise<number> {
  const databases = owners.map((owner) =>
    held.databases[owner].transaction(async (tx) => {
      for (const [table, all] of Object.entries(rows[owner])) {
        const columns = sql.raw(
          Object.keys(all[0] as Row)
            .map((column) => `"${column}"`)
            .join(', '),
        )
        const text = JSON.stringify(all, (_, value) => (typeof value === 'bigint' ? String(value) : value))
        const levels = sql.raw(
          table === 'stock'
            ? 'on conflict (sku) do update set on_hand = excluded.on_hand, reserved = excluded.reserved, sequence = excluded.sequence'
            : '',
        )
        await sql`insert into ${sql.raw(table)} (${columns})
          select ${columns} from jsonb_populate_recordset(null::${sql.raw(table)}, ${text}::jsonb) ${levels}`.execute(
          tx,
        )
      }
    }),
  )
  await Promise.all(databases)
  const stored = (await held.bus.publish(messages)).filter(({ error }) => !error)
  if (stored.length < messages.length) throw new Error('Kafka has not taken all events: run it again')
  return messages.length
}

/** Lets each group pass its topics to their ends, as it would have by handling them. */
async function passAll({ held, consumers }: Filling): Promise<void> {
  for (const owner of owners) {
    const events = [...consumers].filter(([, those]) => those.includes(owner)).map(([event]) => event)
    const topics = [...new Set(events.map((event) => topicOf(event as NewEvent['type']).name))]
    if (topics.length === 0) continue
    const consumer = held.bus.consume({
      group: owner,
      topics,
      async handle({ next }, partition) {
        partition.done(next)
      },
    })
    try {
      await eventually(
        `group ${owner} to have passed its topics`,
        async () => (await held.bus.positions(owner, topics)).every(({ done, end }) => done >= end),
        { timeoutMs: 600_000, everyMs: 500 },
      )
    } finally {
      await consumer.close()
    }
  }
}
