import { signal, sql, type Transaction } from '@shopstream/database'
import { mailsDue } from '../notifications/queries.ts'
import type { Kind, State, Tables } from '../tables.ts'

export interface FoundNotification {
  id: string
  kind: Kind
  state: State
  /** Undefined once its user is erased, and while the address is not known. */
  email: string | null
  /** The user wants no mailings. */
  hasOptedOut: boolean
}

/** A notification and where it would go, locked with its user; undefined when there is none of this id. */
export async function lockNotification(tx: Transaction<Tables>, id: string): Promise<FoundNotification | undefined> {
  // The user first, as the user's own events do it.
  const { rows } = await sql<{ email: string | null; hasOptedOut: boolean }>`
    select r.email, r.opted_out_at is not null "hasOptedOut" from recipient r where r.user_id = (select user_id from notification where id = ${id}) for share
  `.execute(tx)
  const found = await tx
    .selectFrom('notification')
    .select(['id', 'kind', 'state'])
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirst()
  return found && { ...found, email: null, hasOptedOut: false, ...rows[0] }
}

/** Makes a locked notification due again as one more mail, and records who asked for it. */
export async function resend(tx: Transaction<Tables>, { id, state }: FoundNotification, userId: string): Promise<void> {
  await sql`
    with again as (
      update notification
      set state = 'queued', resends = resends + 1, resent_at = now(), problems = 0, unknowns = 0,
        open_claim = null, next_attempt_at = now(), last_error = null
      where id = ${id} returning id, resends
    )
    insert into resend (notification_id, number, former_state, requested_by)
    select id, resends, ${state}, ${userId} from again
  `.execute(tx)
  signal(tx, mailsDue)
}
