import { afterEach, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { createMetrics } from '@shopstream/observability'
import { openTestShop, type TestShop } from '../testing/shop.ts'

let shop: TestShop
afterEach(() => shop.close())

test('clocks that are wrong are told: readiness is degraded, and the metric says by how much', async () => {
  shop = await openTestShop()
  const metrics = createMetrics('shop')
  const { checks } = await shop.start([], metrics)
  const check = checks.find(({ name }) => name === 'clock')
  await check?.check()
  const now = Date.now
  try {
    Date.now = () => now() - 3_600_000
    await expect(check?.check()).rejects.toThrow(/clock is 3(600|599) s behind its database's/)
    expect(await metrics.metrics()).toMatch(/^shopstream_clock_offset_seconds\S* -3(600|599)/m)
  } finally {
    Date.now = now
  }
  expect(check?.optional).toBe(true)
})

test('the first reading of the metrics shows the backlog as it is, and one without a database shows none', async () => {
  shop = await openTestShop()
  const metrics = createMetrics('shop')
  await shop.start([], metrics)
  await sql`insert into outbox (topic, partition, key, headers, created_at, refused)
    values ('shop.stock.v1', 0, 'cup', '{}', now() - interval '1 hour', 'too large')`.execute(shop.database.query)
  const shown = async () => {
    const text = await metrics.metrics()
    const values = text.matchAll(/^(shopstream_outbox_(?:refused|rows|oldest_seconds))\S* (\S+)$/gm)
    return Object.fromEntries([...values].map(([, name, value]) => [name, Number(value)]))
  }
  expect(await shown()).toEqual({
    shopstream_outbox_refused: 1,
    shopstream_outbox_rows: 1,
    shopstream_outbox_oldest_seconds: 0,
  })
  await sql`alter table parked_message rename to parked_elsewhere`.execute(shop.database.query)
  expect(await shown()).toEqual({})
})
