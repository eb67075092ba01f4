import { sql, type Transaction } from '@shopstream/database'
import type { Recipient, Tables } from '../tables.ts'

/**
 * Locks the rows of some users, in the order of their ids, and makes those that are missing: so a cause and its
 * recipient that arrive in two transactions at once wait for each other, and neither overlooks the other.
 */
export async function lockRecipients(
  tx: Transaction<Tables>,
  userIds: readonly string[],
): Promise<Map<string, Recipient>> {
  const ids = [...new Set(userIds)].sort()
  const known = await lockKnown(tx, ids)
  const missing = ids.filter((id) => !known.has(id))
  if (missing.length === 0) return known
  await sql`
    insert into recipient (user_id) select unnest(${missing}::uuid[]) on conflict (user_id) do nothing
  `.execute(tx)
  return lockKnown(tx, ids)
}

async function lockKnown(tx: Transaction<Tables>, ids: readonly string[]): Promise<Map<string, Recipient>> {
  const { rows } = await sql<Recipient>`
    select * from recipient where user_id = any(${ids}::uuid[]) order by user_id for update
  `.execute(tx)
  return new Map(rows.map((row) => [row.user_id, row]))
}

/** Writes locked recipients back. */
export async function saveRecipients(tx: Transaction<Tables>, recipients: readonly Recipient[]): Promise<void> {
  await sql`
    update recipient r
    set email = n.email, erased = n.erased, sequence = n.sequence
    from unnest(
      ${recipients.map((r) => r.user_id)}::uuid[], ${recipients.map((r) => r.email)}::text[],
      ${recipients.map((r) => r.erased)}::boolean[], ${recipients.map((r) => r.sequence)}::bigint[]
    ) as n (user_id, email, erased, sequence)
    where r.user_id = n.user_id
  `.execute(tx)
}
