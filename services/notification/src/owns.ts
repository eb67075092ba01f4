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
      table: 'notification',
      id: 'id',
      over: `state in ('sent', 'failed', 'cancelled')`,
      changed: 'greatest(created_at, resent_at, next_attempt_at, sent_at)',
      days: 365,
      // A registration may be told again as another event, for as long as the account is there.
      keys: ['id', 'cause_id', `case kind when 'welcome' then user_id end`],
      sequence: 'sequence',
      with: { resend: 'notification_id' },
      carries: `select mailing_id || ' ' || state as key, 1 as amount from gone where mailing_id is not null`,
    },
    parkedActionRetention,
  ],
}
