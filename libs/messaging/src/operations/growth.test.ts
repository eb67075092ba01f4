import zlib from 'node:zlib'
import { afterEach, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { partitionOf, type Topic, topicOf } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { listUnreadable, stepOver } from '../consumer/unreadable.ts'
import type { CrashPoint } from '../crash-points.ts'
import { on } from '../event/consumption.ts'
import { outgoing } from '../outbox/outbox.ts'
import { encodeBatch } from '../testing/batches.ts'
import { openForeignProducer } from '../testing/foreign.ts'
import { startLoad } from '../testing/load.ts'
import { atRest, openTestShop, sequencesByKey, type TestShop, upTo } from '../testing/shop.ts'
import type { ChildLife } from '../testing/shop-child.ts'
import { produces, stockEvent } from '../testing/stock.ts'
import { CannotGrow, countOf, type GrowthStep, growTopic } from './growth.ts'

const topic = topicOf('StockLevelChanged')
let shop: TestShop
afterEach(() => shop.close())

const grow = (partitions: number, told?: (step: GrowthStep) => void, of: Topic = topic, patienceMs = 60_000) =>
  growTopic({
    bus: shop.bus,
    database: shop.database,
    topic: of,
    partitions,
    groups: ['shop'],
    patienceMs,
    ...(told && { told }),
  })

/** The command in a process of its own, which ends there as by `kill -9`. */
async function killedAt(crashAt: CrashPoint, grow: NonNullable<ChildLife['grow']>): Promise<void> {
  const command = shop.startProcess('command', { crashAt, grow })
  await eventually(`it to die at ${crashAt}`, () => !command.isAlive, { timeoutMs: 60_000, everyMs: 50 })
  expect(command.endedBy).toBe('SIGKILL')
}

/** Where each event of the topic stands: its key, sequence and partition. */
async function standing(of = topic) {
  const events: { key: string; sequence: bigint; partition: number; isTombstone: boolean }[] = []
  await shop.bus.read({
    topics: [of.name],
    toEnd: true,
    handle(messages) {
      for (const { key, headers, partition, value } of messages)
        events.push({
          key: String(key),
          sequence: BigInt(String(headers.ce_sequence ?? 0)),
          partition,
          isTombstone: value === null,
        })
    },
    unreadable() {},
  })
  return events
}

const byPartition = (events: { key: string; partition: number }[]) =>
  [...Map.groupBy(events, ({ key }) => key)].map(([key, ofKey]) => [
    key,
    [...new Set(ofKey.map((one) => one.partition))].toSorted(),
  ])

test('a topic is grown under load, by a command that ends after each step, and is killed in the middle: nothing is lost or twice, keys stay in order', async () => {
  let isBroken = true
  shop = await openTestShop({
    trouble: ({ key, sequence }) => {
      if (isBroken && key === 'parked' && sequence === 1n) throw new Error('for a while')
    },
    policy: { attempts: 1_000 },
  })
  await shop.start()
  await shop.start() // an instance that does not lead, and consumes
  const load = startLoad(shop)
  await shop.emit(stockEvent('parked', 1n))
  await eventually('the parked one', async () => (await shop.parked()).length === 1)
  await load.handled(5)
  const endsWhen = (last: GrowthStep) =>
    expect(
      grow(12, (step) => {
        if (step === last) throw new Error(`ended when ${step}`)
      }),
    ).rejects.toThrow(`ended when ${last}`)
  await endsWhen('held')
  await endsWhen('drained')
  await killedAt('growth-added', { event: 'StockLevelChanged', partitions: 12, groups: ['shop'] })
  await eventually('its partitions', async () => (await countOf(shop.bus, topic.name)) === 12)
  await endsWhen('added')
  await endsWhen('moved')
  const waiting = load.rounds + 5
  await eventually('events to wait meanwhile', () => load.rounds > waiting)
  await shop.emit(stockEvent('parked', 2n)) // by the new number it comes to another partition
  await grow(12)
  await shop.start()
  await load.handled(load.rounds + 10)
  await grow(12) // nothing more to do
  await eventually('the follower', async () => (await shop.parked()).length === 2)
  isBroken = false
  const rounds = await load.stop()
  const { effects } = await atRest(shop)
  await eventually('nothing to be parked', async () => (await shop.parked()).length === 0)
  expect({ ...effects, parked: sequencesByKey(await shop.effects()).parked }).toEqual({
    ...Object.fromEntries(upTo(12).map((n) => [`sku-${n}`, upTo(rounds)])),
    parked: [1, 2],
  })
  const events = await standing()
  const moved = byPartition(events)
  for (const [key, partitions] of moved)
    expect(partitions).toEqual([...new Set([partitionOf(String(key), 6), partitionOf(String(key), 12)])].toSorted())
  expect(moved.some(([, partitions]) => partitions?.length === 2)).toBe(true)
  expect(await shop.bus.ensureTopics([topic])).toEqual({ made: [], longer: [] }) // the next start does not mind
}, 240_000)

test('what cannot be drained holds nothing for longer, and is told', async () => {
  shop = await openTestShop()
  const relay = await shop.start([])
  await shop.emit(stockEvent('a', 1n))
  await eventually('it to be published', () => relay.hasPublished())
  await expect(grow(12, undefined, topic, 1_000)).rejects.toThrow('shop has not come to the end of shop.stock.v1')
  await shop.start()
  await shop.emit(stockEvent('a', 2n))
  await eventually('both', async () => (await shop.effects()).length === 2)
  await expect(grow(3)).rejects.toThrow(CannotGrow)
  expect(await countOf(shop.bus, topic.name)).toBe(6)
}, 60_000)

const listed = (sku: string, sequence: bigint) =>
  outgoing('shop', {
    type: 'ProductListed',
    key: sku,
    sequence,
    data: { sku, name: sku, description: '', price: { amount: 1n, currency: 'EUR' }, version: Number(sequence) },
  })

test('of a compacted topic the last record of each key moves, and its former partition forgets it', async () => {
  shop = await openTestShop()
  const compacted = topicOf('ProductListed')
  const keys = upTo(20).map((n) => `product-${n}`)
  await shop.bus.publish(keys.flatMap((key) => [listed(key, 1n), listed(key, 2n)]))
  const relay = await shop.start()
  await killedAt('growth-copied', { event: 'ProductListed', partitions: 8, groups: [] })
  await growTopic({ groups: [], topic: compacted, partitions: 8, bus: shop.bus, database: shop.database })
  await shop.database.transaction((tx) =>
    produces.emit(
      tx,
      keys.map((key) => ({
        type: 'ProductListed' as const,
        key,
        sequence: 3n,
        data: { sku: key, name: key, description: '', price: { amount: 1n, currency: 'EUR' }, version: 3 },
      })),
    ),
  )
  await eventually('the newest to be published', () => relay.hasPublished())
  const last = new Map<string, { sequence: bigint; isTombstone: boolean }>()
  for (const one of await standing(compacted)) last.set(`${one.key} ${one.partition}`, one)
  for (const key of keys) {
    const [before, now] = [partitionOf(key, 6), partitionOf(key, 8)]
    expect(last.get(`${key} ${now}`)).toMatchObject({ sequence: 3n, isTombstone: false })
    if (before !== now) expect(last.get(`${key} ${before}`)).toMatchObject({ isTombstone: true })
  }
}, 60_000)

test('what cannot be read is decided before anything changes; what was stepped over, or placed by others, stays where it is', async () => {
  shop = await openTestShop()
  const compacted = topicOf('ProductListed')
  const foreign = openForeignProducer(shop.broker.brokers)
  const write = (partition: number, ...parts: Parameters<typeof encodeBatch>) =>
    foreign.write(shop.broker.topicPrefix + compacted.name, partition, encodeBatch(...parts))
  const consumes = [on({ ProductListed: ['sku'] }, async () => {})]
  const keys = upTo(20).map((n) => `product-${n}`)
  const growing = (partitions: number) =>
    growTopic({
      bus: shop.bus,
      database: shop.database,
      topic: compacted,
      partitions,
      groups: ['shop'],
      databases: { shop: shop.database },
      patienceMs: 10_000,
    })
  const untouched = async () => {
    const { rows } = await sql`select from topic_partitions where growing_to is not null`.execute(shop.database.query)
    return rows.length === 0 && (await countOf(shop.bus, compacted.name)) === 6
  }
  try {
    await shop.bus.publish(keys.map((key) => listed(key, 1n)))
    const noText = upTo(4).map((n) => ({ key: Buffer.from([0xff, n]), value: 'of others' }))
    await write(0, { records: noText })
    const [elsewhere = ''] = keys.filter((key) => partitionOf(key, 6) !== 0 && partitionOf(key, 8) !== 0)
    await write(0, { records: [{ key: elsewhere, value: 'of others' }] })
    const records = [{ key: 'bomb', value: Buffer.alloc(20_000_000) }]
    await write(1, { records, codec: 1, compress: (raw) => zlib.gzipSync(raw) })
    const bomb = (await shop.bus.positions('nobody', [compacted.name])).find(({ partition }) => partition === 1)
    const offset = (bomb?.end ?? 1n) - 1n

    const refusal = `unreadable step-over shop.product.v1/1@${offset} --reason`
    await expect(growing(8)).rejects.toThrow(refusal) // nobody has come to it yet
    await shop.start(consumes)
    await eventually('it to be met', async () => (await listUnreadable(shop.database.query)).length === 1, {
      timeoutMs: 60_000,
    })
    await expect(growing(8)).rejects.toThrow(CannotGrow)
    expect(await untouched()).toBe(true)

    const decision = { actor: 'test', reason: 'a bomb' }
    await stepOver(shop.database.query, { topic: compacted.name, partition: 1, offset, ...decision })
    await growing(8)
    const now = await standing(compacted)
    for (const key of keys) {
      const last = now.findLast((one) => one.key === key && one.partition === partitionOf(key, 8))
      expect(last).toMatchObject({ sequence: 1n, isTombstone: false })
    }
    const ofOthers = now.filter(({ sequence, isTombstone }) => sequence === 0n && !isTombstone)
    expect(ofOthers.map(({ partition }) => partition)).toEqual([0, 0, 0, 0, 0])
    expect(now.filter(({ key, isTombstone }) => isTombstone && !keys.includes(key))).toEqual([])
  } finally {
    await foreign.close()
  }
}, 120_000)

test('the database places keys as we do, and as Kafka does', async () => {
  shop = await openTestShop()
  const keys = ['', 'a', 'ab', 'abc', 'abcd', 'sku-17', 'ü€😀', '0198c0de-0000-7000-8000-000000000003', 'k'.repeat(999)]
  const { rows } = await sql<{ six: number; many: number }>`
    select partition_of(key, 6) as six, partition_of(key, 1009) as many
    from unnest(${keys}::text[]) with ordinality as one (key, place) order by place`.execute(shop.database.query)
  expect(rows).toEqual(keys.map((key) => ({ six: partitionOf(key, 6), many: partitionOf(key, 1009) })))
})
