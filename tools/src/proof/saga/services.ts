/** What decides in the two services of the saga: tables and pure decisions, which import nothing that does anything. */
import * as inventory from '../../../../services/inventory/src/reserving/decide.ts'
import { configSchema } from '../../../../services/order/src/config.ts'
import * as order from '../../../../services/order/src/life-cycle.ts'
import { statesAtRest } from '../../operations/verify/reservation-states.ts'

export type {
  /** An order's event as inventory consumes it. */
  OrderEvent as ConsumedOrderEvent,
  ReservationState,
  Shelf,
} from '../../../../services/inventory/src/reserving/decide.ts'
export type { Order, OrderInput, OrderStatus } from '../../../../services/order/src/life-cycle.ts'
export { inventory, order }

/** Of an order where no setting says another. */
export const { default: deadlineSeconds } = configSchema.properties.RESERVATION_DEADLINE_SECONDS as unknown as {
  default: number
}

/** What a reservation may be, at rest, of an order of this status. */
export const agreement: Record<order.OrderStatus, readonly inventory.ReservationState[]> = statesAtRest
