import type { Transaction } from '@shopstream/database'
import { queueNotifications, queueWaiting, withdrawErased } from '../notifications/queries.ts'
import { lockRecipients, saveRecipients } from './queries.ts'
import { applyUserEvents, type UserMessage } from './recipients.ts'

/**
 * Keeps the replica of users, welcomes new ones, lets go what waited for them, and forgets the addresses of erased ones.
 */
export async function rememberRecipients(tx: Transaction, messages: UserMessage[]): Promise<void> {
  const known = await lockRecipients(
    tx,
    messages.map(({ data }) => data.userId),
  )
  const { recipients, welcomes } = applyUserEvents(known, messages)
  if (recipients.length === 0) return
  await saveRecipients(tx, recipients)
  await queueNotifications(tx, welcomes, new Map(recipients.map((recipient) => [recipient.user_id, recipient])))
  const idsOf = (erased: boolean) => recipients.filter((each) => each.erased === erased).map(({ user_id }) => user_id)
  await queueWaiting(tx, idsOf(false))
  await withdrawErased(tx, idsOf(true))
}
