import { afterEach, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { encode, topicOf } from '@shopstream/events'
import { createMetrics } from '@shopstream/observability'
import { eventually } from '@shopstream/testing'
import type { Consumption } from '../event/consumption.ts'
import { outgoing } from '../outbox/outbox.ts'
import { collect, openTestShop, sequencesByKey, type TestShop, upTo } from '../testing/shop.ts'
import { rawMessage, stockEvent, writeEffects } from '../testing/stock.ts'

const topic = topicOf('StockLevelChanged')
let shop: TestShop
afterEach(() => shop.close())

test('the same messages delivered three times take effect once', async () => {
  shop = await openTestShop()
  const published = collect(shop.bus, topic.name)
  await shop.start()
  await shop.emit(...upTo(30).map((n) => stockEvent(`sku-${n % 3}`, BigInt(Math.ceil(n / 3)))))
  await eventually('the messages', () => published.messages.length === 30)
  const copies = [...published.messages]
  await eventually('their effects', async () => (await shop.effects()).length === 30) // so that no chunk has both
  await shop.bus.publish(copies)
  await shop.bus.publish(copies)
  await shop.emit(stockEvent('last', 1n))
  await eventually('all deliveries', () => published.messages.length === 91)
  await eventually('the group to have handled everything', async () => {
    const positions = await shop.bus.positions('shop', [topic.name])
    return positions.reduce((sum, { end }) => sum + end, 0n) === 91n && positions.every(({ end, done }) => end === done)
  })
  await published.close()
  expect(await shop.effects()).toHaveLength(31)
})

test('a consumer outlives the loss of all its database connections', async () => {
  const cut = () =>
    sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`
      .execute(shop.database.query)
      .catch(() => undefined)
  const toCut = [1n, 5n, 5n, 5n, 10n, 10n] // what has failed once has another attempt before it would be parked
  const trouble = async ({ sequence }: { sequence: bigint }) => {
    if (!toCut.includes(sequence)) return
    toCut.splice(toCut.indexOf(sequence), 1)
    await cut()
  }
  shop = await openTestShop({ trouble })
  const metrics = createMetrics('shop')
  await shop.start(undefined, metrics)
  for (const sequence of upTo(20)) {
    await eventually('an emitted event', () => shop.emit(stockEvent('a', BigInt(sequence))).then(() => true))
    await eventually('its effect, alone', async () => (await shop.effects()).length >= sequence)
  }
  expect(sequencesByKey(await shop.effects())).toEqual({ a: upTo(20) })
  // Nothing was parked, not even for a while: it was no message's fault.
  expect(await metrics.metrics()).not.toMatch(/outcome="parked"\S* [1-9]/)
  expect(await metrics.metrics()).toMatch(/outcome="handled"\S* 20/)
})

test('chunks of several partitions take effect together; what they fail with is parked alone, and the others take effect', async () => {
  const together: number[] = []
  const inserted = writeEffects(
    ({ key }) => {
      if (key === 'bad') throw new Error('no')
    },
    { backoffMs: 3_600_000, maxBackoffMs: 3_600_000 },
  )
  const counting: Consumption = {
    ...inserted,
    handle(tx, messages) {
      together.push(new Set(messages.map(({ partition }) => partition)).size)
      return inserted.handle(tx, messages)
    },
  }
  shop = await openTestShop()
  const keys = ['bad', ...upTo(40).map((n) => `good-${n}`)]
  await shop.bus.publish(keys.map((key) => outgoing('shop', stockEvent(key, 1n)))) // before anybody reads: one answer has all
  await shop.start([counting])
  await eventually('the good ones', async () => (await shop.effects()).length === 40)
  await eventually('the bad one', async () => (await shop.parked()).length === 1)
  expect(await shop.parked()).toMatchObject([{ key: 'bad', attempts: 1 }])
  expect(sequencesByKey(await shop.effects())).toEqual(
    Object.fromEntries(keys.filter((key) => key !== 'bad').map((key) => [key, [1]])),
  )
  // On a busy machine one answer may not have had them all; more come, until several partitions have waited together.
  for (let n = 2; Math.max(...together) < 2 && n <= 6; n++) {
    await shop.bus.publish(keys.slice(1).map((key) => outgoing('shop', stockEvent(key, BigInt(n)))))
    await eventually('more of the good ones', async () => (await shop.effects()).length === 40 * n)
  }
  expect(Math.max(...together)).toBeGreaterThan(1)
})

test('what cannot be read is dead at once with its bytes, and the partition moves on', async () => {
  shop = await openTestShop()
  const garbage = Buffer.from([0, 0, 1, 134, 161, 255, 255, 255])
  const event = (id: number) => ({
    ce_type: 'StockLevelChanged',
    ce_id: `0198c0de-0000-4000-8000-00000000000${id}`,
    ce_sequence: '1',
    ce_time: new Date().toISOString(),
  })
  const hostile = [
    rawMessage('x1', garbage),
    rawMessage('x2', garbage, {}),
    rawMessage('x3', garbage, event(3)),
    rawMessage('x4', Buffer.alloc(0), event(4)),
    { ...rawMessage('x5', garbage), value: null },
    rawMessage('with a \0', garbage, event(6)),
    rawMessage('k'.repeat(5_000), garbage, event(7)),
  ]
  await shop.bus.publish(hostile)
  await shop.start()
  // By key: what a producer has sent again is there twice.
  const dead = async () => [...new Map((await shop.parked()).map((row) => [row.key, row])).values()]
  await eventually('the dead', async () => (await dead()).length === hostile.length)
  await shop.emit(...upTo(12).map((n) => stockEvent(`good-${n}`, 1n)))
  await eventually('the good ones', async () => (await shop.effects()).length === 12)
  const parked = await dead()
  expect(parked.every(({ state }) => state === 'dead')).toBe(true)
  expect(parked.filter(({ bytes }) => bytes?.equals(garbage))).toHaveLength(5)
})

test('bytes that lie are dead with what they were, and good ones between them in the same partition take effect', async () => {
  shop = await openTestShop()
  const bytes = encode('StockLevelChanged', stockEvent('sku', 1n).data)
  const changed = (change: (copy: Buffer) => void) => {
    const copy = Buffer.from(bytes)
    change(copy)
    return copy
  }
  const hostile: [reason: string, value: Buffer][] = [
    ['cut off', bytes.subarray(0, -1)],
    ['too many', Buffer.concat([bytes, Buffer.from([0])])],
    ['not UTF-8', changed((copy) => copy.fill(0xff, 6, 9))],
    ['announced', changed((copy) => copy.writeUInt8(0x7e, 5))],
    ['negative', changed((copy) => copy.writeUInt8(0x01, 5))],
  ]
  const inPartition = (key: string, value: Buffer) => ({
    ...rawMessage(key, value, outgoing('shop', stockEvent(key, 1n)).headers as Record<string, string>),
    partition: 0,
  })
  const good = (n: number) => inPartition(`good-${n}`, encode('StockLevelChanged', stockEvent(`good-${n}`, 1n).data))
  await shop.bus.publish(hostile.flatMap(([reason, value], n) => [inPartition(reason, value), good(n)]))
  await shop.start()
  await eventually('the good ones', async () => (await shop.effects()).length === hostile.length)
  const parked = new Map((await shop.parked()).map((row) => [row.key, row]))
  for (const [reason, value] of hostile) {
    expect(parked.get(reason)).toMatchObject({ state: 'dead', error: expect.stringContaining(reason) })
    expect(parked.get(reason)?.bytes).toEqual(value)
  }
  expect(parked.size).toBe(hostile.length)
})
