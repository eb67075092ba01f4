import { type Database, sql } from '@shopstream/database'
import { Histogram, type Logger, measureTogether, type Registry } from '@shopstream/observability'
import { deadlineReason, type Order } from './life-cycle.ts'
import { orderChanged } from './orders.ts'
import type { Tables } from './tables.ts'

/** More pending orders than this are an outage, whatever their number. */
const countedOrders = 10_000

/** Orders that nobody has decided yet. */
interface Pending {
  pending: number
  overdue: number
  oldest: number
}

/** By the index of deadlines, which is small while orders are decided in time. */
async function readPending(database: Database<Tables>): Promise<Pending> {
  const { rows } = await sql<Pending>`
    select count(*)::integer as pending,
      count(*) filter (where reservation_deadline < now())::integer as overdue,
      coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as oldest
    from (
      select reservation_deadline, created_at from "order" where status = 'pending'
      order by reservation_deadline limit ${countedOrders}
    ) as counted`.execute(database.query)
  return rows[0] as Pending
}

/** Measures how orders are decided, once that is committed, and those that wait for it whenever the metrics are read. */
export function measureOrders(database: Database<Tables>, metrics: Registry, logger: Logger): void {
  const decided = new Histogram({
    name: 'shopstream_order_decision_seconds',
    help: 'From when an order was placed until it was decided: confirmed, rejected, cancelled before either, or expired at its deadline.',
    labelNames: ['outcome'],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900],
    registers: [metrics],
  })
  // A series that begins with its first order is no increase to Prometheus: what a sweep cancels would not be seen.
  for (const outcome of ['confirmed', 'rejected', 'cancelled', 'expired']) decided.zero({ outcome })
  database.on(orderChanged, (changed) => {
    const { history, status, reason, reservationDeadline, createdAt, updatedAt } = changed as Order
    if (history.at(-2)?.status !== 'pending') return
    // The reason alone may be a buyer's own words.
    const isExpired = status === 'cancelled' && reason === deadlineReason && updatedAt >= reservationDeadline
    decided.observe({ outcome: isExpired ? 'expired' : status }, (updatedAt.getTime() - createdAt.getTime()) / 1_000)
  })
  measureTogether(
    metrics,
    () => readPending(database),
    (error) => logger.debug({ err: error }, 'pending orders cannot be measured now'),
    [
      {
        name: 'shopstream_orders_pending',
        help: 'Orders that are not decided yet; counted up to 10,000.',
        value: ({ pending }) => pending,
      },
      {
        name: 'shopstream_orders_overdue',
        help: 'Pending orders whose deadline has passed; the sweeper cancels them within 30 s. Counted up to 10,000.',
        value: ({ overdue }) => overdue,
      },
      {
        name: 'shopstream_orders_pending_oldest_seconds',
        help: 'Age of the oldest order that is not decided yet.',
        value: ({ oldest }) => oldest,
      },
    ],
  )
}
