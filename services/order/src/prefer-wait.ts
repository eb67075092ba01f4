import { type Database, sql } from '@shopstream/database'
import { createAlarm, pause } from '@shopstream/messaging'
import type { Order } from './life-cycle.ts'
import { findOrder, orderChanged } from './orders.ts'
import type { Tables } from './tables.ts'

/**
 * Another instance may decide: without a signal from this one, all waiting orders are looked up after this time, in ms.
 * It is the shortest after a look that found one, and doubles after each that did not: a single instance soon asks the
 * database seldom.
 */
const lookAgainMs = { shortest: 20, longest: 300 }

interface Wait {
  id: string
  /** A user id; undefined for staff, who see all. */
  owner: string | undefined
  seconds: number
  signal: AbortSignal
  /** It was placed just now: there is nothing to be read yet. */
  isNew?: boolean
}

/**
 * Lets requests wait for orders: returns the order as soon as it has left `pending`, or as it is after `seconds` or
 * when `signal` is aborted; undefined when `owner` may not see it. One statement asks the database about all waiting
 * orders: one per order, with 130 behind a stopped partition, was 430 a second, and delayed all others.
 */
export function waiting(database: Database<Tables>): (wait: Wait) => Promise<Order | undefined> {
  const alarms = new Map<string, Set<(order?: Order) => void>>()
  const wake = (id: string, order?: Order) => {
    for (const alarm of alarms.get(id) ?? []) alarm(order)
  }
  database.on(orderChanged, (order) => wake((order as Order).id, order as Order))

  let isLooking = false
  let lookMs = lookAgainMs.longest
  /** Found by the last look: their waiters have been woken, and may be slow to read. */
  let found: readonly string[] = []
  /** Looks as long as any wait. */
  async function look(): Promise<void> {
    if (isLooking) return
    isLooking = true
    for (;;) {
      await pause(lookMs)
      const ids = [...alarms.keys()]
      if (ids.length === 0) break
      const decided = await noLongerPending(database, ids).catch(() => undefined)
      const isNews = decided?.some((id) => !found.includes(id))
      lookMs = isNews ? lookAgainMs.shortest : Math.min(2 * lookMs, lookAgainMs.longest)
      found = decided ?? []
      for (const id of decided ?? ids) wake(id) // after an error each waiter asks by itself, and gets the reason
    }
    isLooking = false
  }

  return async ({ owner, seconds, signal, isNew = false, ...wait }) => {
    const id = wait.id.toLowerCase()
    const over = AbortSignal.any([signal, AbortSignal.timeout(seconds * 1000)])
    const alarm = createAlarm(over)
    const ofOrder = alarms.get(id) ?? new Set()
    let told: Order | undefined
    const tell = (order?: Order) => {
      told = order
      alarm.wake()
    }
    alarms.set(id, ofOrder.add(tell))
    try {
      for (let isUnread = !isNew; ; isUnread = true) {
        if (told && (owner === undefined || told.userId === owner)) return told
        const order = isUnread ? await findOrder(database.query, id, owner) : undefined
        if (isUnread && (order?.status !== 'pending' || over.aborted)) return order
        void look()
        await alarm.wait(seconds * 1000)
      }
    } finally {
      ofOrder.delete(tell)
      if (ofOrder.size === 0) alarms.delete(id)
    }
  }
}

async function noLongerPending({ query }: Database<Tables>, ids: string[]): Promise<string[]> {
  const rows = await query
    .selectFrom('order')
    .select('id')
    .where('id', '=', sql<string>`any(${ids}::uuid[])`)
    .where('status', '!=', 'pending')
    .execute()
  return rows.map(({ id }) => id)
}
