import type { Transaction } from '@shopstream/database'
import { queueNotifications } from '../notifications/queries.ts'
import { lockRecipients } from '../recipients/queries.ts'
import { causeOf, type OrderMessage } from './order-mails.ts'

/** Makes a notification of each order event. One whose recipient is not known yet waits as a row of its own. */
export async function notifyBuyers(tx: Transaction, messages: OrderMessage[]): Promise<void> {
  const causes = messages.map(causeOf)
  const recipients = await lockRecipients(
    tx,
    causes.map(({ userId }) => userId),
  )
  await queueNotifications(tx, causes, recipients)
}
