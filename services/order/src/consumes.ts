import { signingKeyConsumption } from '@shopstream/http'
import { on } from '@shopstream/messaging'
import { keepProducts } from './products/replica.ts'
import { applyReservations } from './reserving/handle.ts'

/** The events that the order service consumes. */
export const consumes = [
  on(['StockReserved', 'StockRejected'], applyReservations),
  on(['ProductListed', 'ProductChanged', 'ProductRetired'], keepProducts),
  signingKeyConsumption,
]
