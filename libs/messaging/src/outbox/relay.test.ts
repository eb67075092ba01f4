import { afterEach, expect, test } from '@jest/globals'
import { openSession, sql } from '@shopstream/database'
import { partitionOf, topicOf } from '@shopstream/events'
import { createMetrics } from '@shopstream/observability'
import { eventually } from '@shopstream/testing'
import { MessageRefused } from '../broker/bus.ts'
import { openTestShop, sequencesByKey, type TestShop, upTo } from '../testing/shop.ts'
import { produces, stockEvent } from '../testing/stock.ts'

const topic = topicOf('StockLevelChanged')
let shop: TestShop
afterEach(() => shop.close())

test('what is rolled back is not published; what is committed by 16 writers is, once and in order per key', async () => {
  shop = await openTestShop()
  await shop.start()
  await expect(
    shop.database.transaction(async (tx) => {
      await produces.emit(tx, [stockEvent('rolled back', 1n)])
      throw new Error('changed my mind')
    }),
  ).rejects.toThrow('changed my mind')
  const writer = async (key: string) => {
    for (let sequence = 1n; sequence <= 40n; sequence++) await shop.emit(stockEvent(key, sequence))
  }
  const keys = Array.from({ length: 16 }, (_, i) => `sku-${i}`)
  await Promise.all(keys.map(writer))
  await eventually('all effects', async () => (await shop.effects()).length >= 16 * 40)
  expect(sequencesByKey(await shop.effects())).toEqual(Object.fromEntries(keys.map((key) => [key, upTo(40)])))
  await eventually('an empty outbox', async () => (await shop.outbox()).length === 0)
})

test('a second instance takes the relay over when the first stops', async () => {
  shop = await openTestShop()
  const first = await shop.start([])
  await shop.emit(stockEvent('a', 1n))
  await eventually('the first to publish', async () => (await shop.outbox()).length === 0)
  await shop.start()
  await eventually('the second to have asked for the lock in vain', async () => {
    const { rows } = await sql`
      select 1 from pg_stat_activity
      where datname = current_database() and state = 'idle' and query like 'select pg_try_advisory_lock%'`.execute(
      shop.database.query,
    )
    return rows.length > 0
  })
  await first.stop()
  await shop.emit(stockEvent('a', 2n))
  await eventually('the second to publish', async () => (await shop.effects()).length === 2)
})

test('an instance that does not lead wakes the one that does', async () => {
  shop = await openTestShop()
  await shop.start()
  await shop.start([])
  const listening = await openSession(shop.url, 'listening', {})
  let heard = 0
  await listening.listen('outbox', () => heard++)
  await eventually('somebody to be told of an event', async () => {
    await shop.emit(stockEvent('sku', 1n))
    return heard > 0
  })
  await listening.close()
})

test('an event that the broker refuses for good is set aside with its key; the others go on', async () => {
  shop = await openTestShop()
  await shop.bus.ensureTopics([{ ...topic, settings: { ...topic.settings, 'max.message.bytes': '1500' } }])
  const nobodys = { topic: topic.name, partition: 0, key: 'big', headers: { ce_type: Buffer.from('Nobodys') } }
  await eventually('the broker to have heard of its setting', () =>
    shop.bus
      .publish([{ ...nobodys, value: Buffer.alloc(5_000) }])
      .then((deliveries) => deliveries.every(({ error }) => error instanceof MessageRefused)),
  )
  const metrics = createMetrics('shop')
  await shop.start(undefined, metrics)
  await shop.emit(stockEvent('good', 1n))
  await shop.database.transaction(async (tx) => {
    await sql`insert into outbox (topic, partition, key, value, headers) values
      (${topic.name}, ${partitionOf('big', topic.partitions)}, 'big', ${Buffer.alloc(5_000)}, '{}')`.execute(tx)
  })
  await shop.emit(stockEvent('big', 2n), stockEvent('good', 2n), stockEvent('other', 1n))
  await eventually('the others', async () => (await shop.effects()).length === 3)
  await eventually('only the held back rows', async () => (await shop.outbox()).length === 2)
  expect(sequencesByKey(await shop.effects())).toEqual({ good: [1, 2], other: [1] })
  expect(await shop.outbox()).toMatchObject([{ refused: expect.stringContaining('larger') }, { refused: null }])
  const measured = await metrics.metrics()
  expect(measured).toContain('shopstream_outbox_refused{service="shop"} 1\n')
  expect(measured).toContain('shopstream_outbox_oldest_seconds{service="shop"} 0\n') // it is no lateness of Kafka's
})
