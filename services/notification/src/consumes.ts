import { signingKeyConsumption } from '@shopstream/http'
import { type Consumption, on } from '@shopstream/messaging'
import { notifyBuyers } from './causes/notify.ts'
import { rememberRecipients } from './recipients/remember.ts'

/** Every event this service consumes, and what handles it. */
export const consumes: readonly Consumption[] = [
  on(
    {
      UserRegistered: ['userId', 'email'],
      UserProfileChanged: ['userId', 'email'],
      UserErased: ['userId'],
    },
    rememberRecipients,
  ),
  on(
    {
      OrderConfirmed: ['orderId', 'userId', 'lines', 'total'],
      OrderRejected: ['orderId', 'userId', 'shortages'],
      OrderShipped: ['orderId', 'userId', 'carrier', 'trackingNumber'],
      OrderCancelled: ['orderId', 'userId'],
    },
    notifyBuyers,
  ),
  signingKeyConsumption,
]
