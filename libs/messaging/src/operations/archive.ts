import { type Database, type RawBuilder, sql, type Transaction } from '@shopstream/database'
import { topics } from '@shopstream/events'
import { inboxWindowDays } from '../inbox/inbox.ts'

/** Which rows of a table are moved out into files once they are old; as data, by which `archive` and `verify` go. */
export interface Retention {
  table: string
  /** SQL: its primary key. */
  id: string
  /** SQL: nothing more happens to the row by itself. */
  over: string
  /** SQL: when something last did. */
  changed: string
  /** How old that has to be, in days, unless somebody says otherwise. */
  days: number
  /** SQL: the UUIDs by which it may be asked for when it is gone. Messages of these keys that still wait keep it here. */
  keys: readonly string[]
  /** SQL: the sequence of the last event about it. */
  sequence?: string
  /** Tables whose rows go with it, by their column that refers to it. */
  with?: Readonly<Record<string, string>>
  /** SQL: a query over the rows that are `gone` for `key` and `amount`: what sums over the table will lack. */
  carries?: string
}

/** What people did to parked messages whose rows are gone: every service has it. */
export const parkedActionRetention: Retention = {
  table: 'parked_action',
  id: 'id',
  over: 'parked_id is null',
  changed: 'at',
  days: 730,
  keys: [],
}

const dayMs = 86_400_000
const eventDays = Math.max(...topics.map(({ retentionMs }) => retentionMs)) / dayMs

/** Nothing younger is moved out: an event about it may come again, and the inbox may have to know it. In days. */
export const leastDays = eventDays + inboxWindowDays

/** A file of one run and table, to which batches are appended. */
export interface ArchiveFile {
  readonly name: string
  /** Resolves once the lines are on the disk. */
  append(lines: readonly string[]): Promise<void>
}

export interface ArchiveOptions {
  days: number
  /** Where to; undefined: rows are only counted. */
  file: ArchiveFile | undefined
  /** Called after each batch. What it throws ends the run there, as a crash would. */
  told?(moved: Moved): void
  /** Ends the run after the batch that is under way. */
  signal?: AbortSignal
  /** Rows that one transaction looks at. */
  batchRows?: number
}

export interface Moved {
  /** Rows that were looked at. */
  rows: number
  /** Those of them that were moved, or would be. */
  moved: number
}

/** An order with its lines has 1 to 10 KB, and both the transaction and this process hold a batch of them. */
const defaultBatchRows = 500

/**
 * Moves what is old of a table into a file: walks over the table in the order of its ids, a batch at a time. Each batch is
 * on the disk before its transaction deletes the rows and notes where they are, so that a run may be killed at any moment
 * and repeated. What stands in two files counts in the batch that `archived_batch` knows. Throws what `file` throws.
 */
export async function archive(
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any>,
  retention: Retention,
  { days, file, told = () => {}, signal, batchRows = defaultBatchRows }: ArchiveOptions,
): Promise<Moved> {
  if (days < leastDays) throw new RangeError(`rows of ${days} days are too young to be archived`)
  const all: Moved = { rows: 0, moved: 0 }
  for (let after: string | undefined; !signal?.aborted; ) {
    const ids = await idsAfter(database, retention, after, batchRows)
    after = ids.at(-1)
    if (after === undefined) break
    all.moved += await (file
      ? database.transaction((tx) => moveBatch(tx, retention, ids, days, file))
      : dueOf(database.query, retention, ids, days).then(({ length }) => length))
    all.rows += ids.length
    told(all)
  }
  return all
}

/** By id, not by age: rows that were deleted and not vacuumed yet would be walked over again for each batch. */
async function idsAfter(
  { query }: Database<unknown>,
  { table, id }: Retention,
  after: string | undefined,
  limit: number,
): Promise<string[]> {
  const { rows } = await sql<{ key: string }>`
    select ${sql.ref(id)}::text as key from ${sql.table(table)}
    ${after === undefined ? sql`` : sql`where ${sql.ref(id)} > ${after}`} order by ${sql.ref(id)} limit ${limit}`.execute(
    query,
  )
  return rows.map(({ key }) => key)
}

type Queries = Parameters<RawBuilder<unknown>['execute']>[0]

/** Those that are over and old enough, without what a message still waits for. */
async function dueOf(
  query: Queries,
  { table, id, over, changed, keys }: Retention,
  ids: string[],
  days: number,
  lock = sql``,
): Promise<string[]> {
  const { rows } = await sql<{ key: string; keys: string[] }>`
    select ${sql.ref(id)}::text as key, array_remove(array[${sql.raw(keys.join(', '))}]::text[], null) as keys
    from ${sql.table(table)}
    where ${sql.ref(id)} = any(${ids}) and (${sql.raw(over)})
      and ${sql.raw(changed)} < now() - make_interval(days => ${days}::integer)
    ${lock}`.execute(query)
  if (rows.length === 0) return []
  const asked = rows.flatMap((row) => row.keys)
  const waiting = await sql<{ key: string }>`
    select key from parked_message where ended_at is null and key = any(${asked})
    union select key from outbox where refused is not null and key = any(${asked})`.execute(query)
  const kept = new Set(waiting.rows.map(({ key }) => key))
  return rows.filter((row) => !row.keys.some((key) => kept.has(key))).map(({ key }) => key)
}

/** A disk that is slow for longer ends the transaction, in ms; nothing but these old rows is locked meanwhile. */
const diskPatienceMs = 60_000

async function moveBatch(tx: Transaction, retention: Retention, all: string[], days: number, file: ArchiveFile) {
  await sql`
    select set_config('idle_in_transaction_session_timeout', ${String(diskPatienceMs)}, true),
      pg_advisory_xact_lock(hashtext('archive'))`.execute(tx) // two runs at once could wait for each other's sums
  const ids = await dueOf(tx, retention, all, days, sql`for update skip locked`)
  if (ids.length > 0) await move(tx, retention, ids, file)
  return ids.length
}

async function move(tx: Transaction, retention: Retention, ids: string[], file: ArchiveFile): Promise<void> {
  const { table, id, keys, sequence = 'null', carries } = retention
  const parts = Object.entries(retention.with ?? {})
  const noted = await sql<{ id: bigint }>`
    insert into archived_batch (file, "table", rows) values (${file.name}, ${table}, ${ids.length}) returning id`.execute(
    tx,
  )
  const batch = noted.rows[0]?.id
  const withParts = parts.map(
    ([part, column]) => sql`, ${sql.lit(part)}, (
      select coalesce(jsonb_agg(to_jsonb(part)), '[]') from ${sql.table(part)} as part where part.${sql.ref(column)} = one.${sql.ref(id)})`,
  )
  const lines = await sql<{ line: string }>`
    select jsonb_build_object('batch', ${batch}::bigint, ${sql.lit(table)}, to_jsonb(one) ${sql.join(withParts, sql``)})::text as line
    from ${sql.table(table)} as one where ${sql.ref(id)} = any(${ids}) order by ${sql.ref(id)}`.execute(tx)
  await file.append(lines.rows.map(({ line }) => line))
  for (const [part, column] of parts)
    await sql`delete from ${sql.table(part)} where ${sql.ref(column)} = any(${ids})`.execute(tx)
  const gone = await sql<{ count: number }>`
    with gone as (delete from ${sql.table(table)} where ${sql.ref(id)} = any(${ids}) returning *),
      noted as (
        insert into archived (key, sequence, batch_id)
        select key, ${sql.raw(sequence)}, ${batch} from gone cross join lateral unnest(array[${sql.raw(keys.join(', '))}]::uuid[]) as key
        where key is not null on conflict do nothing),
      carried as (
        insert into archived_sum ("table", key, amount)
        select ${table}, key, sum(amount) from (${sql.raw(carries ?? 'select null::text as key, 0::bigint as amount where false')}) as part group by key
        on conflict ("table", key) do update set amount = archived_sum.amount + excluded.amount)
    select count(*)::integer as count from gone`.execute(tx)
  const count = gone.rows[0]?.count
  if (lines.rows.length !== ids.length || count !== ids.length)
    throw new Error(`${lines.rows.length} rows of ${table} were written and ${count} deleted, of ${ids.length}`)
}
