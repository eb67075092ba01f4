import type { Transaction } from '@shopstream/database'
import type { Message } from '@shopstream/messaging'
import { databaseTime } from '../clock.ts'
import { decide } from '../life-cycle.ts'
import { lockOrders, updateOrders } from '../orders.ts'
import { produces } from '../produces.ts'
import type { Tables } from '../tables.ts'

type ReservationMessage = Message<'StockReserved', never> | Message<'StockRejected', 'shortages'>

/** Confirms or rejects orders by what inventory says of their reservations. */
export async function applyReservations(tx: Transaction<Tables>, messages: ReservationMessage[]): Promise<void> {
  const orders = await lockOrders(
    tx,
    messages.map(({ key }) => key),
  )
  const now = await databaseTime(tx)
  const changes = messages.flatMap((message) => {
    const order = orders.get(message.key)
    const decision = decide(order, message, now, message)
    if (decision.outcome === 'impossible')
      throw new Error(`${message.type} for order ${message.key}, which is ${order?.status ?? 'not there'}`)
    if (decision.outcome === 'already') return []
    orders.set(message.key, decision.order)
    return [decision]
  })
  await updateOrders(tx, [...new Map(changes.map(({ order }) => [order.id, order])).values()])
  await produces.emit(
    tx,
    changes.map(({ event }) => event),
  )
}
