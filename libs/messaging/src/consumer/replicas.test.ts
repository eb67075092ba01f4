import zlib from 'node:zlib'
import { afterEach, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { partitionOf } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { type Consumption, on } from '../event/consumption.ts'
import type { Messaging } from '../messaging.ts'
import { outgoing } from '../outbox/outbox.ts'
import { encodeBatch } from '../testing/batches.ts'
import { openForeignProducer } from '../testing/foreign.ts'
import { openTestShop, type TestShop, upTo } from '../testing/shop.ts'
import { writeEffects } from '../testing/stock.ts'
import { listUnreadable, stepOver } from './unreadable.ts'

let shop: TestShop
afterEach(() => shop.close())

const money = { amount: 100n, currency: 'EUR' }
const product = (sku: string, version: number) => ({ sku, name: sku, description: '', price: money, version })
const listed = (sku: string) =>
  outgoing('shop', { type: 'ProductListed', key: sku, sequence: 1n, data: product(sku, 1) })
const changed = (sku: string) =>
  outgoing('shop', { type: 'ProductChanged', key: sku, sequence: 2n, data: product(sku, 2) })

/** What each version of the service consumes; `hold` keeps it from taking anything of the catalogue in. */
function versions() {
  const seen = new Set<string>() // a handler runs again where its transaction was not committed
  let hold = Promise.resolve()
  const remember = async (_: unknown, messages: { key: string }[]) => {
    await hold
    for (const { key } of messages) seen.add(key)
  }
  const stock = writeEffects(() => {})
  return {
    seen,
    hold() {
      const { promise, resolve } = Promise.withResolvers<void>()
      hold = promise
      return resolve
    },
    withoutCatalogue: [stock],
    withProducts: [stock, on({ ProductListed: ['sku'] }, remember)],
    withChanges: [stock, on({ ProductListed: ['sku'], ProductChanged: ['sku'] }, remember)],
  }
}

async function readiness({ checks }: Messaging): Promise<string> {
  try {
    await checks.find(({ name }) => name === 'replicas')?.check()
    return 'ready'
  } catch (error) {
    return (error as Error).message
  }
}

const readyWith = async (consumes: readonly Consumption[]) => {
  const messaging = await shop.start(consumes)
  await eventually('it to be ready', async () => (await readiness(messaging)) === 'ready')
  return messaging
}

test('a version that keeps one replica more is ready once that is filled, and so is one that keeps one event more', async () => {
  shop = await openTestShop()
  const { seen, hold, withoutCatalogue, withProducts, withChanges } = versions()
  await shop.bus.publish(['cup', 'pot', 'jar'].map(listed))
  await shop.bus.publish(['cup', 'pot'].map(changed))
  const first = await readyWith(withoutCatalogue)
  await first.stop()

  const release = hold()
  const second = await shop.start(withProducts)
  const missing = 'still reading shop.product.v1, of which it keeps replicas'
  await eventually('it to know what is missing', async () => (await readiness(second)) === missing)
  release()
  await eventually('the second to be ready', async () => (await readiness(second)) === 'ready')
  expect([...seen].toSorted()).toEqual(['cup', 'jar', 'pot'])
  await second.stop()

  seen.clear()
  const go = hold()
  const third = await shop.start(withChanges)
  await eventually('it to know that again', async () => (await readiness(third)) === missing)
  go()
  await eventually('the third to be ready', async () => (await readiness(third)) === 'ready')
  expect([...seen].toSorted()).toEqual(['cup', 'pot'])
}, 60_000)

test('versions go back and forth: what was filled once is ready at once, by the table of the version before too', async () => {
  shop = await openTestShop()
  const { withoutCatalogue, withProducts } = versions()
  const ofVersionBefore = async () => (await sql`select from replicas_filled`.execute(shop.database.query)).rows.length
  const versionBefore = await readyWith(withoutCatalogue)
  await eventually('the note of it', async () => (await ofVersionBefore()) === 1) // it is ready a moment before
  await sql`truncate replica_filled`.execute(shop.database.query) // as the version before leaves it
  await versionBefore.stop()
  for (const consumes of [withProducts, withoutCatalogue, withProducts]) await (await readyWith(consumes)).stop()
  expect(await ofVersionBefore()).toBe(1)
  const { rows } = await sql`select topic, event from replica_filled order by 1`.execute(shop.database.query)
  expect(rows).toEqual([
    { topic: 'shop.product.v1', event: 'ProductListed' },
    { topic: 'shop.schema.v1', event: 'SchemaRegistered' },
  ])
}, 60_000)

test('what cannot be read keeps no service from being ready, but its replica is noted as filled only once somebody has decided', async () => {
  shop = await openTestShop()
  const { seen, withProducts, withChanges } = versions()
  const topic = 'shop.product.v1'
  const patience = { timeoutMs: 60_000 }
  const foreign = openForeignProducer(shop.broker.brokers)
  const records = [{ key: 'bomb', value: Buffer.alloc(20_000_000) }]
  const bomb = encodeBatch({ records, codec: 1, compress: (raw) => zlib.gzipSync(raw) })
  await foreign.write(shop.broker.topicPrefix + topic, 0, bomb).finally(() => foreign.close())
  const behind = upTo(40).flatMap((n) => (partitionOf(`sku-${n}`, 6) === 0 ? `sku-${n}` : []))
  await shop.bus.publish(['cup', 'pot', ...behind].map(listed))
  await shop.bus.publish(['cup', 'pot'].map(changed))
  const filled = async () =>
    (
      await sql<{ event: string }>`select event from replica_filled where topic = ${topic}`.execute(shop.database.query)
    ).rows
      .map(({ event }) => event)
      .toSorted()
  const decide = () =>
    stepOver(shop.database.query, { topic, partition: 0, offset: 0n, actor: 'test', reason: 'a bomb' })

  for (const consumes of [withProducts, withChanges]) {
    seen.clear()
    const messaging = await shop.start(consumes)
    await eventually('it to be ready', async () => (await readiness(messaging)) === 'ready', patience)
    const partitions = messaging.checks.find(({ name }) => name === 'partitions')
    await eventually('the partition to tell', async () => {
      const [verdict] = await Promise.allSettled([(async () => partitions?.check())()])
      return verdict.status === 'rejected' && String(verdict.reason).includes('shop.product.v1/0 stands still')
    })
    expect(['cup', 'pot', ...behind].filter((key) => seen.has(key))).toEqual(['cup', 'pot'])
    expect(await filled()).toEqual([])
    if (consumes === withChanges) {
      await decide()
      await eventually('what is behind it', () => behind.every((key) => seen.has(key)), patience)
      await eventually('both events to be noted', async () => (await filled()).length === 2, patience)
      expect(await readiness(messaging)).toBe('ready')
    }
    await messaging.stop()
  }

  // As if the group had come past it by a higher limit: then nobody has decided for what is read again.
  await sql`update unreadable_batch set stepped_over_at = null, actor = null, stepped_over_for = null`.execute(
    shop.database.query,
  )
  await sql`delete from replica_filled where event = 'ProductChanged'`.execute(shop.database.query)
  await readyWith(withChanges)
  expect(await filled()).toEqual(['ProductListed'])
  await decide()
  await eventually('the event that was read again to be noted', async () => (await filled()).length === 2, patience)
  expect(await listUnreadable(shop.database.query)).toHaveLength(1)
}, 180_000)
