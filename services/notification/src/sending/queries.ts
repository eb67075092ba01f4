import { type Kysely, sql, type Transaction } from '@shopstream/database'
import type { Facts, Kind, Lane, Tables } from '../tables.ts'
import type { DueFloor } from './due-floor.ts'
import { leftReason } from './policy.ts'

/** A mail that this instance may send until its lease ends. */
export interface ClaimedMail {
  id: string
  userId: string
  kind: Kind
  causeId: string
  facts: Facts
  traceparent: string | null
  createdAt: Date
  /** How often staff had it sent again. */
  resends: number
  /** What staff wrote, of a mailing. */
  mailing: { id: string; subject: string; text: string } | null
  email: string
  /** Number of this claim; a later one has a higher number. */
  attempts: number
  /** How often the server has turned it away. */
  problems: number
  /** How often it was sent without the server saying whether it has it; includes the time that `wasLeft` means. */
  unknowns: number
  /** The claim before was left by a process that died, or lost the database: it may have sent the mail. */
  wasLeft: boolean
}

interface Claiming {
  lane: Lane
  limit: number
  leaseMs: number
  /** Ids in hand of this instance: it may know an outcome that could not be written to the table yet. */
  inHand?: readonly string[]
  /** Without it, all there is is looked at. */
  floor?: DueFloor
}

/** A claim, which ends with the next one of the same mail. */
export type Claim = Pick<ClaimedMail, 'id' | 'attempts'>

/** What of a mail is kept when an attempt has failed. */
export interface Failure {
  problems: number
  unknowns: number
  reason: string
}

/**
 * Claims up to `limit` due mails of a lane, the longest due first, for `leaseMs`. Committed before anything is sent: a process
 * that dies in between leaves them due again when the lease ends, as of unknown outcome. Instances skip each other's rows.
 */
export async function claimDue(
  tx: Transaction<Tables>,
  { lane, limit, leaseMs, inHand = [], floor }: Claiming,
): Promise<ClaimedMail[]> {
  // Keeps Postgres from the index by user: it also has queued mails and looks as small while these are few, but it has
  // no floor.
  await sql`set local enable_sort = off`.execute(tx)
  const { rows } = await sql<{ firstDueAt: string } & ClaimedMail>`
    with due as (
      select id, next_attempt_at, open_claim is not distinct from attempts was_left from notification
      where state = 'queued' and lane = ${sql.lit(lane)} and next_attempt_at <= now()
        and next_attempt_at >= ${floor?.from() ?? '-infinity'}::timestamptz
        and id <> all(${inHand}::uuid[])
      order by next_attempt_at, id limit ${limit}
      for update skip locked
    ),
    claimed as (update notification n
    set attempts = n.attempts + 1, next_attempt_at = now() + ${leaseMs} * interval '1 ms', recipient_email = r.email,
        open_claim = n.attempts + 1, unknowns = n.unknowns + due.was_left::integer,
        last_error = case when due.was_left then ${leftReason} else n.last_error end
    from due join notification d on d.id = due.id
      join recipient r on r.user_id = d.user_id
      left join mailing m on m.id = d.mailing_id
    where n.id = due.id
    returning n.id, n.user_id "userId", n.kind, n.cause_id "causeId", n.facts, n.traceparent,
              coalesce(n.resent_at, n.created_at) "createdAt", n.resends,
              case when m.id is not null then jsonb_build_object('id', m.id, 'subject', m.subject, 'text', m.text) end "mailing",
              r.email, n.attempts, n.problems, n.unknowns, due.was_left "wasLeft")
    select claimed.*, looked.* from
      (select coalesce(min(next_attempt_at), now())::text "firstDueAt" from due) looked
      left join (claimed join due using (id)) on true
    order by due.next_attempt_at, due.id
  `.execute(tx)
  const { firstDueAt } = rows[0] as (typeof rows)[number]
  floor?.looked(firstDueAt)
  return rows.filter(({ id }) => id !== null).map(({ firstDueAt: _, ...mail }) => mail)
}

/** Whether a mail is still to be sent by whoever has this claim. */
export async function isClaimed(query: Kysely<Tables>, { id, attempts }: Claim): Promise<boolean> {
  const { rows } = await sql`
    select from notification where id = ${id} and attempts = ${attempts} and state = 'queued'`.execute(query)
  return rows.length > 0
}

/** Keeps claims from ending for `leaseMs` more; does nothing to those that are not the last ones. */
export async function renewClaims(query: Kysely<Tables>, claims: readonly Claim[], leaseMs: number): Promise<void> {
  await sql`
    update notification n
    set next_attempt_at = greatest(n.next_attempt_at, now() + ${leaseMs} * interval '1 ms')
    from (
      select c.* from unnest(${claims.map(({ id }) => id)}::uuid[], ${claims.map(({ attempts }) => attempts)}::integer[]) as c (id, attempts)
      join notification using (id) order by id for update of notification -- in the order in which they are marked, too
    ) as c
    where n.id = c.id and n.attempts = c.attempts and n.state = 'queued'
  `.execute(query)
}

/**
 * Marks mails sent, and returns the sequences of the events that say so, by id; none for those that are marked already. One
 * whose recipient was erased while it went out has been sent all the same.
 */
export async function markSent(
  tx: Transaction<Tables>,
  mails: readonly (Pick<ClaimedMail, 'id' | 'resends'> & { sentAt: Date })[],
): Promise<Map<string, bigint>> {
  const { rows } = await sql<{ id: string; sequence: bigint }>`
    with sent as (
      select n.id, m.sent_at
      from unnest(
        ${mails.map(({ id }) => id)}::uuid[], ${mails.map(({ resends }) => resends)}::integer[],
        ${mails.map(({ sentAt }) => sentAt)}::timestamptz[]) as m (id, resends, sent_at)
      join notification n on n.id = m.id
        and n.resends = m.resends -- one that staff have asked for since is still to be sent
        and n.state in ('queued', 'cancelled')
      order by n.id for update of n)
    update notification n set state = 'sent', sent_at = sent.sent_at, last_error = null, open_claim = null, sequence = n.sequence + 1
    from sent where n.id = sent.id
    returning n.id, n.sequence
  `.execute(tx)
  return new Map(rows.map(({ id, sequence }) => [id, sequence]))
}

/** Marks a mail failed for good, and returns the sequence of the event; undefined when the claim is not the last one. */
export async function markFailed(
  tx: Transaction<Tables>,
  claim: Claim,
  { problems, unknowns, reason }: Failure,
): Promise<bigint | undefined> {
  const row = await tx
    .updateTable('notification')
    .set({ state: 'failed', problems, unknowns, last_error: reason, open_claim: null, sequence: sql`sequence + 1` })
    .where('id', '=', claim.id)
    .where('state', '=', 'queued')
    .where('attempts', '=', claim.attempts)
    .returning('sequence')
    .executeTakeFirst()
  return row?.sequence
}

/** Gives a claim back: the mail is due again in `inMs`. Does nothing when the claim is not the last one. */
export async function putBack(
  query: Kysely<Tables>,
  claim: Claim,
  { inMs, problems, unknowns, reason }: Failure & { inMs: number },
): Promise<void> {
  await sql`
    update notification
    set next_attempt_at = now() + ${inMs} * interval '1 ms', problems = ${problems}, unknowns = ${unknowns},
        last_error = ${reason}, open_claim = null
    where id = ${claim.id} and state = 'queued' and attempts = ${claim.attempts}
  `.execute(query)
}

export interface Backlog {
  queued: number
  /** Of the queued, those in the bulk lane. */
  bulk: number
  awaiting: number
  /** Age of the oldest urgent one that is queued, in seconds. */
  oldestAge: number
  /** For how long the first that is due has waited for its turn, in seconds. */
  urgentLate: number
  bulkLate: number
}

/**
 * How many notifications are on their way, counted from the floors of their lanes. After 300,000 mails under a held
 * snapshot, a count by the index of users took 574,000 pages and 11 s, each time the metrics were read.
 */
export async function backlog(tx: Transaction<Tables>, floors: Record<Lane, DueFloor>): Promise<Backlog> {
  await sql`set local enable_sort = off`.execute(tx) // as for `claimDue`: no other index comes in this order
  const queuedIn = (lane: Lane) => sql`
    select count(*)::int mails, min(since) oldest, min(next_attempt_at) next from (
      select coalesce(resent_at, created_at) since, next_attempt_at from notification
      where state = 'queued' and lane = ${sql.lit(lane)} and next_attempt_at >= ${floors[lane].lately}::timestamptz
      order by next_attempt_at, id) mail`
  const { rows } = await sql<Backlog>`
    select urgent.mails + bulk.mails "queued", bulk.mails "bulk",
           coalesce(extract(epoch from now() - urgent.oldest), 0)::float8 "oldestAge",
           extract(epoch from now() - least(urgent.next, now()))::float8 "urgentLate",
           extract(epoch from now() - least(bulk.next, now()))::float8 "bulkLate",
           (select count(*)::int from (
             select from notification where state = 'awaiting-recipient' order by created_at) mail) "awaiting"
    from (${queuedIn('urgent')}) urgent, (${queuedIn('bulk')}) bulk
  `.execute(tx)
  return rows[0] ?? { queued: 0, bulk: 0, awaiting: 0, oldestAge: 0, urgentLate: 0, bulkLate: 0 }
}
