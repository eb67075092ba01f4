import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { newEventId } from '@shopstream/events'
import {
  createWorld,
  eventually,
  type PgBouncer,
  pgBouncerBinary,
  startPgBouncer,
  type World,
} from '@shopstream/testing'
import { buildOrder } from './app.ts'

let dir: string
let world: World
let pooler: PgBouncer

beforeAll(async () => {
  if (!pgBouncerBinary) return
  dir = mkdtempSync(join(tmpdir(), 'shopstream-pooled-order-'))
  chmodSync(dir, 0o711)
  world = await createWorld('order')
  pooler = await startPgBouncer({ dir, url: world.settings.DATABASE_URL, mode: 'transaction' })
  await world.publishSigningKey()
  const data = { sku: 'mug', name: 'mug', description: '', price: { amount: 1450n, currency: 'EUR' }, version: 1 }
  await world.publish({ type: 'ProductListed', key: 'mug', sequence: 1n, data })
})
afterAll(async () => {
  if (!pgBouncerBinary) return
  await pooler?.stop()
  await world?.close()
  rmSync(dir, { recursive: true, force: true })
})

const pooled = pgBouncerBinary ? test : test.skip
const unless = pgBouncerBinary ? '' : ' (skipped: pgbouncer is not installed; Debian has a package)'

type Order = Awaited<ReturnType<typeof buildOrder>>
const build = (directUrl?: string) => {
  const { DATABASE_URL: _, ...settings } = world.settings
  const urls = { DATABASE_URL: pooler.url, ...(directUrl && { DATABASE_DIRECT_URL: directUrl }) }
  return buildOrder({ ...settings, ...urls, RESERVATION_DEADLINE_SECONDS: 900 }, world.logger)
}

pooled(`behind a pooler in transaction mode a start without the direct address ends in words${unless}`, async () => {
  const order = await build()
  await expect(order.start()).rejects.toThrow(/a pooler gives each transaction another session.*DATABASE_DIRECT_URL/)
  await order.stop()
})

pooled(
  `behind a pooler in transaction mode one of two instances publishes, each order once, and the other when it stops${unless}`,
  async () => {
    const running = [await build(world.settings.DATABASE_URL), await build(world.settings.DATABASE_URL)]
    try {
      await Promise.all(running.map((order) => order.start()))
      for (const { http } of running)
        await eventually('readiness', async () => (await http.inject('/readyz')).statusCode === 200)
      const token = await world.token({ id: newEventId(), roles: ['customer'] })
      const before = await placeThrough(running, token)
      await publishedOnce(before)
      const leader = await onlyLeader(running)
      running.splice(running.indexOf(leader), 1)
      await leader.stop()
      await publishedOnce(await placeThrough(running, token))
      await onlyLeader(running)
    } finally {
      for (const order of running) await order.stop()
    }
  },
)

async function placeThrough(instances: readonly Order[], token: string): Promise<string[]> {
  const address = { name: 'Ada', line1: '1 Main Street', city: 'Bern', postalCode: '3001', country: 'CH' }
  const payload = { items: [{ sku: 'mug', quantity: 1 }], shippingAddress: address }
  const headers = { authorization: `Bearer ${token}` }
  const placing = Array.from({ length: 20 }, (_, i) =>
    instances[i % instances.length]?.http.inject({ method: 'POST', url: '/v1/orders', headers, payload }),
  )
  const answers = await Promise.all(placing)
  expect(answers.map((answer) => answer?.statusCode)).toEqual(answers.map(() => 201))
  return answers.map((answer) => answer?.json().id)
}

async function publishedOnce(ids: readonly string[]): Promise<void> {
  const placed = () =>
    world
      .events('OrderPlaced')
      .map(({ key }) => key)
      .filter((key) => ids.includes(key))
  await eventually('all to be published', () => new Set(placed()).size === ids.length)
  expect(placed().sort()).toEqual([...ids].sort())
}

/** Throws where several think that they lead. */
async function onlyLeader(instances: readonly Order[]): Promise<Order> {
  const found = await Promise.all(
    instances.map(async (order) => {
      const { body } = await order.http.inject('/metrics')
      return /^shopstream_relay_leader(\{.*\})? 1$/m.test(body) ? [order] : []
    }),
  )
  const [leader, ...others] = found.flat()
  if (!leader || others.length > 0) throw new Error(`${found.flat().length} instances lead`)
  return leader
}
