import { type Database, sql } from '@shopstream/database'
import type { EventName } from '@shopstream/events'

/** An event of a compacted topic that the service consumes. */
export interface Kept {
  topic: string
  event: EventName
}

/** What the database has noted of an event of a replica: it has begun to be filled, or is filled. */
interface Noted {
  topic: string
  event: string
  isFilled: boolean
}

/** SQL: rows of topic and event. */
const rowsOf = (some: readonly Kept[]) =>
  sql`unnest(${some.map(({ topic }) => topic)}::text[], ${some.map(({ event }) => event)}::text[])`

/** All of the database, also of events that this version does not keep. */
export async function listNoted(database: Database<unknown>): Promise<Noted[]> {
  const { rows } = await sql<Noted>`
    select topic, event, true as "isFilled" from replica_filled
    union all select topic, event, false from replica_begun`.execute(database.query)
  return rows
}

export async function noteBegun(database: Database<unknown>, begun: readonly Kept[]): Promise<void> {
  await sql`
    insert into replica_begun (topic, event)
    select * from ${rowsOf(begun)} on conflict do nothing`.execute(database.query)
}

/** What is filled counts as begun no more. */
export async function noteFilled(database: Database<unknown>, filled: readonly Kept[]): Promise<void> {
  await sql`
    with filled as (select * from ${rowsOf(filled)} as one (topic, event)),
    ended as (delete from replica_begun where (topic, event) in (select topic, event from filled))
    insert into replica_filled (topic, event) select topic, event from filled on conflict do nothing`.execute(
    database.query,
  )
}

/** For versions that keep one note for all replicas: nothing is missing. */
export async function noteAllFilled(database: Database<unknown>): Promise<void> {
  await sql`insert into replicas_filled select where not exists (select from replicas_filled)`.execute(database.query)
}
