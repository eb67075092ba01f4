type OrderModule = typeof import('../../../../services/order/src/life-cycle.ts')
type InventoryModule = typeof import('../../../../services/inventory/src/reserving/decide.ts')

/**
 * What decides in the two services of the saga: tables and pure decisions, which import nothing that does anything.
 * Read by path, as the wiring tables are: no package depends on a service.
 */
export const order: OrderModule = await import(`../../../../services/order/src/life-cycle.ts`)
export const inventory: InventoryModule = await import(`../../../../services/inventory/src/reserving/decide.ts`)

export type Order = import('../../../../services/order/src/life-cycle.ts').Order
export type OrderInput = import('../../../../services/order/src/life-cycle.ts').OrderInput
export type OrderStatus = import('../../../../services/order/src/life-cycle.ts').OrderStatus
export type Shelf = import('../../../../services/inventory/src/reserving/decide.ts').Shelf
export type ReservationState = import('../../../../services/inventory/src/reserving/decide.ts').ReservationState
/** An order's event as inventory consumes it. */
export type ConsumedOrderEvent = import('../../../../services/inventory/src/reserving/decide.ts').OrderEvent

/** What a reservation may be, at rest, of an order of this status: with nothing under way between the services. */
export const agreement: Record<OrderStatus, readonly ReservationState[]> = {
  pending: [],
  confirmed: ['reserved'],
  rejected: ['rejected'],
  shipped: ['sold'],
  delivered: ['sold'],
  cancelled: ['released', 'rejected'],
}
