import type { Transaction } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { ShopError } from '@shopstream/http'
import { databaseTime } from '../clock.ts'
import type { Order, ShippingAddress } from '../life-cycle.ts'
import { insertOrders } from '../orders.ts'
import { produces } from '../produces.ts'
import { findProducts } from '../products/replica.ts'
import type { Tables } from '../tables.ts'
import { decideOrder, type OrderedItem } from './decide.ts'

export interface OrderRequest {
  userId: string
  items: OrderedItem[]
  shippingAddress: ShippingAddress
  /** Of the request. */
  traceparent?: string | undefined
}

/** Writes pending orders and their `OrderPlaced`; returns each, or what its decision refuses it with. */
export async function placeAll(
  tx: Transaction<Tables>,
  all: readonly OrderRequest[],
  deadlineSeconds: number,
): Promise<(Order | ShopError)[]> {
  const products = await findProducts(
    tx,
    all.flatMap(({ items }) => items.map(({ sku }) => sku)),
  )
  const now = await databaseTime(tx)
  const decided = all.map(({ traceparent, ...one }) => {
    try {
      const { order, event } = decideOrder({ ...one, orderId: newEventId(), products, now, deadlineSeconds })
      return { order, event: traceparent === undefined ? event : { ...event, traceparent } }
    } catch (error) {
      if (error instanceof ShopError) return error
      throw error
    }
  })
  const placed = decided.flatMap((one) => (one instanceof ShopError ? [] : [one]))
  await insertOrders(
    tx,
    placed.map(({ order }) => order),
  )
  await produces.emit(
    tx,
    placed.map(({ event }) => event),
  )
  return decided.map((one) => (one instanceof ShopError ? one : one.order))
}
