import { type Database, sql, type Transaction } from '@shopstream/database'
import type { IncomingMessage } from './bus.ts'

const dayMs = 86_400_000

/** Longer than the topics keep their events, so that a replay from the beginning finds every row. */
export const inboxWindowDays = 21

/** When a UUIDv7 was made; undefined for ids of another form. */
function timeOfId(id: string): number | undefined {
  return id[14] === '7' ? Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) : undefined
}

/** Why the inbox cannot tell whether an event was handled before; undefined when it can. */
export function outsideWindow(id: string, now: number): string | undefined {
  const made = timeOfId(id)
  if (made === undefined) return undefined
  if (made < now - inboxWindowDays * dayMs)
    return `the event is older than ${inboxWindowDays} days: whether it took effect is not known any more`
  if (made > now + dayMs) return 'the event claims to be from the future'
  return undefined
}

/** A message with the event id that the inbox knows it by. */
export interface Identified {
  id: string
  message: IncomingMessage
}

/** Records that events take effect in this transaction; returns the ids that had not before. */
export async function recordInInbox(tx: Transaction, events: readonly Identified[]): Promise<Set<string>> {
  if (events.length === 0) return new Set()
  const { rows } = await sql<{ event_id: string }>`
    insert into inbox (event_id, topic, partition, "offset")
    select * from unnest(
      ${events.map(({ id }) => id)}::uuid[], ${events.map(({ message }) => message.topic)}::text[],
      ${events.map(({ message }) => message.partition)}::integer[], ${events.map(({ message }) => message.offset)}::bigint[])
    on conflict (event_id) do nothing
    returning event_id`.execute(tx)
  return new Set(rows.map((row) => row.event_id))
}

/**
 * Adds the weeks to come and drops those that have left the window, and with them the parked messages that ended before;
 * safe to run from several instances.
 */
export async function maintainInbox(database: Database<unknown>): Promise<void> {
  await database.transaction(async (tx) => {
    await sql`
      select inbox_add_week(week::date)
      from generate_series(
        date_trunc('week', now() at time zone 'UTC') - make_interval(days => ${inboxWindowDays}::integer),
        date_trunc('week', now() at time zone 'UTC') + interval '2 weeks', interval '1 week') as week`.execute(tx)
    await sql`select inbox_drop_before(((now() at time zone 'UTC') - make_interval(days => ${inboxWindowDays + 1}::integer))::date)`.execute(
      tx,
    )
    await sql`delete from inbox_other where received_at < now() - make_interval(days => ${inboxWindowDays}::integer)`.execute(
      tx,
    )
    await sql`delete from parked_message where ended_at < now() - make_interval(days => ${inboxWindowDays}::integer)`.execute(
      tx,
    )
  })
}
