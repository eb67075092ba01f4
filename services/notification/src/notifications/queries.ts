import { signal, sql, type Transaction } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { subjectOf } from '../mails/mail.ts'
import type { Lane, Recipient, Tables } from '../tables.ts'
import { type Cause, firstState } from './cause.ts'

/** Told after a commit that made mails due; wakes the senders of this process, or that of the lane that it names. */
export const mailsDue = 'mails-due'

/** Makes one notification for each cause that has none yet; those of known recipients are due at once. */
export async function queueNotifications(
  tx: Transaction<Tables>,
  causes: readonly Cause[],
  recipients: ReadonlyMap<string, Recipient>,
): Promise<void> {
  if (causes.length === 0) return
  await sql`
    insert into notification (id, user_id, kind, cause_id, order_id, facts, subject, traceparent, state)
    select * from unnest(
      ${causes.map(() => newEventId())}::uuid[], ${causes.map((cause) => cause.userId)}::uuid[],
      ${causes.map((cause) => cause.kind)}::text[], ${causes.map((cause) => cause.causeId)}::uuid[],
      ${causes.map((cause) => cause.orderId ?? null)}::uuid[],
      ${causes.map((cause) => JSON.stringify(cause.facts))}::jsonb[],
      ${causes.map((cause) => subjectOf(cause.kind, cause.facts))}::text[],
      ${causes.map((cause) => cause.traceparent)}::text[],
      ${causes.map((cause) => firstState(recipients.get(cause.userId)))}::text[])
    on conflict (cause_id) do update set order_id = excluded.order_id, facts = excluded.facts, subject = excluded.subject
    where notification.order_id is null and excluded.order_id is not null -- all that restoring/catch-up.ts knew was that it was sent
  `.execute(tx)
  signal(tx, mailsDue, 'urgent' satisfies Lane)
}

/** Makes due what waited for these recipients, who are known now. */
export async function queueWaiting(tx: Transaction<Tables>, userIds: readonly string[]): Promise<void> {
  if (userIds.length === 0) return
  await sql`
    update notification set state = 'queued', next_attempt_at = now()
    where user_id = any(${userIds}::uuid[]) and state = 'awaiting-recipient'
  `.execute(tx)
  signal(tx, mailsDue)
}

/** Cancels what was to be sent to erased users, and forgets where the rest was sent. */
export async function withdrawErased(tx: Transaction<Tables>, userIds: readonly string[]): Promise<void> {
  if (userIds.length === 0) return
  await sql`
    update notification
    set recipient_email = null,
        state = case when state in ('awaiting-recipient', 'queued') then 'cancelled' else state end
    where user_id = any(${userIds}::uuid[])
  `.execute(tx)
}
