import type { AnyNewEvent } from '@shopstream/messaging'

export type OrderStatus = 'pending' | 'confirmed' | 'rejected' | 'shipped' | 'delivered' | 'cancelled'

/** Minor units and ISO 4217 currency. */
export interface Money {
  amount: bigint
  currency: string
}

export interface OrderLine {
  sku: string
  quantity: number
  unitPrice: Money
}

/** Personal data: it stays in this service's database and its owner's answers, no event carries it. */
export interface ShippingAddress {
  name: string
  line1: string
  line2?: string
  city: string
  region?: string
  postalCode: string
  /** ISO 3166-1 alpha-2. */
  country: string
}

export interface Order {
  id: string
  userId: string
  status: OrderStatus
  lines: OrderLine[]
  total: Money
  shippingAddress: ShippingAddress
  /** Why it was rejected or cancelled. */
  reason: string | null
  shipment: { carrier: string; trackingNumber: string } | null
  history: { status: OrderStatus; at: Date }[]
  /** When it is cancelled if it is still pending. */
  reservationDeadline: Date
  /** Of the last event about it. */
  sequence: bigint
  createdAt: Date
  updatedAt: Date
}

export interface Shortage {
  sku: string
  requested: number
  available: number
}

/** What can happen to an order after it was placed. */
export type OrderCommand =
  | { type: 'confirm' }
  | { type: 'reject'; shortages: Shortage[] }
  | { type: 'ship'; carrier: string; trackingNumber: string }
  | { type: 'deliver' }
  | { type: 'cancel'; reason: string }

export type OrderEvent = AnyNewEvent<
  'OrderPlaced' | 'OrderConfirmed' | 'OrderRejected' | 'OrderShipped' | 'OrderDelivered' | 'OrderCancelled'
>

/** The status that follows; `already` when the command asks for what is so; `impossible` when it cannot follow. */
type Outcome = OrderStatus | 'already' | 'impossible'

/**
 * The life of an order, whole: each status and each command. A reservation may come after a cancellation, because both
 * were under way; inventory then gives it back when it sees the cancellation.
 */
export const lifeCycle: Record<OrderStatus, Record<OrderCommand['type'], Outcome>> = {
  pending: { confirm: 'confirmed', reject: 'rejected', ship: 'impossible', deliver: 'impossible', cancel: 'cancelled' },
  confirmed: { confirm: 'already', reject: 'impossible', ship: 'shipped', deliver: 'impossible', cancel: 'cancelled' },
  rejected: {
    confirm: 'impossible',
    reject: 'already',
    ship: 'impossible',
    deliver: 'impossible',
    cancel: 'impossible',
  },
  shipped: { confirm: 'already', reject: 'impossible', ship: 'already', deliver: 'delivered', cancel: 'impossible' },
  delivered: { confirm: 'already', reject: 'impossible', ship: 'already', deliver: 'already', cancel: 'impossible' },
  cancelled: { confirm: 'already', reject: 'already', ship: 'impossible', deliver: 'impossible', cancel: 'already' },
}

/** What comes of a command. */
export type Decision =
  | { outcome: 'changed'; order: Order; event: OrderEvent }
  | { outcome: 'already' | 'impossible'; order: Order }

/** Decides a command by the table {@link lifeCycle}. The given order is not changed. */
export function decide(
  order: Order,
  command: OrderCommand,
  now: Date,
  causedBy?: { id: string; traceparent?: string },
): Decision {
  const outcome = lifeCycle[order.status][command.type]
  if (outcome === 'already' || outcome === 'impossible') return { outcome, order }
  const changed: Order = {
    ...order,
    status: outcome,
    ...(command.type === 'reject' && { reason: describeShortages(command.shortages) }),
    ...(command.type === 'cancel' && { reason: command.reason }),
    ...(command.type === 'ship' && { shipment: { carrier: command.carrier, trackingNumber: command.trackingNumber } }),
    history: [...order.history, { status: outcome, at: now }],
    sequence: order.sequence + 1n,
    updatedAt: now,
  }
  const head = { key: order.id, sequence: changed.sequence, ...(causedBy && { causedBy }) }
  return { outcome: 'changed', order: changed, event: { ...head, ...eventOf(changed, command, now) } as OrderEvent }
}

function eventOf({ id: orderId, userId, lines, total }: Order, command: OrderCommand, now: Date) {
  switch (command.type) {
    case 'confirm':
      return { type: 'OrderConfirmed' as const, data: { orderId, userId, lines, total, confirmedAt: now } }
    case 'reject':
      return {
        type: 'OrderRejected' as const,
        data: { orderId, userId, shortages: command.shortages, rejectedAt: now },
      }
    case 'ship': {
      const { carrier, trackingNumber } = command
      return { type: 'OrderShipped' as const, data: { orderId, userId, carrier, trackingNumber, shippedAt: now } }
    }
    case 'deliver':
      return { type: 'OrderDelivered' as const, data: { orderId, userId, deliveredAt: now } }
    case 'cancel':
      return { type: 'OrderCancelled' as const, data: { orderId, userId, reason: command.reason, cancelledAt: now } }
  }
}

/** The reason of a rejected order, in words. */
export const describeShortages = (shortages: Shortage[]) =>
  `out of stock: ${shortages.map(({ sku, requested, available }) => `${sku} (${requested} wanted, ${available} left)`).join(', ')}`.slice(
    0,
    2_000,
  )
