import { type Database, sql, type Transaction } from '@shopstream/database'
import type { Bridge } from './bridges.ts'
import type { Tables } from './tables.ts'

/** An instance that has said nothing for so long is gone: it says something each 5 s. */
const goneSeconds = 30

/** How one instance sees the other side of a bridge. */
export interface Note {
  bridge: Pick<Bridge, 'name' | 'direction' | 'kind' | 'events'>
  /** Bridges by which what it does not hand on came in. */
  leavesOut: readonly string[]
  /** Undefined: it is there. */
  away: { since: Date; reason: string } | undefined
}

/**
 * Notes how this instance sees its bridges, and what follows for each: its broker is away while it is for one of the instances, as
 * what that one has to hand on waits; since when, and why, the one says that has waited for longest. Bridges that no instance has
 * in its table are forgotten; what they have parked stays. Returns their names, to one instance.
 */
export async function noteBridges(
  { transaction }: Pick<Database<Tables>, 'transaction'>,
  instance: string,
  notes: readonly Note[],
): Promise<string[]> {
  return transaction(async (tx) => {
    // One at a time: each makes what another may have deleted, and would wait for it in a circle.
    await sql`select pg_advisory_xact_lock(hashtext('bridges are noted'))`.execute(tx)
    if (notes.length > 0) await noteInstance(tx, instance, notes)
    const gone = await forgetGone(tx)
    if (notes.length > 0) await noteWhatFollows(tx, notes)
    return gone.filter((name) => !notes.some(({ bridge }) => bridge.name === name)) // after a pause its own are among them
  })
}

/** What an instance that stops has seen last is of no interest. */
export async function forgetInstance({ query }: Pick<Database<Tables>, 'query'>, instance: string): Promise<void> {
  await query.deleteFrom('bridge_instance').where('instance', '=', instance).execute()
}

async function noteInstance(tx: Transaction<Tables>, instance: string, notes: readonly Note[]): Promise<void> {
  await tx
    .insertInto('bridge_instance')
    .values(
      notes.map(({ bridge: { name }, away }) => ({
        bridge: name,
        instance,
        away_since: away?.since ?? null,
        away_reason: away?.reason ?? null,
      })),
    )
    .onConflict((conflict) =>
      conflict.columns(['bridge', 'instance']).doUpdateSet((row) => ({
        away_since: row.ref('excluded.away_since'),
        away_reason: row.ref('excluded.away_reason'),
        seen_at: sql`now()`,
      })),
    )
    .execute()
}

/** An instance of another table may have bridges of its own; one of the version before is known by `bridge.seen_at` alone. */
async function forgetGone(tx: Transaction<Tables>): Promise<string[]> {
  const gone = sql`seen_at < now() - make_interval(secs => ${goneSeconds})`
  await sql`delete from bridge_instance where ${gone}`.execute(tx)
  const { rows } = await sql<{ name: string }>`delete from bridge where ${gone} returning name`.execute(tx)
  return rows.map(({ name }) => name)
}

async function noteWhatFollows(tx: Transaction<Tables>, notes: readonly Note[]): Promise<void> {
  const columns = notes.map(({ bridge, leavesOut }) => ({ ...bridge, leavesOut }))
  await sql`
    insert into bridge (name, direction, kind, events, leaves_out, away_since, away_reason, seen_at)
    select name, direction, kind, array(select jsonb_array_elements_text(events)), array(select jsonb_array_elements_text(leaves_out)),
      longest.away_since, longest.away_reason, now()
    from unnest(
      ${columns.map(({ name }) => name)}::text[], ${columns.map(({ direction }) => direction)}::text[],
      ${columns.map(({ kind }) => kind)}::text[], ${columns.map(({ events }) => JSON.stringify(events))}::jsonb[],
      ${columns.map(({ leavesOut }) => JSON.stringify(leavesOut))}::jsonb[]
    ) as own (name, direction, kind, events, leaves_out)
    left join lateral (
      select away_since, away_reason from bridge_instance
      where bridge_instance.bridge = own.name and away_since is not null
      order by away_since limit 1
    ) as longest on true
    on conflict (name) do update set
      direction = excluded.direction, kind = excluded.kind, events = excluded.events, leaves_out = excluded.leaves_out,
      away_since = excluded.away_since, away_reason = excluded.away_reason, seen_at = excluded.seen_at`.execute(tx)
}
