import type { Database } from '@shopstream/database'
import { createAlarm } from '@shopstream/messaging'
import type { Logger } from '@shopstream/observability'
import type { Tables } from '../tables.ts'
import { fillNext, mailingMade } from './queries.ts'

/** Users of one transaction: it locks their rows for some 20 ms, and nobody waits longer than that. */
const batchUsers = 500
/** How often it looks for mailings that nobody told of: another instance took them in, or died over them. */
const pollMs = 1_000

/** Queues open mailings batch by batch until the returned function is called, which waits for the batch in hand. */
export function startFiller(database: Database<Tables>, logger: Logger): () => Promise<void> {
  const stopping = new AbortController()
  const alarm = createAlarm(stopping.signal)
  const stopListening = database.on(mailingMade, alarm.wake)
  const running = (async () => {
    while (!stopping.signal.aborted) {
      const isOpen = await database
        .transaction((tx) => fillNext(tx, batchUsers))
        .catch((error) => logger.warn({ err: error }, 'a mailing is queued further a little later'))
      if (!isOpen) await alarm.wait(pollMs)
    }
  })()
  return async () => {
    stopListening()
    stopping.abort()
    await running
  }
}
