import type { Transaction } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { databaseTime } from '../clock.ts'
import type { Order, ShippingAddress } from '../life-cycle.ts'
import { insertOrder } from '../orders.ts'
import { produces } from '../produces.ts'
import { findProducts } from '../products/replica.ts'
import type { Tables } from '../tables.ts'
import { type OrderedItem, placeOrder } from './decide.ts'

export interface PlaceOrder {
  userId: string
  items: OrderedItem[]
  shippingAddress: ShippingAddress
  deadlineSeconds: number
}

/** Writes a pending order and its `OrderPlaced`. Throws what the decision throws. */
export async function place(
  tx: Transaction<Tables>,
  { userId, items, shippingAddress, deadlineSeconds }: PlaceOrder,
): Promise<Order> {
  const products = await findProducts(
    tx,
    items.map(({ sku }) => sku),
  )
  const { order, event } = placeOrder({
    orderId: newEventId(),
    userId,
    items,
    shippingAddress,
    products,
    now: await databaseTime(tx),
    deadlineSeconds,
  })
  await insertOrder(tx, order)
  await produces.emit(tx, [event])
  return order
}
