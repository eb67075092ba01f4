import { createHash } from 'node:crypto'
import { type Kysely, signal, sql, type Transaction } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { mailsDue } from '../notifications/queries.ts'
import type { Tables } from '../tables.ts'

/** Told after a commit that made a mailing; wakes the filler of this process. */
export const mailingMade = 'mailing-made'

export interface NewMailing {
  subject: string
  text: string
  createdBy: string
  traceparent: string | null
}

/** Writes a mailing down, and nothing else: who gets it is filled in afterwards. Returns its id. */
export async function insertMailing(tx: Transaction<Tables>, mailing: NewMailing): Promise<string> {
  const id = newEventId()
  const { subject, text, createdBy: created_by, traceparent } = mailing
  await tx.insertInto('mailing').values({ id, subject, text, created_by, traceparent }).execute()
  signal(tx, mailingMade)
  return id
}

export interface MailingProgress {
  id: string
  subject: string
  text: string
  createdBy: string
  createdAt: Date
  /** Since when everybody's mail has been queued. */
  filledAt: Date | null
  recipients: number
  sent: number
  failed: number
  cancelled: number
}

/** A mailing and what has become of it; undefined when there is none of this id. */
export async function findMailing(query: Kysely<Tables>, id: string): Promise<MailingProgress | undefined> {
  const { rows } = await sql<MailingProgress>`
    select m.id, m.subject, m.text, m.created_by "createdBy", m.created_at "createdAt", m.filled_at "filledAt",
           m.recipients, n.sent, n.failed, n.cancelled
    from mailing m, lateral (
      select coalesce(sum(mails) filter (where state = 'sent'), 0)::int sent,
             coalesce(sum(mails) filter (where state = 'failed'), 0)::int failed,
             coalesce(sum(mails) filter (where state = 'cancelled'), 0)::int cancelled
      from (
        select state, 1 mails from notification where mailing_id = m.id
        union all
        select state, amount from unnest(array['sent', 'failed', 'cancelled']) state
        join archived_sum a on a."table" = 'notification' and a.key = m.id || ' ' || state) mails) n
    where m.id = ${id}
  `.execute(query)
  return rows[0]
}

/**
 * Queues the oldest open mailing for its next users, at most `limit`, in the order of their ids; users who are not known
 * yet, erased ones and those who want no mailings get none. Instances take turns. Returns whether there was an open mailing.
 *
 * The users are locked like a user's event locks them, so that one who is erased at this moment is erased before, and
 * gets none, or after, and it is cancelled.
 */
export async function fillNext(tx: Transaction<Tables>, limit: number): Promise<boolean> {
  const { rows } = await sql<{ id: string; subject: string; traceparent: string | null; filled_to: string | null }>`
    select id, subject, traceparent, filled_to from mailing where filled_at is null order by id limit 1
    for update skip locked
  `.execute(tx)
  const [mailing] = rows
  if (!mailing) return false
  const { rows: users } = await sql<{ user_id: string; email: string | null; opted_out_at: Date | null }>`
    select user_id, email, opted_out_at from recipient where ${mailing.filled_to}::uuid is null or user_id > ${mailing.filled_to}::uuid
    order by user_id limit ${limit} for share
  `.execute(tx)
  const known = users
    .filter(({ email, opted_out_at }) => email !== null && opted_out_at === null)
    .map(({ user_id }) => user_id)
  await sql`
    insert into notification (id, user_id, kind, lane, cause_id, mailing_id, facts, subject, traceparent, state)
    select made.id, made.user_id, 'mailing', 'bulk', made.cause_id, ${mailing.id}, '{}', ${mailing.subject},
           ${mailing.traceparent}, 'queued'
    from unnest(
      ${known.map(() => newEventId())}::uuid[], ${known}::uuid[],
      ${known.map((userId) => causeOfMailing(mailing.id, userId))}::uuid[]) as made (id, user_id, cause_id)
    on conflict (cause_id) do update
      set mailing_id = excluded.mailing_id, lane = excluded.lane, subject = excluded.subject -- sent before a restore
  `.execute(tx)
  await sql`
    update mailing
    set recipients = recipients + ${known.length}, filled_to = coalesce(${users.at(-1)?.user_id ?? null}, filled_to),
        filled_at = case when ${users.length < limit} then now() end
    where id = ${mailing.id}
  `.execute(tx)
  signal(tx, mailsDue)
  return true
}

/**
 * The cause of the mail that one user gets of a mailing, as a UUID (version 8, by SHA-256): the same whenever it is
 * made, so that the table refuses a second one.
 */
export function causeOfMailing(mailingId: string, userId: string): string {
  const bytes = createHash('sha256').update(`${mailingId} ${userId}`).digest().subarray(0, 16)
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x80
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
  return bytes.toString('hex').replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5')
}
