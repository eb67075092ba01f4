import { producer } from '@shopstream/messaging'

/** The events that the order service produces. */
export const produces = producer('order', [
  'OrderPlaced',
  'OrderConfirmed',
  'OrderRejected',
  'OrderShipped',
  'OrderDelivered',
  'OrderCancelled',
])
