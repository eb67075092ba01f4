import { afterEach, expect, test } from '@jest/globals'
import { createDatabase, sql } from '@shopstream/database'
import { type LockEntry, registry } from '@shopstream/events'
import { createCodec } from '@shopstream/events/codec'
import { createMetrics } from '@shopstream/observability'
import { eventually, startTcpProxy } from '@shopstream/testing'
import { MessageRefused } from '../broker/bus.ts'
import { openKafkaBus } from '../broker/kafka/open.ts'
import { createBlockedPartitions } from '../consumer/blocked-partitions.ts'
import { outgoing } from '../outbox/outbox.ts'
import { databaseIn, openTestShop, sequencesByKey, silent, stockEvents, type TestShop, upTo } from '../testing/shop.ts'
import { rawMessage, stockEvent } from '../testing/stock.ts'
import { deliver, type Forwarded } from './deliver.ts'
import { type Forwarder, type ForwarderOptions, startForwarder } from './forwarder.ts'

let shop: TestShop
const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
  await shop?.close()
})

const patience = { timeoutMs: 60_000 }
const policy = { attempts: 1, backoffMs: 3_600_000, maxBackoffMs: 3_600_000 }

/** Says what a receiver does with an event; undefined: it takes it. */
type Answer = (event: { key: string; sequence: bigint }) => Error | undefined

/** A receiver that remembers what it took, and of which calls. */
function createReceiver(answer: Answer = () => undefined) {
  const receiver = {
    answer,
    taken: [] as { key: string; sequence: bigint }[],
    calls: [] as string[][],
    forward: async (events: readonly Forwarded[]) => {
      if (events.length > 0) receiver.calls.push(events.map(({ event }) => `${event.key}/${event.sequence}`))
      return events.map(({ event }) => {
        const error = receiver.answer(event)
        if (!error) receiver.taken.push({ key: event.key, sequence: event.sequence })
        return error
      })
    },
  }
  return receiver
}

async function start(options: Pick<ForwarderOptions, 'forward'> & Partial<ForwarderOptions>): Promise<Forwarder> {
  const bus = await openKafkaBus({ ...shop.broker, clientId: 'bridge', logger: silent })
  const forwarder = startForwarder({
    bridge: 'tasks',
    service: 'shop',
    events: ['StockLevelChanged'],
    policy,
    database: shop.database,
    bus,
    blocked: createBlockedPartitions(createMetrics('shop')),
    logger: silent,
    meters: { count: () => {}, behind: () => {} },
    ...options,
  })
  undo.push(
    () => bus.close(),
    () => forwarder.close(),
  )
  return forwarder
}

const publish = (...events: ReturnType<typeof stockEvent>[]) =>
  shop.bus.publish(events.map((event) => outgoing('shop', event)))
/** In the order in which each came first: all is handed on at least once. */
const sequencesOf = (receiver: ReturnType<typeof createReceiver>): Record<string, number[]> =>
  Object.fromEntries(
    Object.entries(sequencesByKey(receiver.taken)).map(([key, sequences]) => [key, [...new Set(sequences)]]),
  )
/** What waits or is dead, without what a publish that was tried again has put into the topic twice. */
async function parkedOnce() {
  const rows = (await shop.parked()) as unknown as { event_id: string; state: string; attempts: number }[]
  return rows.filter((row, n) => rows.findIndex((one) => one.event_id === row.event_id) === n)
}
const allDone = () =>
  eventually(
    'the group to have handled everything',
    async () => (await shop.bus.positions('shop-tasks', ['shop.stock.v1'])).every(({ end, done }) => end === done),
    patience,
  )

test('what is refused stops its key, in its order, and no other; what its redriving takes goes before what follows', async () => {
  shop = await openTestShop()
  const receiver = createReceiver(({ key, sequence }) =>
    key === 'bad' && sequence === 3n ? new MessageRefused('never') : undefined,
  )
  await publish(...upTo(6).flatMap((n) => ['bad', 'good'].map((key) => stockEvent(key, BigInt(n)))))
  await start(receiver)
  await allDone()
  expect(sequencesOf(receiver)).toEqual({ bad: [1, 2], good: upTo(6) })
  expect(await parkedOnce()).toMatchObject([
    { key: 'bad', state: 'dead', error: expect.stringContaining('never') },
    ...[4, 5, 6].map(() => ({ key: 'bad', state: 'waiting', attempts: 0 })),
  ])
  await publish(stockEvent('bad', 7n)) // behind what is parked, in a chunk of its own
  await eventually('it to be parked', async () => (await parkedOnce()).length === 5, patience)
  receiver.answer = () => undefined
  await sql`update parked_message set state = 'waiting', next_attempt_at = now(), attempts = 0 where state = 'dead'`.execute(
    shop.database.query,
  )
  await sql`notify parked`.execute(shop.database.query)
  await eventually('all of the key', async () => (await shop.parked()).length === 0, patience)
  expect(sequencesOf(receiver)).toEqual({ bad: upTo(7), good: upTo(6) })
})

test('a receiver that takes some and not others gets the next of a key once it has the one before, and only what it lacks', async () => {
  let full = 6
  const receiver = createReceiver(({ key, sequence }) => {
    if (full === 0 || (Number(sequence) + key.length) % 2 === 1) return undefined
    full -= 1
    return new Error('the queue is full')
  })
  const keys = ['a', 'bb', 'ccc']
  const events = upTo(4).flatMap((n) =>
    keys.map((key) => ({ event: { key, sequence: BigInt(n) }, message: {} }) as Forwarded),
  )
  const told: unknown[] = []
  const refused = await deliver(receiver.forward, events, { revoked: new AbortController().signal }, (reason) =>
    told.push(reason),
  )
  expect(refused.size).toBe(0)
  expect(sequencesByKey(receiver.taken)).toEqual(Object.fromEntries(keys.map((key) => [key, upTo(4)])))
  expect(receiver.calls.slice(0, 4)).toEqual([
    ['a/1', 'bb/1', 'ccc/1'],
    ['a/1', 'ccc/1'],
    ['a/1', 'ccc/1'],
    ['a/1', 'ccc/1'],
  ])
  expect(receiver.calls.slice(-2)).toEqual(['3', '4'].map((n) => keys.map((key) => `${key}/${n}`)))
  expect(told[0]).toBeUndefined() // bb/1 was taken
  expect(told[1]).toEqual(new Error('the queue is full'))
  expect(told.at(-1)).toBeUndefined()
})

test('a receiver that is away is told as away, and gets all in order when it is back', async () => {
  shop = await openTestShop()
  const receiver = createReceiver()
  const forward = receiver.forward
  let isAway = true
  let tried = 0
  const forwarder = await start({
    async forward(events) {
      if (!isAway) return forward(events)
      tried += events.length
      throw new Error('connect ECONNREFUSED')
    },
  })
  await eventually('it to be told before the first event', () => forwarder.away()?.reason.includes('REFUSED'), patience)
  await publish(...stockEvents('a', 1, 20))
  await eventually('an event to be tried', () => tried > 0, patience)
  expect(receiver.taken).toEqual([])
  isAway = false
  await allDone()
  expect(sequencesOf(receiver)).toEqual({ a: upTo(20) })
  await eventually('it to be told as there', () => forwarder.away() === undefined, patience)
})

test('a database that is away meanwhile delays what is to be parked, and loses nothing', async () => {
  const held = await databaseIn(process.env.TEST_POSTGRES_URL ?? '')
  const proxy = await startTcpProxy({ target: Number(new URL(held.url).port) })
  shop = await openTestShop({ database: held })
  const url = new URL(held.url)
  url.port = String(proxy.port)
  const database = createDatabase<unknown>({ url: url.href, poolSize: 5, applicationName: 'bridge', logger: silent })
  const receiver = createReceiver(({ key, sequence }) => {
    if (key !== 'bad' || sequence !== 1n) return undefined
    proxy.cut() // it is refused, and the database cannot be told
    return new MessageRefused('never')
  })
  await publish(...upTo(5).flatMap((n) => ['bad', 'good'].map((key) => stockEvent(key, BigInt(n)))))
  await start({ forward: receiver.forward, database })
  undo.unshift(async () => {
    await database.close()
    await proxy.close()
  })
  await eventually('the refusal', () => receiver.calls.some((call) => call.includes('bad/1')), patience)
  expect(await shop.parked()).toEqual([])
  receiver.answer = ({ key, sequence }) => (key === 'bad' && sequence === 1n ? new MessageRefused('never') : undefined)
  proxy.heal()
  await allDone()
  const { good, ...others } = sequencesOf(receiver)
  expect(good).toEqual(upTo(5))
  expect(others).toEqual({})
  expect((await parkedOnce()).map(({ state }) => state)).toEqual(['dead', ...upTo(4).map(() => 'waiting')])
}, 120_000)

test('two of one group share the partitions; when one comes and one goes, nothing is lost and the order stays', async () => {
  shop = await openTestShop()
  const receiver = createReceiver()
  const keys = upTo(24).map((n) => `key-${n}`)
  const round = (n: number) => publish(...keys.map((key) => stockEvent(key, BigInt(n))))
  const first = await start(receiver)
  await round(1)
  await allDone()
  const others = { calls: 0 }
  await start({
    forward: (events) => {
      others.calls += events.length
      return receiver.forward(events)
    },
  })
  let n = 1
  await eventually(
    'the second to have its part',
    async () => {
      await round(++n)
      return others.calls > 0
    },
    patience,
  )
  for (let more = 0; more < 10; more += 1) await round(++n)
  await first.close()
  await round(++n)
  await allDone()
  expect(sequencesOf(receiver)).toEqual(Object.fromEntries(keys.map((key) => [key, upTo(n)])))
}, 120_000)

const newest = registry.findLast(({ subject }) => subject === 'shopstream.stock.StockLevelChanged') as LockEntry

/** An event by a schema that this build does not know, and what tells the schema. */
function newerBy(id: number) {
  const { fields, ...record } = newest.schema as { fields: object[] }
  const schema = { ...record, fields: [...fields, { name: 'shelf', type: 'string', default: '' }] }
  const version = newest.version + 1
  const codec = createCodec<Record<string, unknown>>([...registry, { ...newest, id, version, schema }])
  const { type, data } = stockEvent('newer', 2n)
  const headers = outgoing('shop', stockEvent('newer', 2n)).headers as Record<string, string>
  const about = { schemaId: id, subject: newest.subject, version, schema: JSON.stringify(schema) }
  return {
    event: rawMessage('newer', codec.encode(type, { ...data, shelf: 'A7' }), headers),
    told: outgoing('deployment', { type: 'SchemaRegistered', key: String(id), sequence: 1n, data: about }),
  }
}

test('of events that are not known: one that no bridge names passes by, one by a newer schema waits for it with its key, and what is no event is dead and holds back nobody', async () => {
  shop = await openTestShop()
  await shop.start() // the service, by whose group schemas are learned
  const receiver = createReceiver()
  const counts: string[] = []
  await start({
    ...receiver,
    meters: { count: (type, outcome, events) => counts.push(`${type} ${outcome} ${events}`), behind: () => {} },
  })
  const { event, told } = newerBy(100_981)
  const passing = rawMessage('newer', Buffer.from('x'), { ce_type: 'StockTold', ce_id: 'x' })
  const broken = rawMessage('newer', Buffer.from('no event'))
  const nameless = rawMessage('newer', Buffer.from('no event'), {})
  await publish(stockEvent('newer', 1n))
  await shop.bus.publish([passing, broken, nameless, event])
  await publish(stockEvent('newer', 3n), stockEvent('other', 1n))
  await allDone()
  expect(sequencesOf(receiver)).toEqual({ newer: [1], other: [1] })
  const ofBridge = async () =>
    (
      await sql<{ state: string; blocks: boolean; error: string | null }>`
        select state, blocks, error
        from ( -- a publish that is repeated writes an event twice
          select distinct on (coalesce(event_id::text, id::text)) * from parked_message
          where topic = 'shop.stock.v1@tasks' and ended_at is null order by coalesce(event_id::text, id::text), id) as once
        order by id`.execute(shop.database.query)
    ).rows
  expect(await ofBridge()).toMatchObject([
    { state: 'dead', blocks: false, error: 'Error: header ce_id is no UUID' },
    { state: 'dead', blocks: false, error: expect.stringContaining('ce_type is missing') },
    { state: 'waiting', blocks: true, error: expect.stringContaining('100981') },
    { state: 'waiting', blocks: true, error: null },
  ])
  await shop.bus.publish([told])
  await eventually('those of the key', async () => (await ofBridge()).length === 2, patience)
  expect(sequencesOf(receiver)).toEqual({ newer: [1, 2, 3], other: [1] })
  expect(counts.join()).not.toContain('StockTold')
}, 120_000)

test('what a bridge leaves out counts as skipped, and never as forwarded', async () => {
  shop = await openTestShop()
  const counts: Record<string, number> = {}
  const count = (_: string, outcome: string, events: number) => {
    counts[outcome] = (counts[outcome] ?? 0) + events
  }
  const receiver = createReceiver(({ key, sequence }) =>
    key === 'own' && sequence === 2n ? new MessageRefused('never') : undefined,
  )
  await publish(...upTo(2).flatMap((n) => ['own', 'other'].map((key) => stockEvent(key, BigInt(n)))))
  const skips: ForwarderOptions['skips'] = ({ key, headers }) => key === 'own' && String(headers.ce_sequence) === '1'
  await start({ ...receiver, skips, meters: { count, behind: () => {} } })
  await allDone()
  await eventually('all to be counted', () => Object.values(counts).reduce((a, b) => a + b, 0) >= 4, patience)
  expect(Object.keys(counts).sort()).toEqual(['forwarded', 'parked', 'skipped'])
  expect(counts).toMatchObject({ parked: 1, skipped: 1 })
  expect(sequencesOf(receiver)).toEqual({ other: [1, 2] })
})
