import { signal, sql, type Transaction } from '@shopstream/database'
import { mailsDue } from '../causes/queries.ts'
import type { State, Tables } from '../tables.ts'

export interface FoundNotification {
  id: string
  state: State
  /** Undefined once its user is erased, and while the address is not known. */
  email: string | null
}

/** A notification and where it would go, locked with its user; undefined when there is none of this id. */
export async function lockNotification(tx: Transaction<Tables>, id: string): Promise<FoundNotification | undefined> {
  // The user first, as the user's own events do it.
  const { rows } = await sql<{ email: string | null }>`
    select r.email from recipient r where r.user_id = (select user_id from notification where id = ${id}) for share
  `.execute(tx)
  const found = await tx
    .selectFrom('notification')
    .select(['id', 'state'])
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirst()
  return found && { ...found, email: rows[0]?.email ?? null }
}

/** Makes a locked notification due again as one more mail, and records who asked for it. */
export async function resend(tx: Transaction<Tables>, { id, state }: FoundNotification, userId: string): Promise<void> {
  await sql`
    with again as (
      update notification
      set state = 'queued', resends = resends + 1, resent_at = now(), problems = 0, unknowns = 0,
        next_attempt_at = now(), last_error = null
      where id = ${id} returning id, resends
    )
    insert into resend (notification_id, number, former_state, requested_by)
    select id, resends, ${state}, ${userId} from again
  `.execute(tx)
  signal(tx, mailsDue)
}
