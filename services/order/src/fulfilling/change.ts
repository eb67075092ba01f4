import type { Transaction } from '@shopstream/database'
import type { ShopError } from '@shopstream/http'
import { databaseTime } from '../clock.ts'
import { errors } from '../errors.ts'
import { decide, type Order, type OrderCommand } from '../life-cycle.ts'
import { lockOrders, updateOrders } from '../orders.ts'
import { produces } from '../produces.ts'
import type { Tables } from '../tables.ts'

/** What a client is told when a command cannot follow; cancelling twice is fine, shipping twice is not. */
const refusals: Record<OrderCommand['type'], { unless: 'changed' | 'already'; error: () => ShopError }> = {
  ship: { unless: 'changed', error: errors['not-shippable'] },
  deliver: { unless: 'changed', error: errors['not-deliverable'] },
  cancel: { unless: 'already', error: errors['not-cancellable'] },
}

export interface ChangeOrder {
  id: string
  /** A user id; undefined for staff. */
  owner: string | undefined
  command: OrderCommand
}

/** Applies a client's command. Throws `order-not-found`, also for somebody else's order, or the command's refusal. */
export async function changeOrder(tx: Transaction<Tables>, { id, owner, command }: ChangeOrder): Promise<Order> {
  const order = (await lockOrders(tx, [id])).values().next().value
  if (!order || (owner !== undefined && order.userId !== owner)) throw errors['order-not-found']()
  const decision = decide(order, command, await databaseTime(tx))
  if (decision.outcome === 'changed') {
    await updateOrders(tx, [decision.order])
    await produces.emit(tx, [decision.event])
    return decision.order
  }
  if (decision.outcome !== refusals[command.type].unless) throw refusals[command.type].error()
  return order
}
