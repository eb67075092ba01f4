import type { Database } from '@shopstream/database'
import { pause } from '@shopstream/messaging'
import type { Logger } from '@shopstream/observability'
import { databaseTime } from '../clock.ts'
import { decide } from '../life-cycle.ts'
import { lockOverdue, updateOrders } from '../orders.ts'
import { produces } from '../produces.ts'
import type { Tables } from '../tables.ts'

const sweepEveryMs = 2_000
const batch = 100

/** Cancels pending orders whose deadline has passed; returns how many. Several instances may do it at once. */
export async function cancelOverdue(database: Database<Tables>): Promise<number> {
  return database.transaction(async (tx) => {
    const overdue = await lockOverdue(tx, batch)
    const now = await databaseTime(tx)
    const decisions = overdue.map((order) => decide(order, { type: 'deadline' }, now))
    const changed = decisions.filter((decision) => decision.outcome === 'changed')
    await updateOrders(
      tx,
      changed.map(({ order }) => order),
    )
    await produces.emit(
      tx,
      changed.map(({ event }) => event),
    )
    return changed.length
  })
}

/** Sweeps until stopped; returns the function that stops it. */
export function startSweeper(database: Database<Tables>, logger: Logger): () => Promise<void> {
  const stopping = new AbortController()
  const running = (async () => {
    while (!stopping.signal.aborted) {
      try {
        const cancelled = await cancelOverdue(database)
        if (cancelled > 0) logger.warn({ cancelled }, 'orders were cancelled: no reservation within their deadline')
        if (cancelled === batch) continue
      } catch (error) {
        logger.warn({ err: error }, 'overdue orders are swept later')
      }
      await pause(sweepEveryMs, stopping.signal)
    }
  })()
  return async () => {
    stopping.abort()
    await running
  }
}
