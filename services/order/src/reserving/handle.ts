import type { Transaction } from '@shopstream/database'
import type { Message } from '@shopstream/messaging'
import { decide, type Order, type OrderCommand } from '../life-cycle.ts'
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
  const now = new Date()
  const events = messages.flatMap((message) => {
    const decision = decide(mustHave(orders, message.key), commandOf(message), now, message)
    if (decision.outcome === 'impossible')
      throw new Error(`${message.type} for order ${message.key}, which is ${decision.order.status}`)
    orders.set(message.key, decision.order)
    return decision.outcome === 'changed' ? [decision.event] : []
  })
  await updateOrders(
    tx,
    events.map(({ key }) => mustHave(orders, key)),
  )
  await produces.emit(tx, events)
}

function commandOf({ type, data }: ReservationMessage): OrderCommand {
  return type === 'StockRejected' ? { type: 'reject', shortages: data.shortages } : { type: 'confirm' }
}

function mustHave(orders: ReadonlyMap<string, Order>, id: string): Order {
  const order = orders.get(id)
  if (!order) throw new Error(`there is no order ${id}`)
  return order
}
