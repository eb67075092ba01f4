import { type Ownership, parkedActionRetention } from '@shopstream/messaging'
import { currentAccounts } from './accounts/queries.ts'
import { produces } from './produces.ts'
import { catchUp } from './restoring/catch-up.ts'
import { currentKeys } from './signing-keys/queries.ts'

/** How operators' commands bring this service's tables and its topics together again, and what they move out of it. */
export const owns: Ownership = {
  produces,
  current: { 'shop.user.v1': currentAccounts, 'shop.signing-key.v1': currentKeys },
  catchUp,
  retention: [parkedActionRetention],
}
