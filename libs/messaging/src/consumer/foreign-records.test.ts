import zlib from 'node:zlib'
import { afterEach, describe, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { encode, topicOf } from '@shopstream/events'
import { createLogger, createMetrics } from '@shopstream/observability'
import { eventually } from '@shopstream/testing'
import fc from 'fast-check'
import type { Bus, OutgoingMessage } from '../broker/bus.ts'
import { type Consumption, on } from '../event/consumption.ts'
import { toStored } from '../event/envelope.ts'
import { insertOutbox, outgoing } from '../outbox/outbox.ts'
import { startRelay } from '../outbox/relay.ts'
import { actOnLetters, listLetters } from '../parked/dead-letters.ts'
import { type BatchParts, encodeBatch, lz4Frame, type RawRecord, rawSnappy, xerialSnappy } from '../testing/batches.ts'
import { type ForeignProducer, openForeignProducer } from '../testing/foreign.ts'
import { atRest, openTestShop, sequencesByKey, silent, type TestShop, upTo } from '../testing/shop.ts'
import { stockEvent, writeEffects } from '../testing/stock.ts'
import { listUnreadable, stepOver } from './unreadable.ts'

/** Whatever others write to the shop's topics: everything readable takes effect, and the rest is told. */

let shop: TestShop
let foreign: ForeignProducer
afterEach(async () => {
  await foreign?.close()
  await shop?.close()
})

const topic = topicOf('StockLevelChanged')
const patience = { timeoutMs: 60_000 }

async function open(options: Parameters<typeof openTestShop>[0] = {}) {
  shop = await openTestShop(options)
  foreign = openForeignProducer(shop.broker.brokers)
  return {
    write: (partition: number, batch: Buffer) => foreign.write(shop.broker.topicPrefix + topic.name, partition, batch),
    begin: () => foreign.transaction(shop.broker.topicPrefix + topic.name),
  }
}

/** A good event as any client would write it. */
function goodRecord(key: string, sequence: bigint): RawRecord {
  const { value, headers } = outgoing('shop', stockEvent(key, sequence))
  return { key, value, headers: Object.entries(headers) }
}

const codecs: Pick<BatchParts, 'codec' | 'compress'>[] = [
  {},
  { codec: 1, compress: (bytes) => zlib.gzipSync(bytes) },
  { codec: 2, compress: xerialSnappy },
  { codec: 2, compress: rawSnappy },
  { codec: 3, compress: lz4Frame },
  { codec: 4, compress: (bytes) => zlib.zstdCompressSync(bytes) },
]

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array))
const maybe = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: null })
const headerName = fc.oneof(
  fc.constantFrom('ce_type', 'ce_id', 'ce_sequence', 'ce_time', 'traceparent', '__proto__', 'constructor', ''),
  fc.string({ unit: 'binary', maxLength: 20 }),
  bytes(20),
)
const headerValue = maybe(fc.oneof(bytes(50), fc.constantFrom('StockLevelChanged', 'ProductListed', 'Nobodys', '-1')))
/** Anything that format v2 can hold. */
const oddRecord: fc.Arbitrary<RawRecord> = fc.record({
  key: maybe(fc.oneof(bytes(20), bytes(2_000), fc.constantFrom('', 'a\0b', 'odd'))),
  value: maybe(fc.oneof(bytes(200), bytes(5_000), fc.constant(encode('StockLevelChanged', stockEvent('x', 1n).data)))),
  headers: fc.array(fc.tuple(headerName, headerValue), { maxLength: 8 }),
})
const oddBatch = fc.record({
  records: fc.array(oddRecord, { minLength: 1, maxLength: 10 }),
  packing: fc.constantFrom(...codecs),
  timestamp: fc.constantFrom(0n, -1n, 1n, 1_700_000_000_000n),
  partition: fc.nat(topic.partitions - 1),
})

test('among good events of every codec, all that a record can hold loses or delays none, and ends parked with its bytes', async () => {
  const { write } = await open()
  const metrics = createMetrics('shop')
  await shop.start(undefined, metrics)
  let rounds = 0
  const property = fc.asyncProperty(fc.array(oddBatch, { minLength: 5, maxLength: 20 }), async (batches) => {
    rounds += 1
    const round = rounds
    for (const { records, packing, timestamp, partition } of batches)
      await write(partition, encodeBatch({ records, timestamp, ...packing }))
    for (const [n, packing] of codecs.entries())
      for (const partition of [n, (n + 3) % topic.partitions])
        await write(
          partition,
          encodeBatch({ records: upTo(3).map((k) => goodRecord(`r${round}-${n}-${partition}-${k}`, 1n)), ...packing }),
        )
    await eventually(
      'the good ones',
      async () => (await shop.effects()).filter(({ key }) => key.startsWith(`r${round}-`)).length === 36,
      { timeoutMs: 15_000, everyMs: 50 },
    )
  })
  await fc.assert(property, { numRuns: 15, endOnFailure: true })
  const { effects } = await atRest(shop)
  expect(Object.entries(effects).filter(([key]) => key.startsWith('r'))).toHaveLength(rounds * 36)
  expect((await shop.parked()).length).toBeGreaterThan(20)
  expect(await listUnreadable(shop.database.query)).toEqual([])
  expect(await metrics.metrics()).toContain('shopstream_consumer_rebuilt_total{service="shop"} 0')
}, 300_000)

describe('what cannot be read takes no event its place', () => {
  const spoilt: [string, (value: Buffer) => Buffer][] = [
    ['is cut off', (value) => value.subarray(0, -1)],
    [
      'names a schema of some other registry',
      (value) => Buffer.concat([Buffer.from([0, 0, 1, 134, 159]), value.subarray(5)]),
    ],
  ]
  const redrive = (ids: bigint[]) => actOnLetters(shop.database, 'redrive', ids, { actor: 'test' })

  test.each(spoilt)(
    'a copy that %s: the event takes effect once, before or after the copy is tried again',
    async (_, spoil) => {
      const { write } = await open()
      await shop.start()
      const good = ['early', 'late'].map((key) => goodRecord(key, 1n))
      const copies = good.map((record) => ({ ...record, value: spoil(record.value as Buffer) }))
      if (copies[0]) copies[0].key = 'other' // what follows one of its own key waits
      await write(0, encodeBatch({ records: [...copies, ...copies] })) // each comes twice, as when it is sent again
      const letters = () => listLetters(shop.database.query, { states: ['dead', 'waiting'] })
      await eventually('both to be parked', async () => (await letters()).length === 2)
      const parked = await letters()

      await write(0, encodeBatch({ records: good.slice(0, 1) }))
      await eventually('the one that is genuine', async () => (await shop.effects()).length === 1)
      // As if a later version could read them.
      for (const [n, { id }] of parked.entries())
        await sql`
        update parked_message set bytes = ${good[n]?.value}, state = 'dead', waits_for_schema = null, next_attempt_at = null
        where id = ${id}`.execute(shop.database.query)
      expect(await redrive(parked.map(({ id }) => id))).toHaveLength(2)
      await eventually('the other by its letter', async () => (await shop.effects()).length === 2)
      await write(0, encodeBatch({ records: good.slice(1) }))
      const { effects } = await atRest(shop)
      expect(effects).toEqual({ early: [1], late: [1] })
      expect(await shop.parked()).toEqual([])
    },
  )

  test('an event that has come again behind what follows it takes effect before that', async () => {
    const { write } = await open()
    await shop.start()
    const [first, second] = [goodRecord('key', 1n), goodRecord('key', 2n)]
    const unread = { ...first, value: (first.value as Buffer).subarray(0, -1) }
    await write(0, encodeBatch({ records: [unread, second, first] }))
    const letters = () => listLetters(shop.database.query, { states: ['dead', 'behind'] })
    await eventually('all to be parked', async () => (await letters()).length === 3)
    const [{ id } = { id: 0n }] = await letters()
    await sql`update parked_message set bytes = ${first.value} where id = ${id}`.execute(shop.database.query)
    await redrive([id])
    await eventually('both effects', async () => (await shop.effects()).length === 2)
    const { effects } = await atRest(shop)
    expect(effects).toEqual({ key: [1, 2] })
    expect(await shop.parked()).toEqual([])
  })
})

test('a record that claims to be no event of ours holds back nothing of the key that it has', async () => {
  const { write } = await open()
  await shop.start()
  const records = [{ key: 'sku', value: '{}', headers: [] }, goodRecord('sku', 1n)]
  await write(0, encodeBatch({ records }))
  await eventually('the event', async () => (await shop.effects()).length === 1)
  expect(await listLetters(shop.database.query, { states: ['dead'] })).toMatchObject([{ key: 'sku', followers: 0 }])
})

test('what a handler refuses costs little more than its own attempts, one line for each chunk, and no good event beside it', async () => {
  const lines: string[] = []
  const logger = createLogger({ service: 'test', level: 'warn', format: 'json' }, { write: (line) => lines.push(line) })
  const { write } = await open({ logger })
  let turns = 0
  const inserted = writeEffects(() => {})
  const refusing: Consumption = {
    ...inserted,
    policy: { ...inserted.policy, backoffMs: 3_600_000, maxBackoffMs: 3_600_000 },
    handle(tx, messages) {
      turns += 1
      if (messages.some(({ key }) => key.startsWith('bad'))) throw new Error('refused')
      return inserted.handle(tx, messages)
    },
  }
  await shop.start([refusing])
  const lineCount = () => lines.filter((line) => line.includes('messages failed and are parked')).length
  const records = (prefix: (n: number) => string) => upTo(200).map((n) => goodRecord(`${prefix(n)}-${n}`, 1n))

  await write(0, encodeBatch({ records: records((n) => (n === 150 ? 'bad-one' : 'good')) }))
  await eventually('the good ones', async () => (await shop.effects()).length === 199)
  expect(turns).toBeLessThan(40)
  await eventually('the line', () => lineCount() === 1)

  turns = 0
  await write(0, encodeBatch({ records: records(() => 'bad') }))
  await eventually('the line of all', () => lineCount() === 2)
  expect(turns).toBeLessThan(250)
  expect(lines.find((line) => line.includes('"messages":200') && line.includes('are parked'))).toContain('refused')
  expect(await shop.parked()).toHaveLength(201)
  expect(lines.filter((line) => line.includes('refused')).length).toBeLessThanOrEqual(4)
}, 60_000)

test('thousands that are tried again and again hold up no good one: parked before them, behind them, or of another topic', async () => {
  const lines: string[] = []
  const logger = createLogger({ service: 'test', level: 'warn', format: 'json' }, { write: (line) => lines.push(line) })
  const { write } = await open({ logger })
  /** How many of the bad ones had been tried when each of the others was. */
  const triedBefore = new Map<string, number[]>()
  let bad = 0
  const meet = ({ key }: { key: string }) => {
    if (key.startsWith('bad')) {
      bad += 1
      throw new Error('refused')
    }
    const soFar = [...(triedBefore.get(key) ?? []), bad]
    triedBefore.set(key, soFar)
    if (soFar.length < 3) throw new Error('not yet')
  }
  const parkAs = async (first: number, last: number, key: string, message: OutgoingMessage, due: string) =>
    sql`
      insert into parked_message (topic, partition, "offset", key, bytes, headers, state, attempts, next_attempt_at)
      select ${message.topic}, 0, 1000000 + n, ${key} || n, ${message.value}, headers
          || jsonb_build_object('ce_id', left(headers->>'ce_id', 24) || lpad(to_hex(n), 12, '0')),
        'waiting', 1, now() + ${due}::interval
      from generate_series(${first}::integer, ${last}::integer) as n,
        (select ${JSON.stringify(toStored(message.headers))}::jsonb as headers) as one`.execute(shop.database.query)
  const stock = outgoing('shop', stockEvent('any', 1n))
  const product = outgoing('shop', {
    type: 'ProductListed',
    key: 'any',
    sequence: 1n,
    data: { sku: 'any', name: '', description: '', price: { amount: 1n, currency: 'EUR' }, version: 1 },
  })
  const flood = 4_000
  await parkAs(0, 0, 'early-', stock, '1 second')
  await parkAs(1, flood / 2, 'bad-', stock, '-1 hour')
  await parkAs(0, 0, 'other-', product, '1 second')
  await parkAs(flood / 2 + 1, flood, 'bad-', stock, '-1 hour')
  await shop.start([
    writeEffects(meet, { attempts: 1_000 }),
    on({ ProductListed: ['sku'] }, async (_tx, messages) => messages.forEach(meet), {
      backoffMs: 20,
      maxBackoffMs: 50,
    }),
  ])
  await write(0, encodeBatch({ records: [goodRecord('late', 1n)] }))
  const wanted = ['early-0', 'other-0', 'late']
  await eventually('the good ones', () => wanted.every((key) => triedBefore.get(key)?.length === 3), patience)
  for (const key of wanted) {
    const [first = 0, , last = 0] = triedBefore.get(key) ?? []
    expect(last - first).toBeLessThan(0.75 * flood) // 1,991 once, where the machine stood still for a moment
  }
  expect(triedBefore.get('early-0')?.[0]).toBeLessThan(flood)
  await eventually('more of the bad ones', () => bad >= 40, patience)
  expect(lines.filter((line) => line.includes('a parked message failed again')).length).toBeLessThan(20)
}, 120_000)

test('transactions, aborted and committed, and those that stay open for a while, lose nothing', async () => {
  const { write, begin } = await open()
  await shop.start()
  const aborted = await begin()
  await aborted.send([
    { partition: 0, value: 'never' },
    { partition: 1, value: 'never' },
  ])
  await write(0, encodeBatch({ records: [goodRecord('behind', 1n)] }))
  await write(2, encodeBatch({ records: [goodRecord('elsewhere', 1n)] }))
  await eventually('the other partition', async () => (await shop.effects()).length === 1)
  expect(sequencesByKey(await shop.effects())).toEqual({ elsewhere: [1] })
  await aborted.abort()
  await eventually('what was behind', async () => (await shop.effects()).length === 2)
  await atRest(shop)
  expect(await shop.parked()).toEqual([])
}, 60_000)

describe('what cannot be read', () => {
  /** More than 16 MiB when it is unpacked. */
  const bomb = (megabytes: number) =>
    encodeBatch({
      records: [{ value: Buffer.alloc(megabytes * 1_000_000) }],
      codec: 1,
      compress: (raw) => zlib.gzipSync(raw),
    })
  const standing = async (checks: { check(): void | Promise<void> }[]) => {
    const verdicts = await Promise.allSettled(checks.map(async (check) => check.check()))
    return verdicts.flatMap((verdict) => (verdict.status === 'rejected' ? [String(verdict.reason)] : [])).join()
  }

  test('stands alone: its partition waits and says so, all others go on; stepped over, what is behind it takes effect', async () => {
    const { write } = await open()
    const metrics = createMetrics('shop')
    const { checks } = await shop.start(undefined, metrics)
    await write(0, encodeBatch({ records: [goodRecord('before', 1n)] }))
    await write(0, bomb(150))
    await write(0, encodeBatch({ records: [goodRecord('behind', 1n)] }))
    await write(
      1,
      encodeBatch({
        records: [{ value: Buffer.alloc(5_000_000) }, goodRecord('beside', 1n)],
        codec: 1,
        compress: (raw) => zlib.gzipSync(raw),
      }),
    )
    for (const partition of [2, 3, 4, 5])
      await write(partition, encodeBatch({ records: [goodRecord(`other-${partition}`, 1n)] }))
    await eventually('all others', async () => (await shop.effects()).length === 5, patience)
    const met = await eventually(
      'both to be met',
      async () => {
        const found = await listUnreadable(shop.database.query)
        return found.length === 2 && found.toSorted((one, other) => one.partition - other.partition)
      },
      patience,
    )
    expect(met).toMatchObject([
      {
        topic: topic.name,
        partition: 0,
        firstOffset: 1n,
        lastOffset: 1n,
        steppedOverAt: null,
        reason: expect.stringContaining('16777216'),
      },
      { topic: topic.name, partition: 1, firstOffset: 0n, lastOffset: 0n, reason: expect.stringContaining('4194304') },
    ])
    const told = /shop\.stock\.v1\/0 stands still since .* offsets 1 to 1 cannot be read/
    await eventually('the check to tell', async () => told.test(await standing(checks)), patience) // which comes after the row
    expect((await shop.effects()).some(({ key }) => key === 'behind' || key === 'beside')).toBe(false)
    await eventually(
      'both to have been looked at for ten seconds',
      async () => {
        const found = await listUnreadable(shop.database.query)
        return found.every(({ metAt, lastMetAt }) => lastMetAt.getTime() - metAt.getTime() > 10_000)
      },
      patience,
    )
    // After 0, 2, 6 and 14 s; not each time that somebody's decision is looked for, which would be six times and more.
    const fetched = await metrics.getSingleMetric('shopstream_consumer_blocked_attempts_total')?.get()
    expect(fetched?.values[0]?.value).toBeLessThanOrEqual(2 * 4)

    const decision = { topic: topic.name, actor: 'test', reason: 'a bomb' }
    await expect(stepOver(shop.database.query, { ...decision, partition: 0, offset: 1n, reason: ' ' })).rejects.toThrow(
      'reason',
    )
    expect(await stepOver(shop.database.query, { ...decision, partition: 0, offset: 7n })).toEqual([])
    expect(await stepOver(shop.database.query, { ...decision, partition: 0, offset: 1n })).toMatchObject([
      { actor: 'test', steppedOverFor: 'a bomb' },
    ])
    expect(await stepOver(shop.database.query, { ...decision, partition: 1, offset: 0n })).toHaveLength(1)
    await eventually('what is behind', async () => (await shop.effects()).length === 7, patience)
    await eventually(
      'the check to be in order',
      async () => !(await standing(checks)).includes('stands still'),
      patience,
    )
    await atRestBeside(2)
    expect(await listUnreadable(shop.database.query)).toHaveLength(2)
  }, 120_000)

  test('is stepped over again by a group that reads its topics anew, but not what stands at the same place in a new topic', async () => {
    const { write } = await open()
    const first = await shop.start()
    await write(0, bomb(20))
    await write(0, encodeBatch({ records: [goodRecord('behind', 1n)] }))
    await eventually('it to be met', async () => (await listUnreadable(shop.database.query)).length === 1, patience)
    await stepOver(shop.database.query, {
      topic: topic.name,
      partition: 0,
      offset: 0n,
      actor: 'test',
      reason: 'a bomb',
    })
    await eventually('what is behind', async () => (await shop.effects()).length === 1, patience)
    await first.stop()
    await shop.bus.rewind('shop', [topic.name])
    await shop.start()
    await eventually(
      'the group to have passed it again',
      async () => {
        const positions = await shop.bus.positions('shop', [topic.name])
        return positions.every(({ done, end }) => done === end)
      },
      patience,
    )
    expect(await listUnreadable(shop.database.query)).toHaveLength(1)
  }, 120_000)

  const atRestBeside = (count: number) =>
    eventually(
      'the group to be at the end',
      async () => {
        const positions = await shop.bus.positions('shop', [topic.name])
        return (
          positions.every(({ done, end }) => done === end) &&
          (await listUnreadable(shop.database.query)).length === count
        )
      },
      patience,
    )
})

test('a dead message that is larger than the dead-letter topic takes is copied without what is too large, and told where it is', async () => {
  const { write } = await open()
  await shop.start()
  const huge = Buffer.alloc(3_500_000, 'x')
  const headers = Array.from({ length: 100 }, (_, n) => [`x-${n}`, Buffer.alloc(5_000, 'h')] as const)
  await write(
    0,
    encodeBatch({
      records: [
        {
          key: 'huge',
          value: huge,
          headers: [['x-empty', null], ['ce_type', 'StockLevelChanged'], ...headers.slice(0, 20)],
        },
      ],
    }),
  )
  await write(
    1,
    encodeBatch({ records: [{ key: 'wide', value: 'v', headers: [['ce_type', 'StockLevelChanged'], ...headers] }] }),
  )
  await eventually(
    'both to be dead',
    async () => (await shop.parked()).filter(({ state }) => state === 'dead').length === 2,
    patience,
  )
  await eventually('the copies to be out', async () => (await shop.outbox()).length === 0, patience)
  const copies: Record<string, unknown>[] = []
  await shop.bus.read({
    topics: ['shop.shop.dlq'],
    toEnd: true,
    handle: (messages) =>
      void copies.push(
        ...messages.map(({ key, value, headers: told }) => ({
          key,
          size: value?.length ?? null,
          ...Object.fromEntries(
            Object.entries(told)
              .filter(([name]) => name.startsWith('dlq_'))
              .map(([name, held]) => [name, String(held)]),
          ),
        })),
      ),
  })
  expect(copies.toSorted((one, other) => String(one.key).localeCompare(String(other.key)))).toMatchObject([
    {
      key: 'huge',
      size: null,
      dlq_value_bytes: '3500000',
      dlq_value_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      dlq_id: expect.stringMatching(/^\d+$/),
    },
    { key: 'wide', size: 1, dlq_headers_left_out: expect.stringMatching(/^\d+$/) },
  ])
  expect((await shop.parked()).find(({ key }) => key === 'huge')?.bytes.equals(huge)).toBe(true)
}, 120_000)

test('headers that are stored packed count by what they become: no batch of the relay fills the memory', async () => {
  shop = await openTestShop()
  const headers = Object.fromEntries(upTo(9).map((n) => [`x-${n}`, 'a'.repeat(8_000)]))
  const copies = upTo(60).map((n) => ({ topic: 'shop.shop.dlq', partition: 0, key: `k-${n}`, value: null, headers }))
  await shop.database.transaction((tx) => insertOutbox(tx, copies))
  const batches: number[] = []
  const bus: Bus = {
    ...shop.bus,
    publisher(name, until) {
      const publisher = shop.bus.publisher(name, until)
      return {
        ...publisher,
        publish(messages) {
          batches.push(messages.length * 9 * 8_000)
          return publisher.publish(messages)
        },
      }
    },
  }
  const { database } = shop
  const relay = startRelay({ database, service: 'shop', bus, logger: silent, metrics: createMetrics('shop') })
  try {
    await eventually('all to be out', async () => (await shop.outbox()).length === 0, patience)
    expect(Math.max(...batches)).toBeLessThan(1_000_000)
  } finally {
    await relay.close()
  }
}, 60_000)
