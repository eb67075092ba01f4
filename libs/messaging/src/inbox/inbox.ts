import { type Database, sql, type Transaction } from '@shopstream/database'
import { msOfId } from '@shopstream/events'
import type { Logger } from '@shopstream/observability'
import type { IncomingMessage } from '../broker/bus.ts'

const dayMs = 86_400_000

/** Longer than the topics keep their events, so that a replay from the beginning finds every row. */
export const inboxWindowDays = 21

/**
 * Whether the inbox cannot tell if an event was handled before: it forgets by the time in an id, which is by its
 * producer's clock. An id from the future is remembered at least as long as any other, from when it was received.
 */
export const isForgotten = (id: string, now: number): boolean => (msOfId(id) ?? now) < now - inboxWindowDays * dayMs

/** Whether an event was made by a clock that is more than a day ahead of this one. */
export const isAhead = (id: string, now: number): boolean => (msOfId(id) ?? now) > now + dayMs

export const forgotten = `the event is older than ${inboxWindowDays} days: whether it took effect is not known any more`

/** A message with the event id that the inbox knows it by. */
export interface Identified {
  id: string
  message: IncomingMessage
}

export interface Recorded {
  /** Ids that had not taken effect before. */
  fresh: Set<string>
  /** Ids that are too old to know this; they are not recorded. */
  forgotten: Set<string>
}

/**
 * Records that events take effect in this transaction. It uses the database's clock, which also decides what is
 * forgotten: a process whose clock is three weeks ahead would take every event for an old one.
 */
export async function recordInInbox(tx: Transaction, events: readonly Identified[]): Promise<Recorded> {
  if (events.length === 0) return { fresh: new Set(), forgotten: new Set() }
  const { rows } = await sql<{ event_id: string; forgotten: boolean }>`
    with event as materialized (
      select *, event_id < uuid_floor(now() - make_interval(days => ${inboxWindowDays}::integer))
        and substring(event_id::text, 15, 1) = '7' as forgotten
      from unnest(
        ${events.map(({ id }) => id)}::uuid[], ${events.map(({ message }) => message.topic)}::text[],
        ${events.map(({ message }) => message.partition)}::integer[], ${events.map(({ message }) => message.offset)}::bigint[])
        as event (event_id, topic, partition, "offset")
    ), recorded as (
      insert into inbox (event_id, topic, partition, "offset")
      select event_id, topic, partition, "offset" from event where not forgotten
      on conflict do nothing
      returning event_id
    )
    select event_id, false as forgotten from recorded
    union all select event_id, true from event where forgotten`.execute(tx)
  const idsOf = (wanted: boolean) =>
    new Set(rows.filter((row) => row.forgotten === wanted).map(({ event_id }) => event_id))
  return { fresh: idsOf(false), forgotten: idsOf(true) }
}

/**
 * Whether a parked message is the one through which its event takes effect. If it was readable when it was parked, it
 * is in the inbox already; otherwise it is recorded now, unless its event has come in another message. If that message
 * waits behind this one, it gives its place up: of a key, what came first takes effect first.
 */
export async function recordParked(tx: Transaction, event: Identified): Promise<boolean> {
  const { fresh, forgotten } = await recordInInbox(tx, [event])
  if (fresh.has(event.id) || forgotten.has(event.id)) return true
  const { topic, partition, offset, key } = event.message
  const { rows } = await sql<{ own: boolean }>`
    select topic = ${topic} and partition = ${partition} and "offset" = ${offset} as own
    from inbox where event_id = ${event.id}`.execute(tx)
  if (rows[0]?.own) return true
  const { numAffectedRows } = await sql`
    update inbox set topic = ${topic}, partition = ${partition}, "offset" = ${offset}
    from parked_message as later
    where inbox.event_id = ${event.id} and later.topic = inbox.topic and later.partition = inbox.partition
      and coalesce(later.former_offset, later."offset") = inbox."offset" and later.event_id = ${event.id}
      and later.topic = ${topic} and later.key = ${key} and later.blocks and later.ended_at is null`.execute(tx)
  return numAffectedRows === 1n
}

/**
 * Longest wait for a table, in ms; it is tried again in an hour. If a dump reads the table, all consumers wait behind
 * whoever waits for it. (Postgres cannot detach a partition concurrently beside a default one.)
 */
const lockWaitMs = 200
/** Rows that one transaction deletes at the most. */
const batchRows = 1_000

/** Does a part in its transaction; returns how many rows it took, where more may be left. */
type Part = (tx: Transaction) => Promise<number | undefined>

/**
 * Adds the weeks to come, drops those that have left the window, and deletes the parked messages that ended before: each
 * part and each batch by itself. Of several instances one is at work at a time; what is in use is left for later.
 */
export async function maintainInbox(database: Database<unknown>, logger: Logger, stop?: AbortSignal): Promise<void> {
  const parts: [name: string, part: Part][] = [
    ...(await missingWeeks(database)).map((week): [string, Part] => [`week ${week}`, addWeek(week)]),
    ...(await oldWeeks(database)).map((table): [string, Part] => [table, dropWeek(table)]),
    ['inbox_other', deleteOld('inbox_other', 'event_id', 'received_at')],
    ['inbox_far', deleteOld('inbox_far', 'event_id', 'received_at')],
    ['parked_message', deleteOld('parked_message', 'id', 'ended_at')],
  ]
  for (const [name, part] of parts) {
    let taken: number | undefined = batchRows
    while (taken === batchRows && !stop?.aborted) taken = await inTurn(database, part, name, logger)
  }
}

/** Nothing is done while another instance is at it, or somebody else uses the table. */
async function inTurn(database: Database<unknown>, part: Part, name: string, logger: Logger) {
  try {
    return await database.transaction(async (tx) => {
      const { rows } = await sql<{ own: boolean }>`
        select set_config('lock_timeout', ${String(lockWaitMs)}, true),
          pg_try_advisory_xact_lock(hashtext('inbox-maintenance')) as own`.execute(tx)
      return rows[0]?.own ? part(tx) : undefined
    })
  } catch (error) {
    if ((error as { code?: string }).code !== '55P03') throw error
    logger.info({ part: name }, 'a table of the inbox is in use, as by a dump; its maintenance comes later')
    return undefined
  }
}

async function missingWeeks(database: Database<unknown>): Promise<string[]> {
  const { rows } = await sql<{ week: string }>`
    select to_char(week, 'YYYY-MM-DD') as week
    from generate_series(
      date_trunc('week', now() at time zone 'UTC') - make_interval(days => ${inboxWindowDays}::integer),
      date_trunc('week', now() at time zone 'UTC') + interval '2 weeks', interval '1 week') as week
    where to_regclass(format('inbox_%s', to_char(week, 'YYYYMMDD'))) is null`.execute(database.query)
  return rows.map(({ week }) => week)
}

async function oldWeeks(database: Database<unknown>): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select relname as name from pg_inherits join pg_class on pg_class.oid = inhrelid
    where inhparent = 'inbox'::regclass and relname ~ '^inbox_\\d{8}$' and to_date(right(relname, 8), 'YYYYMMDD') + 7
      <= ((now() at time zone 'UTC') - make_interval(days => ${inboxWindowDays + 1}::integer))::date`.execute(
    database.query,
  )
  return rows.map(({ name }) => name)
}

const addWeek =
  (week: string): Part =>
  async (tx) =>
    void (await sql`select inbox_add_week(${week}::date)`.execute(tx))

const dropWeek =
  (table: string): Part =>
  async (tx) =>
    void (await sql`drop table if exists ${sql.table(table)}`.execute(tx))

const deleteOld =
  (table: string, id: string, time: string): Part =>
  async (tx) => {
    const { numAffectedRows } = await sql`
      delete from ${sql.table(table)} where ${sql.ref(id)} in (
        select ${sql.ref(id)} from ${sql.table(table)}
        where ${sql.ref(time)} < now() - make_interval(days => ${inboxWindowDays}::integer)
        order by ${sql.ref(time)} limit ${batchRows} for update skip locked)`.execute(tx)
    return Number(numAffectedRows ?? 0)
  }
