import { type Ownership, parkedActionRetention } from '@shopstream/messaging'
import { currentProducts } from './catalogue/queries.ts'
import { produces } from './produces.ts'
import { catchUp } from './restoring/catch-up.ts'

/** How operators' commands bring this service's tables and its topics together again, and what they move out of it. */
export const owns: Ownership = {
  produces,
  current: { 'shop.product.v1': currentProducts },
  catchUp,
  retention: [
    {
      table: 'reservation',
      id: 'order_id',
      over: `state in ('rejected', 'released', 'sold')`,
      changed: 'updated_at',
      days: 730,
      keys: ['order_id'],
      sequence: 'sequence',
      // On hand is the adjustments less what was ever sold.
      carries: `select line->>'sku' as key, (line->>'quantity')::bigint as amount
        from gone cross join jsonb_array_elements(lines) as line where state = 'sold'`,
    },
    parkedActionRetention,
  ],
}
