import { createHash } from 'node:crypto'
import { type Kysely, sql } from '@shopstream/database'
import type { Tables } from '../tables.ts'

/** So many uses at once; they come back one by one, all of them within `seconds`. */
export interface Limit {
  name: string
  count: number
  seconds: number
}

/** Limits on what strangers may do. */
export type Limits = Record<
  'registrationsOfClient' | 'registrations' | 'failuresOfAccount' | 'failuresOfOwner' | 'failuresOfClient',
  Limit
>

/** A use of a limit by whom it counts: a client's network, an account, or nobody in particular. */
export interface Use {
  limit: Limit
  by: string
}

/**
 * Takes a use and returns 0; when none is left, takes nothing and returns the seconds until one is free. Uses are kept
 * in the database, so that a limit holds over all instances, by the database's clock. A refusal does not prolong the
 * wait.
 */
export async function take(query: Kysely<Tables>, use: Use): Promise<number> {
  const { count, seconds } = use.limit
  const one = seconds / count
  const { rows } = await sql`
    insert into allowance as a (key, whole_at) values (${keyOf(use)}, now() + make_interval(secs => ${one}))
    on conflict (key) do update set whole_at = greatest(a.whole_at, now()) + make_interval(secs => ${one})
    where a.whole_at <= now() + make_interval(secs => ${seconds - one})
    returning 1
  `.execute(query)
  return rows.length > 0 ? 0 : Math.max(1, await secondsUntil(query, [use]))
}

/** Whole seconds until each of these uses could be taken; 0 when they can be now. */
export async function secondsUntil(query: Kysely<Tables>, uses: readonly Use[]): Promise<number> {
  const wholes = uses.map(({ limit: { count, seconds } }) => seconds - seconds / count)
  const { rows } = await sql<{ seconds: number }>`
    select max(ceil(extract(epoch from whole_at - now()) - seconds))::int seconds
    from allowance join unnest(${uses.map(keyOf)}::bytea[], ${wholes}::float8[]) as use (key, seconds) using (key)
  `.execute(query)
  return Math.max(0, rows[0]?.seconds ?? 0)
}

/** As JSON, so that no text of a client moves the border between the two. */
const keyOf = ({ limit, by }: Use): Buffer =>
  createHash('sha256')
    .update(JSON.stringify([limit.name, by]))
    .digest()
