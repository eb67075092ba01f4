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
/**
 * While somebody holds a snapshot, the index keeps the deadlines of all orders that were ever pending, and a read from
 * its head walks over them. So most sweeps look at the last minute only; every fifteenth finds what those have missed:
 * orders that somebody held and let go, or that were committed after their deadline.
 */
const recentSeconds = 60
const sweepsPerWhole = 15

/**
 * Cancels pending orders whose deadline has passed; returns how many. Several instances may do it at once.
 * @param withinSeconds only those whose deadline has passed within this time.
 */
export async function cancelOverdue(database: Database<Tables>, withinSeconds?: number): Promise<number> {
  return database.transaction(async (tx) => {
    const overdue = await lockOverdue(tx, batch, withinSeconds)
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
    for (let sweep = 0; !stopping.signal.aborted; ) {
      try {
        const isWhole = sweep % sweepsPerWhole === 0
        const cancelled = await cancelOverdue(database, isWhole ? undefined : recentSeconds)
        if (cancelled > 0) logger.warn({ cancelled }, 'orders were cancelled: no reservation within their deadline')
        if (cancelled === batch) continue // the same again, until no more is found
        sweep += 1
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
