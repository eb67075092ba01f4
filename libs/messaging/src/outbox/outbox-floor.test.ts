import { afterEach, expect, test } from '@jest/globals'
import { openSession, sql } from '@shopstream/database'
import { topicOf } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { openTestShop, sequencesByKey, type TestShop } from '../testing/shop.ts'
import { produces, stockEvent } from '../testing/stock.ts'
import { publishable } from './outbox.ts'
import { createOutboxFloor, firstOfOutbox } from './outbox-floor.ts'

let shop: TestShop
afterEach(() => shop.close())

test('while somebody holds a snapshot, nobody walks over what has been published', async () => {
  shop = await openTestShop()
  await shop.start()
  const dump = await openSession(shop.url, 'dump', { idle_in_transaction_session_timeout: 0 })
  await dump.query('begin isolation level repeatable read')
  await dump.query('select from outbox')
  const others = Array.from({ length: 500 }, (_, n) => stockEvent(`sku-${n}`, 1n))
  for (let round = 0; round < 20; round++) await shop.emit(...others)
  await eventually('an empty outbox', async () => (await shop.outbox()).length === 0)
  const share = async () => {
    const { rows } = await sql<{ 'QUERY PLAN': [{ Plan: { 'Shared Hit Blocks': number } }] }>`
      explain (analyze, buffers, format json)
      ${sql.raw(firstOfOutbox({ columns: 'id', where: publishable, limit: 1 }))}`.execute(shop.database.query)
    const size = await sql<{ pages: number }>`select (pg_relation_size('outbox') / 8192)::integer as pages`.execute(
      shop.database.query,
    )
    return (rows[0]?.['QUERY PLAN'][0].Plan['Shared Hit Blocks'] ?? Number.NaN) / (size.rows[0]?.pages ?? Number.NaN)
  }
  // The floor stands 2,000 rows and a batch behind at the most, of 10,000.
  await eventually('a look at a part of the pages', async () => (await share()) < 0.5)
  await dump.close()
})

test('thousands that wait are each read once, not again and again by the looks before theirs', async () => {
  shop = await openTestShop()
  const [topic, waiting] = [topicOf('ProductListed'), 20_000] // of which nobody is to read
  await sql`insert into outbox (topic, partition, key, value, headers)
    select ${topic.name}, n % ${topic.partitions}::integer, 'sku-' || n, '', '{}' from generate_series(1, ${waiting}::integer) as n`.execute(
    shop.database.query,
  )
  await shop.start()
  const { read } = await readRows(shop, ({ deleted }) => deleted >= waiting)
  expect(read).toBeLessThan(10 * waiting) // 8: to publish and delete them, and to move the floor; 18 where looks sort them all
})

test('the floor of the outbox passes nobody who commits late, and leaves behind what waits', async () => {
  shop = await openTestShop()
  const session = await openSession(shop.url, 'relay', {})
  const early = createOutboxFloor(session)
  await early.passed(0) // before the first id is given out
  await early.passed(0)
  const look = async () =>
    (await session.query<{ id: bigint }>(firstOfOutbox({ columns: 'id', limit: 100 }))).map(({ id }) => id)
  await shop.emit(stockEvent('waiting', 1n), stockEvent('published', 1n))
  const isWritten = Promise.withResolvers<void>()
  const mayCommit = Promise.withResolvers<void>()
  const late = shop.database.transaction(async (tx) => {
    await produces.emit(tx, [stockEvent('late', 1n)])
    isWritten.resolve()
    await mayCommit.promise
  })
  await isWritten.promise
  await shop.emit(stockEvent('published', 2n), stockEvent('waiting', 2n))
  await session.query(`delete from outbox where key = 'published'`)
  const before = await look()
  expect(before).toHaveLength(2)
  const floor = createOutboxFloor(session)
  const move = async () => {
    await floor.passed(0)
    return (await session.query<{ id: bigint }>('select id from outbox_floor'))[0]?.id ?? 0n
  }
  expect([await move(), await move()]).toEqual([0n, 0n]) // it is noted where it could be, and the late one is waited for
  mayCommit.resolve()
  await late
  await eventually('the floor to move', async () => (await move()) > 0n)
  expect(await look()).toEqual([before[0], 3n, before[1]])
  await session.close()
  await shop.start()
  await eventually('all effects', async () => (await shop.effects()).length === 3)
  expect(sequencesByKey(await shop.effects())).toEqual({ late: [1], waiting: [1, 2] })
})

test('behind thousands that wait for a missing topic nobody walks over them again and again', async () => {
  shop = await openTestShop()
  await shop.start()
  const missing = topicOf('ProductListed')
  await shop.deleteTopic(missing.name)
  const waiting = 20_000
  await sql`insert into outbox (topic, partition, key, value, headers)
    select ${missing.name}, n % ${missing.partitions}::integer, 'sku-' || n, '', '{}' from generate_series(1, ${waiting}::integer) as n`.execute(
    shop.database.query,
  )
  let emitted = 0
  const readFor = async (events: number) => {
    const before = await readRows(shop)
    for (let n = 0; n < events; n++) {
      emitted += 1
      await shop.emit(stockEvent('beside', BigInt(emitted)))
      await eventually('its effect', async () => (await shop.effects()).length === emitted)
    }
    const after = await readRows(shop, ({ deleted }) => deleted >= before.deleted + events)
    return after.read - before.read
  }
  // Each look walked over all of them: two and more of an event's.
  await eventually('events that cost less than one walk each', async () => (await readFor(20)) < 20 * waiting, {
    timeoutMs: 60_000,
  })
  await shop.deploy()
  await eventually('all that waited', async () => (await shop.outbox()).length === 0, { timeoutMs: 60_000 })
}, 180_000)

test('a floor that a restore has left above the ids to come hides nothing', async () => {
  shop = await openTestShop()
  await sql`update outbox_floor set id = 500000`.execute(shop.database.query)
  await shop.start()
  await shop.emit(stockEvent('a', 1n))
  await eventually('its effect', async () => (await shop.effects()).length === 1)
})

test('a floor that a restore has left above the ids to come hides nothing', async () => {
  shop = await openTestShop()
  await sql`update outbox_floor set id = 500000`.execute(shop.database.query)
  await shop.start()
  await shop.emit(stockEvent('a', 1n))
  await eventually('its effect', async () => (await shop.effects()).length === 1)
})

/** Rows of the outbox that were read and deleted, as the relay's session tells now and then. */
async function readRows({ database }: TestShop, isTold = (_: { deleted: number }) => true) {
  const look = async () => {
    const { rows } = await sql<{ read: number; deleted: number }>`
      select (seq_tup_read + coalesce(idx_tup_fetch, 0))::float8 as read, n_tup_del::float8 as deleted
      from pg_stat_user_tables where relname = 'outbox'`.execute(database.query)
    return rows[0] ?? { read: 0, deleted: 0 }
  }
  await eventually('what the relay has read and deleted', async () => isTold(await look()), { timeoutMs: 30_000 })
  return look()
}
