import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { sql } from 'kysely'
import type { Database, Transaction } from './database.ts'

/** One step of a schema's history: plain SQL, run once, never changed afterwards. */
export interface Migration {
  /** Who owns it: a service's or a library's name. */
  source: string
  /** Its file name, `0001-what-it-does.sql`; the order of names is the order of running. */
  name: string
  sql: string
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

/**
 * Brings a database up to date: runs what has not run yet, in order, in one transaction under a lock, so that several
 * instances may start at once. Forward only; steps that a newer version ran are left alone.
 * Returns the steps it ran. Throws when a step that ran already has been changed since.
 */
// biome-ignore lint/suspicious/noExplicitAny: any service's database
export async function migrate(database: Database<any>, migrations: readonly Migration[]): Promise<string[]> {
  return database.transaction(async (tx) => {
    await sql`set local lock_timeout = 0`.execute(tx)
    await sql`set local statement_timeout = 0`.execute(tx)
    await sql`select pg_advisory_xact_lock(hashtext('shopstream-migrations'))`.execute(tx)
    const applied = await appliedChecksums(tx)
    const pending = migrations.filter((migration) => isPending(migration, applied))
    for (const migration of pending) await apply(tx, migration)
    return pending.map(idOf)
  })
}

const idOf = ({ source, name }: Migration) => `${source}/${name}`
const checksumOf = (migration: Migration) => createHash('sha256').update(migration.sql).digest('hex')

async function appliedChecksums(tx: Transaction): Promise<Map<string, string>> {
  await sql`create table if not exists schema_migration (
    id text primary key, checksum text not null, applied_at timestamptz not null default now()
  )`.execute(tx)
  const { rows } = await sql<{ id: string; checksum: string }>`select id, checksum from schema_migration`.execute(tx)
  return new Map(rows.map((row) => [row.id, row.checksum]))
}

function isPending(migration: Migration, applied: Map<string, string>): boolean {
  const checksum = applied.get(idOf(migration))
  if (checksum !== undefined && checksum !== checksumOf(migration)) {
    throw new Error(`migration ${idOf(migration)} was changed after it had run: restore it and write a new one`)
  }
  return checksum === undefined
}

async function apply(tx: Transaction, migration: Migration): Promise<void> {
  await sql.raw(migration.sql).execute(tx)
  await sql`insert into schema_migration (id, checksum) values (${idOf(migration)}, ${checksumOf(migration)})`.execute(
    tx,
  )
}
