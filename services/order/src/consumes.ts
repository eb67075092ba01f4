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
    { lane: 'bulk' }, // an import of the catalogue must not hold up what becomes of orders
  ),
  signingKeyConsumption,
]
