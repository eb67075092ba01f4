/** Inventory's whole consumer on a topic that is full when it starts, beside its very statements by plain connections. */
import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { readConfig } from '@shopstream/config'
import { sql } from '@shopstream/database'
import { newEventId, topicOf } from '@shopstream/events'
import { outgoing } from '@shopstream/messaging/operations'
import { createLogger } from '@shopstream/observability'
import { eventually, temporaryFolder } from '@shopstream/testing'
import { type Shop, startShop } from '../local/shop.ts'
import { findPlace, type Reach, reach } from '../operations/shop-access.ts'
import { startArm } from './arm.ts'
import { environmentOf, startInstance } from './arm-ours.ts'
import type { Say } from './measure.ts'
import { connectPlain, recordTransactions, type Statement } from './plain/postgres.ts'
import { compared, findBest, inTurns, type Result } from './results.ts'
import { loadInventory } from './services.ts'

/** Of each filling, for each second of a round: 40,000 with 10 seconds, and 200,000 in the five fillings of a run. */
const messagesPerSecond = 4_000
const products = 1_000
const stocked = 1_000_000_000
const publishedAtOnce = 1_000
const patience = { timeoutMs: 300_000, everyMs: 20 }

interface Parts {
  shop: Shop
  held: Reach
  messages: number
}

export async function consume(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const parts = { ...(await startParts()), messages: messagesPerSecond * seconds }
  try {
    await stockProducts(parts)
    const transactions = await recordChunks(parts)
    say(`${parts.messages} messages in ${transactions.length} transactions`)
    const replayed = (connections: number) => replay(parts, transactions, connections)
    const connections = await findBest('connections', say, 16, replayed)
    const turns = await inTurns(say, { ours: () => consumed(parts), reference: () => replayed(connections) })
    const reference = { name: `its SQL alone, ${connections} connections`, figures: turns.reference }
    return [compared({ name: 'consume', unit: 'messages/s', goal: 0.7, ours: turns.ours, reference })]
  } finally {
    await parts.stop()
  }
}

/** Nothing but Kafka, Postgres and what inventory leaves when it has been ready once. */
const startParts = () =>
  startArm(async (undo) => {
    const home = temporaryFolder('bench-consume')
    undo.push(async () => rmSync(home, { recursive: true, force: true }))
    const shop = await startShop({ home, only: ['user', 'inventory'] }) // whose keys inventory wants to be ready
    undo.push(shop.stop)
    await eventually('inventory to be ready', async () => (await fetch(`${shop.serviceUrls.inventory}/readyz`)).ok)
    await Promise.all(Object.values(shop.services).map((service) => service.stop(5_000)))
    const held = await reach(findPlace({ SHOPSTREAM_HOME: home }))
    undo.push(held.close)
    return { shop, held }
  })

const skuOf = (n: number) => `sku-${n % products}`

async function stockProducts({ held }: Parts): Promise<void> {
  const { query } = held.databases.inventory
  await sql`insert into product (sku, name, description, price_amount, price_currency, version, sequence)
    select 'sku-' || n, 'A thing', '', 1000, 'EUR', 1, 1 from generate_series(0, ${products - 1}::integer) as n`.execute(
    query,
  )
  await sql`insert into stock (sku, on_hand)
    select sku, ${stocked}::integer from product where sku like 'sku-%'`.execute(query)
}

/** No message has been handled, and no piece is reserved. */
async function empty({ held }: Parts): Promise<void> {
  const { query } = held.databases.inventory
  await sql`truncate reservation, inbox, outbox`.execute(query)
  await sql`update stock set reserved = 0`.execute(query)
  await sql`vacuum analyze stock`.execute(query)
}

/** Orders of a piece each, of one product after the other. */
async function fill({ held, messages }: Parts): Promise<void> {
  const now = new Date()
  const price = { amount: 1_000n, currency: 'EUR' }
  const placed = (n: number) => {
    const orderId = newEventId()
    const lines = [{ sku: skuOf(n), quantity: 1, unitPrice: price }]
    const data = { orderId, userId: newEventId(), lines, total: price, placedAt: now, reservationDeadline: now }
    return outgoing('order', { type: 'OrderPlaced', key: orderId, sequence: 1n, data })
  }
  for (let from = 0; from < messages; from += publishedAtOnce) {
    const length = Math.min(publishedAtOnce, messages - from)
    const deliveries = await held.bus.publish(Array.from({ length }, (_, n) => placed(from + n)))
    const failed = deliveries.find(({ error }) => error)
    if (failed) throw failed.error
  }
}

/** A piece each, so the pieces that are reserved are the messages that took effect. */
async function handled({ held }: Parts): Promise<number> {
  const { rows } = await sql<{ n: number }>`select sum(reserved)::integer as n from stock`.execute(
    held.databases.inventory.query,
  )
  return rows[0]?.n ?? 0
}

/** From the first progress until the last message; throws unless each has its reservation, and is passed by the group. */
async function consumed(parts: Parts): Promise<number> {
  await empty(parts)
  await fill(parts)
  const inventory = await startInstance(parts.shop, 'inventory')
  try {
    const first = await eventually('inventory to begin', () => handled(parts), patience)
    const begun = performance.now()
    for (const deadline = begun + patience.timeoutMs; (await handled(parts)) < parts.messages; await delay(20))
      if (performance.now() > deadline) throw new Error(`${await handled(parts)} of ${parts.messages} are handled`)
    const seconds = (performance.now() - begun) / 1_000
    await eventually('the group to have passed the topic', () => hasPassed(parts), patience)
    await check(parts)
    return (parts.messages - first) / seconds
  } finally {
    await inventory.stop()
  }
}

async function hasPassed({ held }: Parts): Promise<boolean> {
  const positions = await held.bus.positions('inventory', [topicOf('OrderPlaced').name])
  return positions.every(({ done, end }) => done === end)
}

/** Throws unless each message has made a reservation of its own. */
async function check({ held, messages }: Parts): Promise<void> {
  const { rows } = await sql<Record<string, number>>`
    select (select count(*) from reservation where state = 'reserved')::integer as reservations,
      (select count(*) from inbox)::integer as inbox, (select count(*) from parked_message)::integer as parked`.execute(
    held.databases.inventory.query,
  )
  const [{ reservations, inbox, parked } = {}] = rows
  if (reservations !== messages || inbox !== messages || parked !== 0)
    throw new Error(`of ${messages} messages: ${JSON.stringify(rows[0])}`)
}

/** What inventory says to Postgres of a full topic: run in this process. */
async function recordChunks(parts: Parts): Promise<Statement[][]> {
  const { buildInventory, configSchema } = await loadInventory()
  const logger = createLogger({ service: 'inventory', level: 'warn', format: 'pretty' })
  const config = readConfig(configSchema, environmentOf(parts.shop, 'inventory'))
  await empty(parts)
  await fill(parts)
  return recordTransactions(
    (text) => text.includes('insert into inbox'),
    async () => {
      const inventory = await buildInventory(config, logger)
      await inventory.start()
      await eventually('the group to have passed the topic', () => hasPassed(parts), patience)
      await inventory.stop()
      await check(parts)
    },
  )
}

/** The recorded transactions, each on whichever connection is free, from empty tables on. */
async function replay(parts: Parts, transactions: readonly Statement[][], connections: number): Promise<number> {
  await empty(parts)
  const clients = await connectPlain(parts.shop.databaseUrl('inventory'), connections)
  let next = 0
  const begun = performance.now()
  await Promise.all(
    clients.map(async ({ run }) => {
      for (let mine = transactions[next++]; mine; mine = transactions[next++])
        for (const statement of mine) await run(statement)
    }),
  )
  const seconds = (performance.now() - begun) / 1_000
  await Promise.all(clients.map(({ close }) => close()))
  await check(parts)
  return parts.messages / seconds
}
