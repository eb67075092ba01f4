import { createHash } from 'node:crypto'
import { type Database, sql } from '@shopstream/database'
import type { Unreadable } from '../broker/bus.ts'
import type { DecidedBy } from '../parked/dead-letters.ts'

/** What a consumer has met and cannot read, as its database keeps it. */
export interface UnreadableRow {
  id: bigint
  topic: string
  partition: number
  firstOffset: bigint
  lastOffset: bigint
  reason: string
  /** Bytes as they came, packed. */
  size: number
  metAt: Date
  /** When it was looked at last; long ago where the topic has forgotten it meanwhile. */
  lastMetAt: Date
  /** When somebody decided that it may be stepped over, who, and why. */
  steppedOverAt: Date | null
  actor: string | null
  steppedOverFor: string | null
}

/**
 * Identifies an unreadable stretch without its bytes: in a recreated topic another one may stand at the same offset.
 */
export interface MetUnreadable extends Pick<Unreadable, 'topic' | 'partition' | 'firstOffset' | 'lastOffset'> {
  /** SHA-256 of the bytes. */
  digest: Buffer
}

/** Notes that a partition stands before this, bytes and all, and says whether somebody has decided that it may be stepped over. */
export async function meetUnreadable(
  database: Database<unknown>,
  { topic, partition, firstOffset, lastOffset, reason, bytes }: Unreadable,
): Promise<{ met: MetUnreadable; isSteppedOver: boolean }> {
  const met = { topic, partition, firstOffset, lastOffset, digest: digestOf(bytes) }
  const known = await lookAgain(database, met)
  if (known !== undefined) return { met, isSteppedOver: known }
  await sql`
    insert into unreadable_batch (topic, partition, first_offset, last_offset, reason, bytes, digest)
    values (${topic}, ${partition}, ${firstOffset}, ${lastOffset}, ${reason}, ${bytes}, ${met.digest})
    on conflict do nothing`.execute(database.query)
  return { met, isSteppedOver: false }
}

/** Notes that a partition still stands before this, and says whether it may be stepped over by now; undefined: it is not known. */
export async function lookAgain(
  database: Database<unknown>,
  { topic, partition, firstOffset, lastOffset, digest }: MetUnreadable,
): Promise<boolean | undefined> {
  const { rows } = await sql<{ isSteppedOver: boolean }>`
    update unreadable_batch set last_met_at = now()
    where topic = ${topic} and partition = ${partition} and last_offset = ${lastOffset} and digest = ${digest}
      and first_offset <= ${firstOffset} -- what was decided about a part says nothing about the whole
    returning stepped_over_at is not null as "isSteppedOver"`.execute(database.query)
  return rows.length === 0 ? undefined : rows.some(({ isSteppedOver }) => isSteppedOver)
}

/** Whether somebody has decided that this may be stepped over. Notes nothing. */
export async function isSteppedOver(
  query: Database<unknown>['query'],
  { topic, partition, firstOffset, lastOffset, bytes }: Unreadable,
): Promise<boolean> {
  const { rows } = await sql`
    select from unreadable_batch
    where topic = ${topic} and partition = ${partition} and last_offset = ${lastOffset} and digest = ${digestOf(bytes)}
      and first_offset <= ${firstOffset} and stepped_over_at is not null`.execute(query)
  return rows.length > 0
}

/** A consumer that stands before something notes so every 2 s; see {@link lookAgain}. */
const standsForSeconds = 30

/**
 * What the group stands before: everything before it has been handled.
 * @param sinceSeconds a stretch that nobody has met for this long does not count: the group may have been rewound.
 */
export async function listStanding(
  query: Database<unknown>['query'],
  sinceSeconds: number,
): Promise<Pick<Unreadable, 'topic' | 'partition' | 'lastOffset'>[]> {
  const seconds = Math.min(standsForSeconds, sinceSeconds)
  const { rows } = await sql<Pick<Unreadable, 'topic' | 'partition' | 'lastOffset'>>`
    select topic, partition, last_offset as "lastOffset" from unreadable_batch
    where stepped_over_at is null and last_met_at > now() - make_interval(secs => ${seconds}::double precision)`.execute(
    query,
  )
  return rows
}

const digestOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest()

const columns = sql`
  id, topic, partition, first_offset "firstOffset", last_offset "lastOffset", reason, octet_length(bytes) size,
  met_at "metAt", last_met_at "lastMetAt", stepped_over_at "steppedOverAt", actor, stepped_over_for "steppedOverFor"`

/** Everything that a service's consumers could not read, in the order in which it was met. */
export async function listUnreadable(query: Database<unknown>['query']): Promise<UnreadableRow[]> {
  const { rows } = await sql<UnreadableRow>`select ${columns} from unreadable_batch order by id`.execute(query)
  return rows
}

/** Which of what could not be read: what stands at this offset. */
export interface StepOver extends DecidedBy {
  topic: string
  partition: number
  offset: bigint
  reason: string
}

/**
 * Lets a service's consumers step over what cannot be read at an offset: they do so within a few seconds. Its bytes,
 * who decided it and why are kept. Returns what it applied to; none where nothing unreadable was met there, or all was
 * stepped over before. Throws when the reason is missing.
 */
export async function stepOver(
  query: Database<unknown>['query'],
  { topic, partition, offset, actor, reason }: StepOver,
): Promise<UnreadableRow[]> {
  if (!reason.trim()) throw new Error('stepping over needs a reason')
  const { rows } = await sql<UnreadableRow>`
    update unreadable_batch set stepped_over_at = now(), actor = ${actor}, stepped_over_for = ${reason}
    where topic = ${topic} and partition = ${partition} and ${offset} between first_offset and last_offset
      and stepped_over_at is null
    returning ${columns}`.execute(query)
  return rows
}
