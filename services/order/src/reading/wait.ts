import type { Database } from '@shopstream/database'
import { createAlarm } from '@shopstream/messaging'
import type { Order } from '../life-cycle.ts'
import { findOrder, orderChanged } from '../orders.ts'
import type { Tables } from '../tables.ts'

/** Another instance may have decided: without a signal from this one the order is read again after this time, in ms. */
const lookAgainMs = 300

/**
 * The order as soon as it has left `pending`, or as it is after `seconds`, or when `signal` is aborted; undefined when
 * `owner` may not see it.
 */
export async function waitUntilDecided(
  database: Database<Tables>,
  { id, owner, seconds, signal }: { id: string; owner: string | undefined; seconds: number; signal: AbortSignal },
): Promise<Order | undefined> {
  const over = AbortSignal.any([signal, AbortSignal.timeout(seconds * 1000)])
  const alarm = createAlarm(over)
  const stopListening = database.on(orderChanged, (changed) => changed === id.toLowerCase() && alarm.wake())
  try {
    for (;;) {
      const order = await findOrder(database.query, id, owner)
      if (order?.status !== 'pending' || over.aborted) return order
      await alarm.wait(lookAgainMs)
    }
  } finally {
    stopListening()
  }
}
