import { signingKeyConsumption } from '@shopstream/http'
import { on } from '@shopstream/messaging'
import { keepProducts } from './products/replica.ts'
import { applyReservations } from './reserving/handle.ts'

/** The events that the order service consumes. */
export const consumes = [
  on({ StockReserved: [], StockRejected: ['shortages'] }, applyReservations),
  on(
    { ProductListed: ['sku', 'price'], ProductChanged: ['sku', 'price'], ProductRetired: ['sku', 'price'] },
    keepProducts,
    // An import of the catalogue must not hold up what becomes of orders; and each event has the whole product in it, so one
    // that fails for good need not hold back the next.
    { lane: 'bulk', whenDead: 'pass' },
  ),
  signingKeyConsumption,
]
