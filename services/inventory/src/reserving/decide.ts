import type { AnyNewEvent, Message } from '@shopstream/messaging'
import type { Stock } from '../stock/queries.ts'
import type { Line, ReservationState } from '../tables.ts'

export type { ReservationState }

export interface Reservation {
  orderId: string
  state: ReservationState
  lines: Line[]
  sequence: bigint
}

type OrderPlaced = Message<'OrderPlaced', 'orderId' | 'lines'>
type OrderShipped = Message<'OrderShipped', 'orderId'>
type OrderCancelled = Message<'OrderCancelled', 'orderId' | 'reason'>

export type OrderEvent = OrderPlaced | OrderShipped | OrderCancelled
export type ReservationEvent = AnyNewEvent<'StockReserved' | 'StockRejected' | 'StockReleased' | 'StockSold'>

/** What is known of the stock rows and reservations that a chunk of messages concerns; decisions work on it in place. */
export interface Shelf {
  stock: Map<string, Stock>
  reservations: Map<string, Reservation>
}

/** An order event that cannot follow the reservation's state: it is parked, for a person to look at. */
export class ImpossibleReservation extends Error {}

/**
 * What follows: the next state, or one of two by whether the stock is enough for all lines; `already` when what the
 * event asks for is so; `impossible` when it cannot have happened, which parks it.
 */
type Cell = ReservationState | { enough: ReservationState; short: ReservationState } | 'already' | 'impossible'

/**
 * The life of a reservation, whole: each state, `none` before there is one, and each event of the order. An order's
 * events come in their order, so nothing comes before `OrderPlaced`, and a cancellation never after a shipment.
 */
export const lifeCycle: Record<ReservationState | 'none', Record<OrderEvent['type'], Cell>> = {
  none: {
    OrderPlaced: { enough: 'reserved', short: 'rejected' },
    OrderShipped: 'impossible',
    OrderCancelled: 'impossible',
  },
  reserved: { OrderPlaced: 'already', OrderShipped: 'sold', OrderCancelled: 'released' },
  rejected: { OrderPlaced: 'already', OrderShipped: 'impossible', OrderCancelled: 'already' },
  released: { OrderPlaced: 'already', OrderShipped: 'impossible', OrderCancelled: 'already' },
  sold: { OrderPlaced: 'already', OrderShipped: 'already', OrderCancelled: 'impossible' },
}

/**
 * What entering a state means: the event that tells it, and the factor of a line's quantity by which its stock moves.
 */
export const entering = {
  reserved: { announces: 'StockReserved', onHand: 0, reserved: 1 },
  rejected: { announces: 'StockRejected', onHand: 0, reserved: 0 },
  released: { announces: 'StockReleased', onHand: 0, reserved: -1 },
  sold: { announces: 'StockSold', onHand: -1, reserved: -1 },
} as const satisfies Record<ReservationState, { announces: string; onHand: number; reserved: number }>

/**
 * Decides one order event by the table {@link lifeCycle} against the shelf, which it brings up to date; returns the
 * events about the reservation. The same event decided again changes nothing. Throws {@link ImpossibleReservation} for
 * an event that cannot follow the reservation's state.
 */
export function decide(shelf: Shelf, event: OrderEvent): ReservationEvent[] {
  const { orderId } = event.data
  const known = shelf.reservations.get(orderId)
  const cell = lifeCycle[known?.state ?? 'none'][event.type]
  if (cell === 'already') return []
  if (cell === 'impossible')
    throw new ImpossibleReservation(
      `${event.type} of order ${event.key}, whose reservation is ${known?.state ?? 'missing'}`,
    )
  const lines = known?.lines ?? linesOf(event)
  const shortages = typeof cell === 'object' ? shortagesOf(shelf, lines) : []
  const state = typeof cell === 'string' ? cell : shortages.length === 0 ? cell.enough : cell.short
  if (state !== 'rejected') move(shelf, lines, entering[state])
  const reservation: Reservation = { orderId, state, lines, sequence: (known?.sequence ?? 0n) + 1n }
  shelf.reservations.set(orderId, reservation)
  const head = { type: entering[state].announces, key: orderId, sequence: reservation.sequence, causedBy: event }
  return [{ ...head, data: payloadOf(reservation, event, shortages) } as ReservationEvent]
}

function move({ stock }: Shelf, lines: Line[], by: { onHand: number; reserved: number }): void {
  for (const { sku, quantity } of lines) {
    const level = stock.get(sku) as Stock // rows of stock are never removed
    level.onHand += by.onHand * quantity
    level.reserved += by.reserved * quantity
  }
}

const linesOf = ({ type, data }: OrderEvent): Line[] =>
  type === 'OrderPlaced' ? data.lines.map(({ sku, quantity }) => ({ sku, quantity })) : []

/** The lines that the stock is not enough for: with one of them, none of the order is reserved. */
const shortagesOf = ({ stock }: Shelf, lines: Line[]) =>
  lines.flatMap(({ sku, quantity }) => {
    const available = availableOf(stock.get(sku))
    return available < quantity ? [{ sku, requested: quantity, available }] : []
  })

const availableOf = (stock: Stock | undefined) => (stock?.sellable ? stock.onHand - stock.reserved : 0)

function payloadOf({ orderId, state, lines }: Reservation, { type, data }: OrderEvent, shortages: object[]) {
  if (state === 'rejected') return { orderId, shortages }
  return { orderId, lines, ...(type === 'OrderCancelled' && { reason: data.reason }) }
}
