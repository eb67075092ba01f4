import { Writable } from 'node:stream'
import { afterEach, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { deadLetterTopic, newEventId, topicOf } from '@shopstream/events'
import { createLogger, createMetrics } from '@shopstream/observability'
import { eventually, startProxiedKafka } from '@shopstream/testing'
import { maxBytesInFlight } from '../broker/kafka/consuming.ts'
import { on } from '../event/consumption.ts'
import { type NewEvent, outgoing } from '../outbox/outbox.ts'
import { collect, openTestShop, type TestShop } from '../testing/shop.ts'
import { produces, stockEvent } from '../testing/stock.ts'

let shop: TestShop
const undo: (() => Promise<void>)[] = []
let release = () => {}
afterEach(async () => {
  release() // a shop whose handler waits would not close
  await shop?.close()
  for (const step of undo.splice(0).reverse()) await step()
})

const patience = { timeoutMs: 60_000 }
const listed = (sku: string, description = ''): NewEvent<'ProductListed'> => ({
  type: 'ProductListed',
  key: sku,
  sequence: 1n,
  data: { sku, name: sku, description, price: { amount: 1n, currency: 'EUR' }, version: 1 },
})
const cancelled = (orderId: string, reason: string): NewEvent<'OrderCancelled'> => ({
  type: 'OrderCancelled',
  key: orderId,
  sequence: 2n,
  data: { orderId, userId: newEventId(), reason, cancelledAt: new Date() },
})
const stockTopic = topicOf('StockLevelChanged')

test('an urgent message waits for the bulk chunks in hand, not for the backlog; and the backlog is handled', async () => {
  shop = await openTestShop()
  const perPartition = 1_200
  const keys = keysOfAllPartitions()
  const backlog = keys.flatMap((key) =>
    Array.from({ length: perPartition }, (_, i) => outgoing('shop', stockEvent(key, BigInt(i + 1)))),
  )
  for (let start = 0; start < backlog.length; start += 1_200)
    await shop.bus.publish(backlog.slice(start, start + 1_200))

  const turns: { lane: 'urgent' | 'bulk'; messages: number }[] = []
  const lastOf = new Map<string, bigint>()
  const released = new AbortController()
  const bulk = on(
    { StockLevelChanged: [] },
    async (tx, messages) => {
      turns.push({ lane: 'bulk', messages: messages.length })
      for (const { key, sequence } of messages) {
        if (sequence === (lastOf.get(key) ?? 0n) + 1n) lastOf.set(key, sequence)
      }
      // Not idle: after 5 s of that it would be ended, and its messages would come one by one.
      if (turns.length <= 4) while (!released.signal.aborted) await sql`select pg_sleep(0.1)`.execute(tx)
    },
    { lane: 'bulk' },
  )
  const urgent = on({ ProductListed: [] }, async (_tx, messages) => {
    turns.push({ lane: 'urgent', messages: messages.length })
  })
  await shop.start([bulk, urgent])
  await eventually('as many bulk chunks in hand as may be', () => turns.length === 4, patience)
  await shop.bus.publish([outgoing('shop', listed('mug'))])
  released.abort()
  await eventually('the urgent one', () => turns.some(({ lane }) => lane === 'urgent'), patience)
  const before = turns.findIndex(({ lane }) => lane === 'urgent')
  // One chunk of each bulk partition, and the three that are let in right after it, whose handlers may begin sooner.
  // A held chunk that a busy machine lets run into a time limit of the database comes one by one: those are not chunks.
  expect(turns.slice(0, before).filter(({ messages }) => messages > 1).length).toBeLessThanOrEqual(keys.length + 3)
  expect(turns.slice(0, before).reduce((sum, { messages }) => sum + messages, 0)).toBeLessThan(backlog.length / 4)
  await eventually('the backlog', () => keys.every((key) => lastOf.get(key) === BigInt(perPartition)), patience)
}, 120_000)

test('a consumer whose database is locked holds no more than its bound of what tens of MiB wait for it', async () => {
  const kafka = await startProxiedKafka()
  undo.push(kafka.close)
  shop = await openTestShop({ brokers: kafka.proxied })
  await shop.deploy() // also the topic of orders
  const count = 80
  const description = 'x'.repeat(400_000)
  // Of two topics, as one MiB of each partition is what an answer holds already: 12 of them are more than the bound.
  for (let n = 0; n < count; n += 2) {
    await shop.bus.publish([outgoing('shop', listed(`sku-${n}`, description))])
    await shop.bus.publish([outgoing('shop', cancelled(newEventId(), description))])
  }
  const locked = Promise.withResolvers<void>()
  const unlock = Promise.withResolvers<void>()
  release = unlock.resolve
  const holding = shop.database.transaction(async (tx) => {
    await sql`set local idle_in_transaction_session_timeout = 0`.execute(tx)
    await sql`lock table effect in access exclusive mode`.execute(tx)
    locked.resolve()
    await unlock.promise
  })
  await locked.promise

  const before = kafka.proxy.received
  const metrics = createMetrics('shop')
  const row = on({ ProductListed: ['description'], OrderCancelled: ['reason'] }, async (tx, messages) => {
    await sql`insert into effect (key) select unnest(${messages.map(({ key }) => key)}::text[])`.execute(tx)
  })
  await shop.start([row], metrics)
  const inFlight = async () => (await metrics.getSingleMetric(gauge)?.get())?.values[0]?.value ?? 0
  await eventually('messages in flight', async () => (await inFlight()) > description.length, patience)
  const quiet = { bytes: 0, since: 0 }
  await eventually(
    'less than a message for three seconds: heartbeats, and the lag that is measured',
    () => {
      const { received } = kafka.proxy
      if (received - quiet.bytes > description.length)
        Object.assign(quiet, { bytes: received, since: performance.now() })
      return performance.now() - quiet.since > 3_000
    },
    patience,
  )
  expect(await inFlight()).toBeLessThanOrEqual(maxBytesInFlight)
  expect(kafka.proxy.received - before).toBeLessThan(maxBytesInFlight + 1_048_576)
  expect(count * description.length).toBeGreaterThan(3 * maxBytesInFlight)

  unlock.resolve()
  await holding
  await eventually(
    'all of them',
    async () => new Set((await shop.effects()).map(({ key }) => key)).size === count,
    patience,
  )
  await eventually('nothing in flight', async () => (await inFlight()) === 0, patience)
}, 180_000)
const gauge = 'shopstream_consumer_bytes_in_flight'

test('a topic that is gone holds back its own events only, and they come in order once it is back', async () => {
  shop = await openTestShop()
  await shop.start([])
  await shop.emit(stockEvent('sku', 1n))
  await eventually('the first event', async () => (await shop.outbox()).length === 0)

  await shop.deleteTopic(stockTopic.name)
  const waiting = 600 // more than one batch of the relay
  for (let n = 0; n < waiting; n += 100)
    await shop.emit(...Array.from({ length: 100 }, (_, i) => stockEvent('sku', BigInt(n + i + 2))))
  await shop.database.transaction((tx) => produces.emit(tx, [listed('mug')]))
  const products = collect(shop.bus, topicOf('ProductListed').name)
  undo.unshift(products.close)
  await eventually('the event of another topic', () => products.messages.length === 1, patience)
  expect(await shop.outbox()).toHaveLength(waiting)

  await shop.deploy()
  await eventually('an empty outbox', async () => (await shop.outbox()).length === 0, patience)
  const stock = collect(shop.bus, stockTopic.name)
  undo.unshift(stock.close)
  await eventually('the events that waited', () => stock.messages.length >= waiting, patience)
  const sequences = stock.messages.map(({ headers }) => Number(headers.ce_sequence?.toString()))
  const firsts = sequences.filter((sequence, place) => sequences.indexOf(sequence) === place) // some may come twice
  expect(firsts).toEqual(Array.from({ length: waiting }, (_, i) => i + 2))
}, 180_000)

/** A round takes about 20 of the broker's answers, whatever the machine; probes that others waited for took 560 to 1,560. */
const answersAtMost = 250

test('events beside one whose topic is gone do not wait for what is tried again with it', async () => {
  const probes: number[] = []
  let answers = 0
  const log = new Writable({
    write(line, _, done) {
      if (String(line).includes('the broker does not take a partition')) probes.push(answers)
      done()
    },
  })
  shop = await openTestShop({ logger: createLogger({ service: 'test', level: 'error', format: 'json' }, log) })
  await shop.start()
  const round = async (n: number) => {
    await shop.emit(stockEvent('sku', BigInt(n)))
    await eventually('its effect', async () => (await shop.effects()).length === n, { ...patience, everyMs: 10 })
  }
  await round(1)
  await shop.deleteTopic(topicOf('ProductListed').name)
  await shop.database.transaction((tx) => produces.emit(tx, [listed('mug')]))
  // Time is told by another publisher, whom the broker answers again and again: a busy machine slows down both.
  const clock = shop.bus.publisher('clock')
  const tick = { topic: deadLetterTopic('shop').name, partition: 0, key: null, value: Buffer.from('x'), headers: {} }
  let isOver = false
  const ticking = (async () => {
    for (; !isOver; answers += 1) await clock.publish([tick])
  })()
  undo.unshift(clock.close)
  const waited: number[] = []
  try {
    for (let n = 2; probes.length < 4; n += 1) {
      const begun = answers
      await round(n)
      waited.push(answers - begun)
    }
  } finally {
    isOver = true
    await ticking
  }
  // Each of the probes would be one; of a busy machine there may be others.
  const late = waited.filter((answers) => answers > answersAtMost)
  expect(late.length < probes.length - 1 || late).toBe(true)
  expect(await shop.outbox()).toHaveLength(1)
}, 180_000)

/** One key per partition of the stock topic. */
function keysOfAllPartitions(): string[] {
  const byPartition = new Map<number, string>()
  for (let n = 0; byPartition.size < stockTopic.partitions; n++) {
    const key = `sku-${n}`
    const { partition } = outgoing('shop', stockEvent(key, 1n))
    if (!byPartition.has(partition)) byPartition.set(partition, key)
  }
  return [...byPartition.values()]
}
