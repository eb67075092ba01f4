import type { Kysely } from '@shopstream/database'
import type { Kind, State, Tables } from '../tables.ts'

/** A notification as it is listed. */
export interface ListedNotification {
  id: string
  kind: Kind
  subject: string
  causeId: string
  orderId: string | null
  state: State
  attempts: number
  /** What the last attempt said, when it failed; holds no address. */
  reason: string | null
  createdAt: Date
  sentAt: Date | null
  mailingId: string | null
  /** How often staff had it sent again. */
  resends: number
  /** Where it was last tried, else where it would go; null while that is not known, and once the user is erased. */
  to: string | null
}

/**
 * Up to `limit` notifications, newest first, of one user or of all.
 * @param after id of the last one of the page before.
 */
export function listNotifications(
  query: Kysely<Tables>,
  { userId, after, limit }: { userId: string | undefined; after: string | undefined; limit: number },
): Promise<ListedNotification[]> {
  return query
    .selectFrom('notification as n')
    .leftJoin('recipient as r', 'r.user_id', 'n.user_id')
    .select([
      'n.id',
      'n.kind',
      'n.subject',
      'n.cause_id as causeId',
      'n.order_id as orderId',
      'n.state',
      'n.attempts',
      'n.last_error as reason',
      'n.created_at as createdAt',
      'n.sent_at as sentAt',
      'n.mailing_id as mailingId',
      'n.resends',
    ])
    .select(({ fn }) => fn.coalesce('n.recipient_email', 'r.email').as('to'))
    .$if(userId !== undefined, (all) => all.where('n.user_id', '=', userId as string))
    .$if(after !== undefined, (all) => all.where('n.id', '<', after as string))
    .orderBy('n.id', 'desc') // UUIDv7: by time of creation
    .limit(limit)
    .execute()
}
