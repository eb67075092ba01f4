import { errorsOf } from '@shopstream/http'

/** The order service's stable error codes. */
export const errors = errorsOf({
  'duplicate-line': { status: 422, detail: 'A sku may stand in one line only; add up the quantities.' },
  'unknown-product': { status: 422, detail: 'A product is not on sale.' },
  'price-changed': { status: 422, detail: 'A price is no longer what the order says.' },
  'mixed-currencies': { status: 422, detail: 'All lines of an order must have the same currency.' },
  'order-not-found': { status: 404, detail: 'There is no such order.' },
  'not-cancellable': { status: 409, detail: 'The order can no longer be cancelled.' },
  'not-shippable': { status: 409, detail: 'Only a confirmed order can be shipped.' },
  'not-deliverable': { status: 409, detail: 'Only a shipped order can be delivered.' },
})
