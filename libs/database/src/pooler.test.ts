import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import {
  type PgBouncer,
  type PgBouncerOptions,
  pgBouncerBinary,
  startPgBouncer,
  type TestDatabase,
  testDatabase,
  testLogger,
} from '@shopstream/testing'
import { createDatabase, type Database, type DatabaseOptions } from './database.ts'
import { adviceOn, isPassing, isUnavailable, SharedConnection } from './errors.ts'
import { migrate, sql } from './index.ts'

const logger = testLogger()
const opened: Database<unknown>[] = []
let dir: string
let own: TestDatabase
let pooler: PgBouncer

beforeAll(async () => {
  if (!pgBouncerBinary) return
  dir = mkdtempSync(join(tmpdir(), 'shopstream-pooler-'))
  chmodSync(dir, 0o711)
  own = await testDatabase('pooler')
  pooler = await start('transaction')
})
afterAll(async () => {
  if (!pgBouncerBinary) return
  await Promise.all(opened.map((database) => database.close()))
  await pooler?.stop()
  await own?.drop()
  rmSync(dir, { recursive: true, force: true })
})

const start = (mode: PgBouncerOptions['mode']) => startPgBouncer({ dir: join(dir, mode), url: own.url, mode })

function open(url: string, options: Partial<DatabaseOptions> = {}): Database<unknown> {
  const database = createDatabase<unknown>({ url, poolSize: 3, applicationName: 'test', logger, ...options })
  opened.push(database)
  return database
}

const failureOf = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error) => error,
  )

const pooled = pgBouncerBinary ? test : test.skip
const unless = pgBouncerBinary ? '' : ' (skipped: pgbouncer is not installed; Debian has a package)'

pooled(`through a pooler in transaction mode nothing takes a lock that would be anybody's${unless}`, async () => {
  const database = open(pooler.url)
  for (const work of [() => migrate(database, []), () => database.session('holder', {})]) {
    const failure = await failureOf(work())
    expect([failure instanceof SharedConnection, isPassing(failure)]).toEqual([true, false])
    expect(adviceOn(failure)).toMatch(/set DATABASE_DIRECT_URL/)
  }
})

pooled(`with the direct address it migrates, and pooled sessions have their limits${unless}`, async () => {
  const database = open(pooler.url, { directUrl: own.url })
  await migrate(database, [{ source: 'test', name: '1', sql: 'create table made (n integer)' }])
  await database.transaction((tx) => sql`insert into made values (1)`.execute(tx))
  const fresh = await startPgBouncer({ dir: join(dir, 'fresh'), url: own.url, mode: 'transaction' })
  try {
    const shown = await sql`select setting from pg_settings where name = 'statement_timeout'`.execute(
      open(fresh.url).query,
    )
    expect(shown.rows).toEqual([{ setting: '15000' }])
  } finally {
    await fresh.stop()
  }
})

pooled(`a pooler in session mode gives sessions that can hold a lock${unless}`, async () => {
  const other = await start('session')
  try {
    const [one, two] = await Promise.all([open(other.url).session('one', {}), open(other.url).session('two', {})])
    const lock = `select pg_try_advisory_lock(4711) as held`
    expect([await one.query(lock), await two.query(lock)]).toEqual([[{ held: true }], [{ held: false }]])
    await one.check()
    // As if the pooler had moved it.
    await one.query(`select set_config('shopstream.session', 'of another', false)`)
    await expect(one.check()).rejects.toThrow(SharedConnection)
    expect(one.ended.aborted).toBe(true)
    await Promise.all([one.close(), two.close()])
  } finally {
    await other.stop()
  }
})

const refused: [what: string, change: (url: URL) => unknown, words: RegExp][] = [
  ['a parameter that it does not take', (url) => url.searchParams.set('statement_timeout', '1'), /ignore_startup_para/],
  ['a wrong password', (url) => Object.assign(url, { password: 'wrong' }), /see to host, user, password/],
  ['a role that it does not know', (url) => Object.assign(url, { username: 'nobody' }), /see to host, user, password/],
]
const each = pgBouncerBinary ? test.each(refused) : test.skip.each(refused)
each(`what a pooler refuses for good, such as %s, is not waited for${unless}`, async (_, change, words) => {
  const url = new URL(pooler.url)
  change(url)
  const failure = await failureOf(open(url.href).check())
  expect([isUnavailable(failure), isPassing(failure)]).toEqual([true, false])
  expect(adviceOn(failure)).toMatch(words)
})

pooled(`that Postgres is away behind the pooler is waited for${unless}`, async () => {
  const away = await startPgBouncer({
    dir: join(dir, 'away'),
    url: own.url.replace(/:\d+\//, ':1/'),
    mode: 'transaction',
  })
  try {
    expect(isPassing(await failureOf(open(away.url).check()))).toBe(true)
  } finally {
    await away.stop()
  }
})

pooled(`through a pooler no statement is prepared${unless}`, async () => {
  const database = open(pooler.url, { poolSize: 1 })
  for (let times = 0; times < 3; times++) await sql`select ${times}::integer as n`.execute(database.query)
  const { rows } = await sql`select from pg_prepared_statements`.execute(database.query)
  expect(rows).toEqual([])
})
