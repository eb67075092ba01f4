import type { AnyNewEvent, Message } from '@shopstream/messaging'

export interface Line {
  sku: string
  quantity: number
}

export interface Stock {
  sku: string
  onHand: number
  reserved: number
  sequence: bigint
  /** A retired product cannot be reserved any more. */
  sellable: boolean
}

export type ReservationState = 'reserved' | 'rejected' | 'released' | 'sold'

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

/** The state that an order event asks for where the event does not make sense: parked, for a person to look at. */
export class ImpossibleReservation extends Error {}

const availableOf = (stock: Stock | undefined) => (stock?.sellable ? stock.onHand - stock.reserved : 0)

/**
 * Decides one order event against the shelf, which it brings up to date; returns the events about the reservation.
 * The same event decided again changes nothing. Throws {@link ImpossibleReservation} for an event that cannot follow
 * the reservation's state.
 */
export function decide(shelf: Shelf, event: OrderEvent): ReservationEvent[] {
  if (event.type === 'OrderPlaced') return reserve(shelf, event)
  if (event.type === 'OrderShipped') return sell(shelf, event)
  return release(shelf, event)
}

/** All lines or none. */
function reserve(shelf: Shelf, event: OrderPlaced): ReservationEvent[] {
  const { orderId } = event.data
  if (shelf.reservations.has(orderId)) return []
  const lines = event.data.lines.map(({ sku, quantity }) => ({ sku, quantity }))
  const shortages = lines.flatMap(({ sku, quantity }) => {
    const available = availableOf(shelf.stock.get(sku))
    return available < quantity ? [{ sku, requested: quantity, available }] : []
  })
  const state = shortages.length === 0 ? 'reserved' : 'rejected'
  const reservation: Reservation = { orderId, state, lines, sequence: 1n }
  shelf.reservations.set(orderId, reservation)
  if (state === 'rejected')
    return [{ ...headOf(reservation, event), type: 'StockRejected', data: { orderId, shortages } }]
  move(shelf, lines, (stock, quantity) => {
    stock.reserved += quantity
  })
  return [{ ...headOf(reservation, event), type: 'StockReserved', data: { orderId, lines } }]
}

function sell(shelf: Shelf, event: OrderShipped): ReservationEvent[] {
  const reservation = shelf.reservations.get(event.data.orderId)
  if (reservation?.state === 'sold') return []
  if (reservation?.state !== 'reserved') throw impossible(event, reservation)
  move(shelf, reservation.lines, (stock, quantity) => {
    stock.onHand -= quantity
    stock.reserved -= quantity
  })
  advance(reservation, 'sold')
  return [
    {
      ...headOf(reservation, event),
      type: 'StockSold',
      data: { orderId: reservation.orderId, lines: reservation.lines },
    },
  ]
}

function release(shelf: Shelf, event: OrderCancelled): ReservationEvent[] {
  const reservation = shelf.reservations.get(event.data.orderId)
  if (reservation?.state === 'released' || reservation?.state === 'rejected') return []
  if (reservation?.state !== 'reserved') throw impossible(event, reservation)
  move(shelf, reservation.lines, (stock, quantity) => {
    stock.reserved -= quantity
  })
  advance(reservation, 'released')
  const { orderId, lines } = reservation
  return [{ ...headOf(reservation, event), type: 'StockReleased', data: { orderId, lines, reason: event.data.reason } }]
}

const headOf = ({ orderId, sequence }: Reservation, causedBy: OrderEvent) => ({ key: orderId, sequence, causedBy })

function advance(reservation: Reservation, state: ReservationState): void {
  reservation.state = state
  reservation.sequence += 1n
}

function move(shelf: Shelf, lines: Line[], change: (stock: Stock, quantity: number) => void): void {
  for (const { sku, quantity } of lines) change(shelf.stock.get(sku) as Stock, quantity)
}

function impossible(event: OrderEvent, reservation: Reservation | undefined): ImpossibleReservation {
  return new ImpossibleReservation(
    `${event.type} of order ${event.key}, whose reservation is ${reservation?.state ?? 'missing'}`,
  )
}
