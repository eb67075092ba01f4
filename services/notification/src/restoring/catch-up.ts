import { sql, type Transaction } from '@shopstream/database'
import type { CatchUp, Message } from '@shopstream/messaging'
import type { Tables } from '../tables.ts'

type Outcome = Message<'NotificationSent' | 'NotificationFailed'>

/**
 * Adopts the mails that were sent, or failed, and that the restored tables do not know, so that none is sent again.
 * Their content is filled in when the group reads the cause again, see `queueNotifications`, or when the mailing is
 * filled again. Each outcome after the first was a resend: the next one must not reuse a number, and with it a
 * `Message-ID`.
 */
export function catchUp(): CatchUp {
  return {
    topics: [{ topic: 'shop.notification.v1', adopt: (tx, messages) => adoptOutcomes(tx, messages as Outcome[]) }],
    // Neither is in any topic, so nothing tells whether there was any: it is said each time.
    settle: async () => [
      'who has opted out of mailings since, by whatever link or login: send none before that is settled',
      'mailings that staff wrote since, as far as they had not gone out, and who had a mail sent again',
    ],
  }
}

async function adoptOutcomes(tx: Transaction<Tables>, messages: Outcome[]): Promise<number> {
  const ofCause = Map.groupBy(messages, ({ data }) => data.causeId)
  const latest = [...ofCause.values()].map((outcomes) => outcomes.at(-1) as Outcome)
  const { rows } = await sql`
    insert into notification
      (id, user_id, kind, cause_id, facts, subject, traceparent, state, attempts, last_error, sequence, resends, created_at, next_attempt_at, sent_at)
    select id, user_id, kind, cause_id, '{}', kind, traceparent, state, 1, error, sequence, sequence - 1, at, at, case state when 'sent' then at end
    from unnest(
      ${latest.map(({ key }) => key)}::uuid[], ${latest.map(({ data }) => data.userId)}::uuid[],
      ${latest.map(({ data }) => data.kind)}::text[], ${latest.map(({ data }) => data.causeId)}::uuid[],
      ${latest.map(({ traceparent }) => traceparent ?? null)}::text[],
      ${latest.map(({ type }) => (type === 'NotificationSent' ? 'sent' : 'failed'))}::text[],
      ${latest.map(({ data }) => ('reason' in data ? data.reason : null))}::text[],
      ${latest.map(({ sequence }) => sequence)}::bigint[],
      ${latest.map(({ data }) => ('sentAt' in data ? data.sentAt : data.failedAt))}::timestamptz[]
    ) as told (id, user_id, kind, cause_id, traceparent, state, error, sequence, at)
    on conflict (cause_id) do update set state = excluded.state, sent_at = excluded.sent_at,
      last_error = excluded.last_error, next_attempt_at = excluded.next_attempt_at, sequence = excluded.sequence, resends = greatest(notification.resends, excluded.resends)
    where notification.sequence < excluded.sequence
    returning id`.execute(tx)
  return rows.length
}
