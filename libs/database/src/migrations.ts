import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '@shopstream/observability'
import pg from 'pg'
import type { Database } from './database.ts'
import { limitRole } from './limits.ts'
import type { Session } from './session.ts'

/** One step of a schema's history: plain SQL, run once, never changed afterwards. */
export interface Migration {
  /** Who owns it: a service's or a library's name. */
  source: string
  /** Its file name, `0001-what-it-does.sql`; the order of names is the order of running. */
  name: string
  /** Runs as one transaction; where it says `concurrently`, it is one statement, outside of any. */
  sql: string
}

export interface MigrateOptions {
  /** Is told what runs for long, and what it waits for. */
  logger?: Logger
  /** Ends the waiting. */
  signal?: AbortSignal
}

/**
 * Reads the `*.sql` files beside a module: `migrations/SOURCE/` (the layout of a bundle) or `migrations/`.
 * @param moduleUrl `import.meta.url` of the caller.
 */
export function readMigrations(source: string, moduleUrl: string): Migration[] {
  const own = new URL(`./migrations/${source}/`, moduleUrl)
  const folder = existsSync(own) ? own : new URL('./migrations/', moduleUrl)
  const names = readdirSync(folder).filter((name) => name.endsWith('.sql'))
  return names.sort().map((name) => ({ source, name, sql: readFileSync(new URL(name, folder), 'utf8') }))
}

/** A step may take hours, and waiting for a turn or a table no less. */
const sessionSettings = { statement_timeout: 0, idle_in_transaction_session_timeout: 0, idle_session_timeout: 0 }

/**
 * A statement that waits for a table holds up all that come behind it. So it waits for this long, in ms, and then lets
 * the others go for ten times as long: a dump of an hour costs them a tenth of their time at the most.
 */
const lockWaitMs = { first: 200, longest: 2_000 }
const progressMs = 10_000

/**
 * Brings a database up to date: runs what has not run yet, in order, each step in a transaction of its own, under a lock,
 * so that several instances may start at once. A step takes as long as it takes, and one that finds a table in use tries
 * again until it is free. Forward only; steps that a newer version ran are left alone. Gives the role its limits besides.
 * Returns the steps it ran. Throws when a step that ran already has been changed since.
 */
export async function migrate(
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any>,
  migrations: readonly Migration[],
  options: MigrateOptions = {},
): Promise<string[]> {
  const session = await database.session('migrations', sessionSettings, 0)
  try {
    await takeTurn(session, options)
    const applied = await appliedChecksums(session)
    const pending = migrations.filter((migration) => isPending(migration, applied))
    for (const migration of pending) await run(session, migration, options)
    if (await limitRole(session)) database.renew()
    return pending.map(idOf)
  } finally {
    await session.close().catch(() => undefined) // and with it the lock
  }
}

const idOf = ({ source, name }: Migration) => `${source}/${name}`
const checksumOf = (migration: Migration) => createHash('sha256').update(migration.sql).digest('hex')

/** Asks repeatedly: a waiting statement would hold a snapshot, and the other's `concurrently` would wait for that. */
async function takeTurn(session: Session, { logger, signal }: MigrateOptions): Promise<void> {
  for (let times = 0; ; times += 1) {
    const [row] = await session.query<{ held: boolean }>(
      `select pg_try_advisory_lock(hashtext('shopstream-migrations')) as held`,
    )
    if (row?.held) return
    if (times % 40 === 0) logger?.info('waiting for another instance that migrates the database')
    await delay(250, undefined, { signal })
  }
}

async function appliedChecksums(session: Session): Promise<Map<string, string>> {
  await session.query(`create table if not exists schema_migration (
    id text primary key, checksum text not null, applied_at timestamptz not null default now()
  )`)
  const rows = await session.query<{ id: string; checksum: string }>('select id, checksum from schema_migration')
  return new Map(rows.map((row) => [row.id, row.checksum]))
}

function isPending(migration: Migration, applied: Map<string, string>): boolean {
  const checksum = applied.get(idOf(migration))
  if (checksum !== undefined && checksum !== checksumOf(migration)) {
    throw new Error(`migration ${idOf(migration)} was changed after it had run: restore it and write a new one`)
  }
  return checksum === undefined
}

async function run(session: Session, migration: Migration, { logger, signal }: MigrateOptions): Promise<void> {
  const begun = performance.now()
  const where = () => ({ migration: idOf(migration), seconds: Math.round((performance.now() - begun) / 1_000) })
  const progress = setInterval(() => logger?.info(where(), 'a migration is still at work'), progressMs)
  try {
    for (let waitMs = lockWaitMs.first; ; waitMs = Math.min(lockWaitMs.longest, 2 * waitMs)) {
      signal?.throwIfAborted()
      if (await tryOnce(session, migration, waitMs)) return
      logger?.warn(where(), 'a migration waits for a table that is in use, as by a dump; others go on meanwhile')
      await delay(10 * waitMs, undefined, { signal })
    }
  } finally {
    clearInterval(progress)
  }
}

/** False when it did not get a lock in time. */
async function tryOnce(session: Session, migration: Migration, waitMs: number): Promise<boolean> {
  const outside = isConcurrent(migration) // they block nobody while waiting, and giving up loses all their work
  try {
    await session.query(`set lock_timeout = ${outside ? 0 : waitMs}`)
    await (outside ? applyOutside(session, migration) : applyInside(session, migration))
    return true
  } catch (error) {
    if (error instanceof pg.DatabaseError && (error.code === '55P03' || error.code === '40P01')) return false
    throw error
  }
}

const withoutComments = (text: string) => text.replace(/--.*|\/\*[\s\S]*?\*\//g, '').trim()
const isConcurrent = ({ sql }: Migration) => /\bconcurrently\b/i.test(withoutComments(sql))

async function applyInside(session: Session, migration: Migration): Promise<void> {
  await session.query('begin')
  try {
    await session.query(migration.sql)
    await record(session, migration)
    await session.query('commit')
  } catch (error) {
    await session.query('rollback').catch(() => undefined) // it is over anyway when the session is
    throw error
  }
}

/** By its first word, the error of a concurrent statement that has run before but was not recorded. */
const runBefore: Record<string, string> = {
  create: '42P07', // the index is there
  drop: '42704', // there is no such index
  alter: '42P01', // the table is none of the partitions
}

/** Cleans up first: an interrupted run leaves an index that is not valid, or a partition that is half detached. */
async function applyOutside(session: Session, migration: Migration): Promise<void> {
  const broken = await session.query<{ name: string }>(
    `select indexrelid::regclass::text as name from pg_index join pg_class on pg_class.oid = indexrelid
     where not indisvalid and relkind = 'i' and $1 ~* ('\\m' || relname || '\\M')`,
    [migration.sql],
  )
  for (const { name } of broken) await session.query(`drop index concurrently ${name}`)
  const half = await session.query<{ whole: string; part: string }>(
    `select inhparent::regclass::text as whole, inhrelid::regclass::text as part
     from pg_inherits join pg_class on pg_class.oid = inhrelid
     where inhdetachpending and $1 ~* ('\\m' || relname || '\\M')`,
    [migration.sql],
  )
  for (const { whole, part } of half) await session.query(`alter table ${whole} detach partition ${part} finalize`)
  const [verb = ''] = withoutComments(migration.sql).toLowerCase().split(/\s/, 1)
  try {
    await session.query(migration.sql)
  } catch (error) {
    if (!(error instanceof pg.DatabaseError && error.code === runBefore[verb])) throw error
  }
  await record(session, migration)
}

async function record(session: Session, migration: Migration): Promise<void> {
  await session.query('insert into schema_migration (id, checksum) values ($1, $2)', [
    idOf(migration),
    checksumOf(migration),
  ])
}
