import type { Message } from '@shopstream/messaging'
import { describeShortages, type Order, type OrderStatus, type ShippingAddress } from '../life-cycle.ts'

export type OrderMessage = Message<
  'OrderPlaced' | 'OrderConfirmed' | 'OrderRejected' | 'OrderShipped' | 'OrderDelivered' | 'OrderCancelled'
>

/** Stands for an address that was lost: no event carries one. */
const lostAddress: ShippingAddress = {
  name: 'lost',
  line1: 'lost when the order database was restored: ask the buyer',
  city: 'lost',
  postalCode: 'lost',
  country: 'ZZ',
}

/**
 * The order after an event about it; everything but the shipping address is in the events. Undefined when the first event
 * of an unknown order is not that it was placed. An event that the order knows changes nothing.
 */
export function evolve(order: Order | undefined, message: OrderMessage): Order | undefined {
  if (message.type === 'OrderPlaced') return order ?? placed(message as Extract<OrderMessage, { type: 'OrderPlaced' }>)
  if (!order || message.sequence <= order.sequence) return order
  const { status, at, ...more } = changeOf(message)
  return {
    ...order,
    ...more,
    status,
    history: [...order.history, { status, at }],
    sequence: message.sequence,
    updatedAt: at,
  }
}

function placed({ data, sequence }: Message<'OrderPlaced'>): Order {
  const { orderId, userId, lines, total, placedAt, reservationDeadline } = data
  return {
    id: orderId,
    userId,
    status: 'pending',
    lines,
    total,
    shippingAddress: lostAddress,
    reason: null,
    shipment: null,
    history: [{ status: 'pending', at: placedAt }],
    reservationDeadline,
    sequence,
    createdAt: placedAt,
    updatedAt: placedAt,
  }
}

type Change = { status: OrderStatus; at: Date } & Partial<Pick<Order, 'reason' | 'shipment'>>

function changeOf({ type, data }: OrderMessage): Change {
  if ('confirmedAt' in data) return { status: 'confirmed', at: data.confirmedAt }
  if ('rejectedAt' in data)
    return { status: 'rejected', at: data.rejectedAt, reason: describeShortages(data.shortages) }
  if ('shippedAt' in data) {
    const { carrier, trackingNumber } = data
    return { status: 'shipped', at: data.shippedAt, shipment: { carrier, trackingNumber } }
  }
  if ('deliveredAt' in data) return { status: 'delivered', at: data.deliveredAt }
  if ('cancelledAt' in data) return { status: 'cancelled', at: data.cancelledAt, reason: data.reason }
  throw new Error(`${type} is no change of an order`)
}
