import { signingKeyConsumption } from '@shopstream/http'
import { type Consumption, on } from '@shopstream/messaging'
import { notifyBuyers } from './causes/notify.ts'
import { rememberRecipients } from './recipients/remember.ts'

/** Every event this service consumes, and what handles it. */
export const consumes: readonly Consumption[] = [
  on(['UserRegistered', 'UserProfileChanged', 'UserErased'], rememberRecipients),
  on(['OrderConfirmed', 'OrderRejected', 'OrderShipped', 'OrderCancelled'], notifyBuyers),
  signingKeyConsumption,
]
