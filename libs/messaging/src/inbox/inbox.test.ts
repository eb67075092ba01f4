import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { createDatabase, type Database, migrate, type Session, sql, type Transaction } from '@shopstream/database'
import { type TestDatabase, testDatabase } from '@shopstream/testing'
import { messagingMigrations } from '../index.ts'
import { silent } from '../testing/shop.ts'
import { maintainInbox } from './inbox.ts'

let own: TestDatabase
let database: Database<unknown>
let other: Session

beforeEach(async () => {
  own = await testDatabase('inbox')
  database = createDatabase<unknown>({ url: own.url, poolSize: 3, applicationName: 'test', logger: silent })
  await migrate(database, messagingMigrations)
  other = await database.session('another', {})
})
afterEach(async () => {
  await other.close()
  await database.close()
  await own.drop()
})

const run = async <Row>(text: string, on: Transaction | Database<unknown>['query'] = database.query) =>
  (await sql.raw<Row>(text).execute(on)).rows
const maintain = () => maintainInbox(database, silent)
const weeks = async () =>
  (await run<{ name: string }>(`select relid::regclass::text as name from pg_partition_tree('inbox') where isleaf`))
    .map(({ name }) => name)
    .filter((name) => name !== 'inbox_other' && name !== 'inbox_far')
const oldWeek = `date_trunc('week', now() - interval '60 days')::date`
/** A random id that begins with `first`, two digits. */
const idFrom = (first: string) => `overlay(gen_random_uuid()::text placing ${first} from 1 for 2)::uuid`
const addOld = `
  insert into inbox (event_id, topic, partition, "offset", received_at)
  select ${idFrom(`case when n % 2 = 0 then '00' else 'ff' end`)}, 'topic', 0, n, now() - interval '60 days' from generate_series(1, 2500) n;
  insert into parked_message (topic, partition, "offset", headers, state, blocks, parked_at, ended_at)
  select 'topic', 0, n, '{}', 'handled', false, now(), now() - interval '60 days' from generate_series(1, 2500) n`
const left = () =>
  run(`select (select count(*)::integer from inbox) as inbox, (select count(*)::integer from parked_message) as parked`)

/** As a consumer does; fails where it would be held up for longer than two attempts of the maintenance. */
const receive = () =>
  database.transaction(async (tx) => {
    await run(`set local lock_timeout = '2s'`, tx)
    await run(
      `insert into inbox (event_id, topic, partition, "offset") values ('${randomUUID()}', 'topic', 0, 1), (uuidv7(), 'topic', 0, 2)`,
      tx,
    )
  })

test('while a dump reads the inbox, its maintenance holds up no consumer, and does what can be done', async () => {
  await run(`select inbox_add_week(${oldWeek})`)
  const [old] = await weeks()
  await run(addOld)
  await other.query('begin')
  await other.query(`lock table inbox, parked_message in access share mode`)
  let isOver = false
  const maintaining = maintain().finally(() => {
    isOver = true
  })
  while (!isOver) await receive()
  await maintaining
  expect([await weeks(), (await left())[0]]).toMatchObject([[old], { parked: 0 }])
  await other.query('commit')
  await maintain()
  const after = await weeks()
  expect(after).toHaveLength(6) // three weeks back, this one, two to come
  expect(after).not.toContain(old)
})

test('old rows go in batches, past those that somebody holds', async () => {
  await run(addOld)
  await other.query('begin')
  await other.query('select 1 from parked_message order by id limit 1 for update')
  await maintain()
  expect(await left()).toEqual([{ inbox: 0, parked: 1 }])
})

test('one instance at a time maintains the inbox; another does not wait for it', async () => {
  await run(addOld)
  await other.query(`select pg_advisory_lock(hashtext('inbox-maintenance'))`)
  await maintain()
  expect([await weeks(), await left()]).toEqual([[], [{ inbox: 2500, parked: 2500 }]])
})

test('a week is added without a look at ids that are random', async () => {
  await run(`
    insert into inbox (event_id, topic, partition, "offset")
    select ${idFrom(`'ff'`)}, 'topic', 0, n from generate_series(1, 1000) n`)
  const added = await database.transaction(async (tx) => {
    const read = async () => {
      const [row] = await run<{ rows: number }>(
        `select sum(pg_stat_get_xact_tuples_returned(relid))::integer as rows from pg_partition_tree('inbox') where isleaf`,
        tx,
      )
      return row?.rows ?? 0
    }
    const before = await read()
    await run(`select inbox_add_week(${oldWeek})`, tx)
    return (await read()) - before
  })
  expect([await weeks(), added]).toEqual([[expect.any(String)], 0])
})
