import { type Kysely, sql } from '@shopstream/database'
import type { Tables } from './tables.ts'

/** Rows of one statement, which has 15 s and keeps their locks until it ends. */
const batchRows = 1_000

const always = sql`true`

/** What is deleted once its time is over, in this order. */
const ending = [
  // Also those of sessions that go on.
  { table: 'refresh_token', id: 'hash', time: 'expires_at', if: always },
  // A session stays while it has a token: it may have any number, and all would be deleted with it.
  {
    table: 'session',
    id: 'id',
    time: 'expires_at',
    if: sql`not exists (select from refresh_token where session_id = session.id)`,
  },
  { table: 'allowance', id: 'key', time: 'whole_at', if: always }, // only says that all uses have come back
] as const

/**
 * Deletes what has ended by the clock of the database: an instance whose own is ahead would end what others still use.
 * Any number of instances may do it at once; what somebody has locked is left for the next time.
 */
export async function deleteEnded(query: Kysely<Tables>, stop?: AbortSignal): Promise<void> {
  for (const part of ending) {
    for (let deleted = batchRows; deleted === batchRows && !stop?.aborted; ) deleted = await deleteBatch(query, part)
  }
}

async function deleteBatch(query: Kysely<Tables>, part: (typeof ending)[number]): Promise<number> {
  const [table, id, time] = [sql.table(part.table), sql.ref(part.id), sql.ref(part.time)]
  const { numAffectedRows } = await sql`
    delete from ${table} where ${id} in (
      select ${id} from ${table} where ${time} < now() and ${part.if}
      order by ${time} limit ${batchRows} for update skip locked)
  `.execute(query)
  return Number(numAffectedRows ?? 0)
}
