import { sql, type Transaction } from '@shopstream/database'
import { type Message, type Ownership, parkedActionRetention } from '@shopstream/messaging'
import { produces } from './produces.ts'

/**
 * How operators' commands bring this service's tables and its topics together again, and what they move out of it. A restored
 * database learns from the topics how far each key has come; which messages of others have come in since, it cannot know.
 */
export const owns: Ownership = {
  produces,
  current: {},
  catchUp: () => ({
    topics: [{ topic: 'shop.loyalty.v1', adopt }],
    settle: async () => ['which messages came in since: a source that brings one of them again is believed'],
  }),
  retention: [parkedActionRetention],
}

async function adopt(tx: Transaction, messages: Message[]): Promise<number> {
  const { numAffectedRows } = await sql`
    insert into received_key (topic, key, sequence)
    select topic, key, max(sequence) from unnest(
      ${messages.map(({ topic }) => topic)}::text[], ${messages.map(({ key }) => key)}::text[],
      ${messages.map(({ sequence }) => sequence)}::bigint[]) as told (topic, key, sequence)
    group by topic, key
    on conflict (topic, key) do update set sequence = excluded.sequence, changed_at = now()
    where received_key.sequence < excluded.sequence`.execute(tx)
  return Number(numAffectedRows ?? 0)
}
