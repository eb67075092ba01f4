import { type Ownership, parkedActionRetention } from '@shopstream/messaging'
import { produces } from './produces.ts'
import { catchUp } from './restoring/catch-up.ts'

/** How operators' commands bring this service's tables and its topics together again, and what they move out of it. It owns no compacted topic. */
export const owns: Ownership = {
  produces,
  current: {},
  catchUp,
  retention: [
    {
      table: 'order',
      id: 'id',
      over: `status in ('rejected', 'delivered', 'cancelled')`,
      changed: 'updated_at',
      days: 730,
      keys: ['id'],
      sequence: 'sequence',
    },
    parkedActionRetention,
  ],
}
