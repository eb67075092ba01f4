import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { createLogger } from '@shopstream/observability'
import { eventually, type TestDatabase, testDatabase } from '@shopstream/testing'
import { createDatabase, type Database, type DatabaseOptions, signal, type Transaction } from './database.ts'
import { adviceOn, isPassing, isUnavailable } from './errors.ts'
import { type Migration, migrate, openSession, sql } from './index.ts'
import { sessionLimits } from './limits.ts'

let own: TestDatabase
let opened: Database<unknown>[]
let said: string[]
const logger = createLogger(
  { service: 'test', level: 'info', format: 'json' },
  { write: (line) => void said.push(line) },
)

beforeEach(async () => {
  own = await testDatabase('database')
  opened = []
  said = []
})
afterEach(async () => {
  await Promise.all(opened.map((database) => database.close()))
  await own.drop()
})

function open(options: Partial<DatabaseOptions> = {}): Database<unknown> {
  const database = createDatabase<unknown>({ url: own.url, poolSize: 3, applicationName: 'test', logger, ...options })
  opened.push(database)
  return database
}

const run = async <Row>(on: Database<unknown> | Transaction, text: string): Promise<Row[]> =>
  (await sql.raw<Row>(text).execute('query' in on ? on.query : on)).rows
const failureOf = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error) => error,
  )

/** What a role that may do everything changes about the test's own one, or its database. */
async function asAdmin(text: (name: string) => string): Promise<void> {
  const name = new URL(own.url).username
  await run(open({ url: process.env.TEST_POSTGRES_URL ?? '' }), text(name))
}

/** All sessions of the pool become what a failover can make of them. */
const leaveReadOnly = (database: Database<unknown>, sessions: number) =>
  Promise.all(
    Array.from({ length: sessions }, () =>
      run(database, `select set_config('default_transaction_read_only', 'on', false), pg_sleep(0.3)`),
    ),
  )

test('sessions that a failover has left read-only cost one request, whichever it was, and are thrown away', async () => {
  const database = open()
  await run(database, 'create table written (n integer)')
  await leaveReadOnly(database, 3)
  const write = () => database.transaction((tx) => run(tx, 'insert into written values (1)'))
  const failure = await failureOf(write())
  expect([failure.code, isUnavailable(failure)]).toEqual(['25006', true])
  for (let times = 0; times < 6; times += 1) await write()
  expect(await run(database, 'select count(*)::integer as count from written')).toEqual([{ count: 6 }])
})

test('readiness says in words that nothing can be written, and looks at a new session the next time', async () => {
  const database = open({ poolSize: 1 })
  await leaveReadOnly(database, 1)
  await expect(database.check()).rejects.toThrow('the database takes no writes')
  await database.check()
})

test('a session on which the server is still at what was given up is not used again, and a rollback does not wait for it', async () => {
  const database = open({ poolSize: 1, queryTimeoutMs: 1_000 })
  const failure = await failureOf(database.transaction((tx) => run(tx, 'select pg_sleep(30)')))
  expect([failure.message, isUnavailable(failure)]).toEqual(['Query read timeout', true])
  expect(await run(database, 'select 1 as one')).toEqual([{ one: 1 }])
})

const refusals: [what: string, before: (name: string) => string, code: string, passes: boolean][] = [
  ['a password that was changed', (name) => `alter role ${name} password 'another'`, '28P01', false],
  ['a role that may not log in', (name) => `alter role ${name} nologin`, '28000', false],
  ['too many connections', (name) => `alter role ${name} connection limit 0`, '53300', true],
  ['a database that takes nobody', (name) => `alter database ${name} allow_connections false`, '55000', false],
  ['a right that was taken', (name) => `revoke connect on database ${name} from ${name}`, '42501', false],
]
test.each(refusals)('a login that is refused for %s says nothing about the work', async (_, before, code, passes) => {
  const database = open()
  await run(database, 'select 1')
  database.renew()
  await asAdmin(before)
  for (const work of [() => run(database, 'select 1'), () => database.session('refused', {})]) {
    const failure = await failureOf(work())
    expect([failure.code, isUnavailable(failure), isPassing(failure)]).toEqual([code, true, passes])
    expect(adviceOn(failure)).toEqual(passes ? undefined : expect.stringMatching(/refuses the login, and will again/))
  }
})

test('advice names no password', async () => {
  await asAdmin((name) => `alter role ${name} password 'another'`)
  const advice = adviceOn(await failureOf(run(open(), 'select 1')))
  expect(advice).not.toContain(decodeURIComponent(new URL(own.url).password))
})

test('work that holds all connections of one pool leaves those of another, which hears its signals', async () => {
  const database = open({ poolSize: 1 })
  const beside = database.withPool('beside', 1)
  const heard = Promise.withResolvers<unknown>()
  beside.on('done', heard.resolve)
  await database.transaction(async (tx) => {
    await run(tx, 'select 1')
    expect(await run(beside, 'select 1 as one')).toEqual([{ one: 1 }])
    signal(tx, 'done', 'told')
  })
  expect(await heard.promise).toBe('told')
})

test('a session that cannot be set up leaves no connection behind', async () => {
  await expect(openSession(own.url, 'left behind', { 'no such setting': 1 })).rejects.toThrow('no such setting')
  const database = open()
  const left = () => run(database, `select 1 from pg_stat_activity where application_name = 'left behind'`)
  await eventually('it to be closed', async () => (await left()).length === 0)
})

test('a session says when it takes no writes any more, and ends', async () => {
  const session = await open().session('holder', {})
  await session.check()
  await session.query('set default_transaction_read_only = on')
  await expect(session.check()).rejects.toThrow('a failover has left it behind')
  expect(session.ended.aborted).toBe(true)
  await session.close()
})

test('a session that a pooler has moved says so, and ends', async () => {
  const session = await open().session('holder', {})
  await session.query(`select set_config('shopstream.session', 'of another', false)`)
  await expect(session.check()).rejects.toThrow('a pooler gives each transaction another session')
  expect(session.ended.aborted).toBe(true)
  await session.close()
})

const step = (name: string, text: string): Migration => ({ source: 'test', name, sql: text })
const recorded = (database: Database<unknown>) => run(database, 'select id from schema_migration order by id')

test('sessions begin with their limits, also those that were there before the first migration', async () => {
  const database = open()
  await run(database, 'select 1')
  await migrate(database, [])
  const limits = await run(
    database,
    `select name, setting from pg_settings where name like '%\\_timeout' and source = 'database user'`,
  )
  expect(limits).toEqual(
    expect.arrayContaining(Object.entries(sessionLimits).map(([name, ms]) => ({ name, setting: String(ms) }))),
  )
})

test('a migration takes longer than this process waits for other statements', async () => {
  const database = open({ queryTimeoutMs: 500 })
  await migrate(database, [step('1-slow', 'select pg_sleep(2)')])
  expect(await recorded(database)).toEqual([{ id: 'test/1-slow' }])
})

test('instances that migrate at the same time run each step once', async () => {
  const steps = [step('1', 'create table one (n integer)'), step('2', 'insert into one values (1)')]
  const done = await Promise.all([migrate(open(), steps), migrate(open(), steps), migrate(open(), steps)])
  expect(done.flat().sort()).toEqual(['test/1', 'test/2'])
  expect(await run(open(), 'select * from one')).toEqual([{ n: 1 }])
})

test('of a step that fails nothing has happened, and those before it are done', async () => {
  const database = open()
  const broken = [step('1', 'create table one (n integer)'), step('2', 'insert into one values (1); select 1 / 0')]
  await expect(migrate(database, broken)).rejects.toThrow('division by zero')
  expect([await recorded(database), await run(database, 'select * from one')]).toEqual([[{ id: 'test/1' }], []])
  await expect(migrate(database, [step('1', 'create table other ()')])).rejects.toThrow('was changed after it had run')
})

test('while a step waits for a table that a dump reads, everybody else goes on', async () => {
  const database = open()
  await migrate(database, [step('1', 'create table busy (n integer)')])
  const dump = await open().session('dump', {})
  await dump.query('begin')
  await dump.query('lock table busy in access share mode')
  const migrating = migrate(database, [step('2', 'alter table busy add column m integer')], { logger })
  const attempts = () => said.filter((line) => line.includes('a migration waits for a table')).length
  const insert = () =>
    database.transaction(async (tx) => {
      await run(tx, `set local lock_timeout = '3s'`) // less than the dump lasts: behind a lock without limit it would fail
      await run(tx, 'insert into busy values (1)')
    })
  await eventually('two attempts', async () => {
    await insert()
    return attempts() >= 2
  })
  await dump.query('commit')
  await dump.close()
  expect(await migrating).toEqual(['test/2'])
  expect(await run(database, 'select distinct m from busy')).toEqual([{ m: null }])
})

test('an index is built concurrently outside of a transaction, and again where it was broken off', async () => {
  const database = open()
  await run(database, 'create table built (n integer)')
  await run(database, 'insert into built values (1), (1)')
  const index = step('1-index', '-- why\ncreate unique index concurrently built_n on built (n);\n')
  await expect(migrate(database, [index])).rejects.toThrow('could not create unique index')
  await run(database, 'delete from built')
  expect(await migrate(database, [index])).toEqual(['test/1-index'])
  const valid = `select indisvalid from pg_index where indexrelid = 'built_n'::regclass`
  expect(await run(database, valid)).toEqual([{ indisvalid: true }])
  // Its end was not recorded: the process died in between.
  await run(database, 'delete from schema_migration')
  expect(await migrate(database, [index])).toEqual(['test/1-index'])
})

test('an index that is dropped concurrently is gone, also where that was broken off or not recorded', async () => {
  const database = open()
  await run(database, 'create table built (n integer)')
  await run(database, 'create index built_n on built (n)')
  const reader = await open().session('reader', {})
  await reader.query('begin')
  await reader.query('select * from built')
  const breaking = await open().session('breaking', { statement_timeout: 500 })
  await expect(breaking.query('drop index concurrently built_n')).rejects.toThrow('statement timeout')
  await Promise.all([reader.close(), breaking.close()])
  expect(await run(database, `select indisvalid from pg_index where indexrelid = 'built_n'::regclass`)).toEqual([
    { indisvalid: false },
  ])
  const drop = step('1-drop', 'drop index concurrently built_n')
  expect(await migrate(database, [drop])).toEqual(['test/1-drop'])
  expect(await run(database, `select to_regclass('built_n') as index`)).toEqual([{ index: null }])
  await run(database, 'delete from schema_migration')
  expect(await migrate(database, [drop])).toEqual(['test/1-drop'])
})

test('a partition that is detached concurrently is on its own, also where that was broken off or not recorded', async () => {
  const database = open()
  await run(database, 'create table whole (n integer) partition by list (n)')
  await run(database, 'create table part partition of whole for values in (1)')
  const reader = await open().session('reader', {})
  await reader.query('begin')
  await reader.query('select * from whole')
  const detach = step('1-detach', 'alter table whole detach partition part concurrently')
  const breaking = await open().session('breaking', { statement_timeout: 500 })
  await expect(breaking.query(detach.sql)).rejects.toThrow('statement timeout')
  await Promise.all([reader.close(), breaking.close()])
  expect(await run(database, 'select inhdetachpending from pg_inherits')).toEqual([{ inhdetachpending: true }])
  expect(await migrate(database, [detach])).toEqual(['test/1-detach'])
  expect(await run(database, 'select from pg_inherits')).toEqual([])
  await run(database, 'delete from schema_migration')
  expect(await migrate(database, [detach])).toEqual(['test/1-detach'])
  const create = step('2-create', 'create index concurrently part_n on no_such_table (n)')
  await expect(migrate(database, [detach, create])).rejects.toThrow('does not exist')
})

test('whoever waits for a table gives up when the process stops', async () => {
  const database = open()
  await migrate(database, [step('1', 'create table busy (n integer)')])
  const dump = await open().session('dump', {})
  await dump.query('begin')
  await dump.query('lock table busy in access share mode')
  const stop = new AbortController()
  const migrating = failureOf(migrate(database, [step('2', 'drop table busy')], { logger, signal: stop.signal }))
  await eventually('an attempt', () => said.some((line) => line.includes('a migration waits for a table')))
  stop.abort(new Error('stopping'))
  expect((await migrating).name).toBe('AbortError')
  await dump.close()
  expect(await run(database, 'select * from busy')).toEqual([])
})

test('a statement that comes again is prepared; a column that is added meanwhile costs one try', async () => {
  const database = open({ poolSize: 1 })
  await run(database, 'create table growing (n integer)')
  await run(database, 'insert into growing values (1)')
  const look = async () => (await sql`select * from growing where n = ${1}`.execute(database.query)).rows
  for (let times = 0; times < 8; times++) expect(await look()).toEqual([{ n: 1 }])
  const prepared = await run<{ times: bigint }>(
    database,
    `select generic_plans + custom_plans as times from pg_prepared_statements where statement like 'select * from growing%'`,
  )
  expect(prepared).toEqual([{ times: 7n }])
  await run(open(), 'alter table growing add column more text')
  const failure = await failureOf(look())
  expect([isUnavailable(failure), isPassing(failure)]).toEqual([true, true])
  expect(await look()).toEqual([{ n: 1, more: null }])
})

test('how the connections of each pool are used can be asked', async () => {
  const database = open({ poolSize: 1 })
  database.withPool('beside', 2)
  await database
    .transaction(async (tx) => {
      await run(tx, 'select 1')
      const another = run(database, 'select 1')
      expect(Object.fromEntries(database.pools())).toEqual({
        requests: { idle: 0, busy: 1, waiting: 1 },
        beside: { idle: 0, busy: 0, waiting: 0 },
      })
      return { another }
    })
    .then(({ another }) => another)
  expect(database.pools().get('requests')).toEqual({ idle: 1, busy: 0, waiting: 0 })
})
