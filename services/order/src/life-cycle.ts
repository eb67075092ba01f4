import type { Money } from '@shopstream/events'
import type { AnyNewEvent } from '@shopstream/messaging'

export type OrderStatus = 'pending' | 'confirmed' | 'rejected' | 'shipped' | 'delivered' | 'cancelled'

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

/** What of an order is known when it is placed. */
export type PlacedOrder = Pick<Order, 'id' | 'userId' | 'lines' | 'total' | 'shippingAddress' | 'reservationDeadline'>

/** What a client can ask of an order that is there. */
export type OrderCommand =
  | { type: 'cancel'; reason: string }
  | { type: 'ship'; carrier: string; trackingNumber: string }
  | { type: 'deliver' }

/** Everything that can happen to an order: what clients ask, what inventory says of its reservation, and time. */
export type OrderInput =
  | { type: 'place'; order: PlacedOrder }
  | { type: 'StockReserved' }
  | { type: 'StockRejected'; data: { shortages: Shortage[] } }
  | { type: 'deadline' }
  | OrderCommand

/**
 * What follows: the next status, `already` when what the input brings is so or is decided otherwise for good reason, or
 * `impossible`, which refuses a client and parks an event for a person to look at.
 */
type Cell = OrderStatus | 'already' | 'impossible'

/**
 * The life of an order, whole: each state, `none` before it is placed, and each input. What is under way together comes
 * in any order: a reservation after a cancellation is `already` decided, and inventory gives it back when it sees the
 * cancellation. tools/src/proof/saga walks all that can happen in both services and finds every cell that is not `impossible`
 * reached, and no event in one that is.
 */
export const lifeCycle: Record<OrderStatus | 'none', Record<OrderInput['type'], Cell>> = {
  none: {
    place: 'pending',
    StockReserved: 'impossible',
    StockRejected: 'impossible',
    deadline: 'impossible',
    cancel: 'impossible',
    ship: 'impossible',
    deliver: 'impossible',
  },
  pending: {
    place: 'impossible',
    StockReserved: 'confirmed',
    StockRejected: 'rejected',
    deadline: 'cancelled',
    cancel: 'cancelled',
    ship: 'impossible',
    deliver: 'impossible',
  },
  confirmed: {
    place: 'impossible',
    StockReserved: 'already',
    StockRejected: 'impossible',
    deadline: 'already',
    cancel: 'cancelled',
    ship: 'shipped',
    deliver: 'impossible',
  },
  rejected: {
    place: 'impossible',
    StockReserved: 'impossible',
    StockRejected: 'already',
    deadline: 'already',
    cancel: 'impossible',
    ship: 'impossible',
    deliver: 'impossible',
  },
  shipped: {
    place: 'impossible',
    StockReserved: 'already',
    StockRejected: 'impossible',
    deadline: 'already',
    cancel: 'impossible',
    ship: 'already',
    deliver: 'delivered',
  },
  delivered: {
    place: 'impossible',
    StockReserved: 'already',
    StockRejected: 'impossible',
    deadline: 'already',
    cancel: 'impossible',
    ship: 'already',
    deliver: 'already',
  },
  cancelled: {
    place: 'impossible',
    StockReserved: 'already',
    StockRejected: 'already',
    deadline: 'already',
    cancel: 'already',
    ship: 'impossible',
    deliver: 'impossible',
  },
}

/** The event that says that an order has come into a status. */
export const announces = {
  pending: 'OrderPlaced',
  confirmed: 'OrderConfirmed',
  rejected: 'OrderRejected',
  shipped: 'OrderShipped',
  delivered: 'OrderDelivered',
  cancelled: 'OrderCancelled',
} as const satisfies Record<OrderStatus, string>

export type OrderEvent = AnyNewEvent<(typeof announces)[OrderStatus]>

export interface Changed {
  outcome: 'changed'
  order: Order
  event: OrderEvent
}

/** What comes of an input; without a change the order stays as it is. */
export type Decision = Changed | { outcome: 'already' } | { outcome: 'impossible' }

/**
 * Decides an input by the table {@link lifeCycle}; `undefined` is an order that is not there. The given order is not
 * changed. `now` is a time of the order database, see clock.ts.
 */
export function decide(
  before: Order | undefined,
  input: OrderInput,
  now: Date,
  causedBy?: { id: string; traceparent?: string },
): Decision {
  const cell = lifeCycle[before?.status ?? 'none'][input.type]
  if (cell === 'already' || cell === 'impossible') return { outcome: cell }
  const known = input.type === 'place' ? begin(input.order, now) : (before as Order)
  const order: Order = {
    ...known,
    ...changesOf(input),
    status: cell,
    history: [...known.history, { status: cell, at: now }],
    sequence: known.sequence + 1n,
    updatedAt: now,
  }
  const head = { type: announces[cell], key: order.id, sequence: order.sequence, ...(causedBy && { causedBy }) }
  return { outcome: 'changed', order, event: { ...head, data: payloadOf(order, input, now) } as OrderEvent }
}

/** An order that nothing has happened to. */
const begin = (order: PlacedOrder, now: Date) => ({
  ...order,
  reason: null,
  shipment: null,
  history: [],
  sequence: 0n,
  createdAt: now,
})

/** Of an order that nobody decided in time. */
export const deadlineReason = 'reservation-timeout'

function changesOf(input: OrderInput): Partial<Pick<Order, 'reason' | 'shipment'>> {
  switch (input.type) {
    case 'StockRejected':
      return { reason: describeShortages(input.data.shortages) }
    case 'deadline':
      return { reason: deadlineReason }
    case 'cancel':
      return { reason: input.reason }
    case 'ship':
      return { shipment: { carrier: input.carrier, trackingNumber: input.trackingNumber } }
    default:
      return {}
  }
}

function payloadOf({ status, reason, shipment, ...order }: Order, input: OrderInput, now: Date) {
  const { id: orderId, userId, lines, total, reservationDeadline } = order
  const head = { orderId, userId }
  switch (status) {
    case 'pending':
      return { ...head, lines, total, placedAt: now, reservationDeadline }
    case 'confirmed':
      return { ...head, lines, total, confirmedAt: now }
    case 'rejected':
      return { ...head, shortages: input.type === 'StockRejected' ? input.data.shortages : [], rejectedAt: now }
    case 'shipped':
      return { ...head, ...shipment, shippedAt: now }
    case 'delivered':
      return { ...head, deliveredAt: now }
    case 'cancelled':
      return { ...head, reason, cancelledAt: now }
  }
}

/** The reason of a rejected order, in words. */
export const describeShortages = (shortages: Shortage[]) =>
  `out of stock: ${shortages.map(({ sku, requested, available }) => `${sku} (${requested} wanted, ${available} left)`).join(', ')}`.slice(
    0,
    2_000,
  )
