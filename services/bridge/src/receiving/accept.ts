import { sql, type Transaction } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import type { AnyNewEvent } from '@shopstream/messaging'
import { produces } from '../produces.ts'
import { type BridgeRow, sourceOf } from '../row.ts'
import type { Tables } from '../tables.ts'
import type { Arrival } from './read.ts'

/**
 * Takes events in, in one transaction with their ids: those that came before are left out. Each gets the next sequence of its
 * key. Returns those that are new, in their order.
 */
export async function accept(
  tx: Transaction<Tables>,
  row: Pick<BridgeRow, 'name' | 'source'>,
  arrivals: readonly Arrival[],
): Promise<Arrival[]> {
  if (arrivals.length === 0) return []
  const fresh = await withoutRepeated(
    tx,
    sourceOf(row),
    arrivals.map((one) => ({ ...one, eventId: newEventId() })),
  )
  const next = await raise(tx, fresh)
  const events = fresh.map(({ topic, event, eventId }) => {
    const place = placeOf(topic, event.key)
    const sequence = (next.get(place) ?? 0n) + 1n
    next.set(place, sequence)
    return { ...event, id: eventId, sequence, origin: row.name } as AnyNewEvent<'PointsAwarded'>
  })
  await produces.emit(tx, events)
  return fresh
}

async function withoutRepeated(
  tx: Transaction<Tables>,
  source: string,
  arrivals: readonly (Arrival & { eventId: string })[],
) {
  const first = new Map(arrivals.toReversed().map((one) => [one.id, one])) // of several with one id, in one batch
  const rows = await tx
    .insertInto('received')
    .values(
      [...first.values()]
        .sort((a, b) => (a.id < b.id ? -1 : 1))
        .map(({ id, eventId }) => ({ source, id, event_id: eventId })),
    )
    .onConflict((conflict) => conflict.doNothing())
    .returning('id')
    .execute()
  const ids = new Set(rows.map(({ id }) => id))
  return arrivals.filter((one) => ids.has(one.id) && first.get(one.id) === one)
}

const placeOf = (topic: string, key: string) => `${topic}\n${key}`

/** Locks the keys and counts what comes; returns the sequence before it. */
async function raise(tx: Transaction<Tables>, fresh: readonly Arrival[]): Promise<Map<string, bigint>> {
  if (fresh.length === 0) return new Map()
  const counts = Map.groupBy(fresh, ({ topic, event }) => placeOf(topic, event.key))
  const keys = [...counts.values()].map((ofKey) => ({ ...(ofKey[0] as Arrival), count: ofKey.length }))
  const { rows } = await sql<{ topic: string; key: string; sequence: bigint }>`
    insert into received_key (topic, key, sequence)
    select topic, key, count from unnest(
      ${keys.map(({ topic }) => topic)}::text[], ${keys.map(({ event }) => event.key)}::text[],
      ${keys.map(({ count }) => count)}::integer[]) as come (topic, key, count)
    order by topic, key -- two transactions lock in the same order
    on conflict (topic, key) do update
      set sequence = received_key.sequence + excluded.sequence, changed_at = now()
    returning topic, key, sequence`.execute(tx)
  return new Map(
    rows.map(({ topic, key, sequence }) => {
      const place = placeOf(topic, key)
      return [place, sequence - BigInt(counts.get(place)?.length ?? 0)]
    }),
  )
}
