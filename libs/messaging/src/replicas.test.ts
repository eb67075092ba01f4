import { afterEach, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { eventually } from '@shopstream/testing'
import { type Consumption, on } from './consumption.ts'
import type { Messaging } from './messaging.ts'
import { outgoing } from './outbox.ts'
import { openTestShop, type TestShop } from './test-shop.ts'
import { writeEffects } from './test-stock.ts'

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
  expect(await ofVersionBefore()).toBe(1)
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
