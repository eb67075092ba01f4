import { signingKeyConsumption } from '@shopstream/http'
import { on } from '@shopstream/messaging'
import { applyOrderEvents } from './reserving/handle.ts'

/** The events that inventory consumes. */
export const consumes = [
  on(
    { OrderPlaced: ['orderId', 'lines'], OrderShipped: ['orderId'], OrderCancelled: ['orderId', 'reason'] },
    applyOrderEvents,
  ),
  signingKeyConsumption,
]
