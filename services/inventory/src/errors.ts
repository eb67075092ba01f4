import { errorsOf } from '@shopstream/http'

/** Inventory's stable error codes. */
export const errors = errorsOf({
  'product-not-found': { status: 404, detail: 'There is no product with this sku.' },
  'stock-below-zero': { status: 409, detail: 'The adjustment would bring the available stock below zero.' },
  'stock-too-large': { status: 422, detail: 'The stock on hand would exceed 2,000,000,000.' },
})
