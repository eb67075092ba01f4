import { producer } from '@shopstream/messaging'

/** The events that inventory produces. */
export const produces = producer('inventory', [
  'ProductListed',
  'ProductChanged',
  'ProductRetired',
  'StockLevelChanged',
  'StockReserved',
  'StockRejected',
  'StockReleased',
  'StockSold',
])
