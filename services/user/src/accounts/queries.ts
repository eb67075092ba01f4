import type { Kysely, Transaction } from '@shopstream/database'
import type { AnyNewEvent, KeyRange } from '@shopstream/messaging'
import type { Account, Tables } from '../tables.ts'

export type PublicAccount = Omit<Account, 'password_hash' | 'sequence'>

/** Writes a new account; false when its address is taken, also by a transaction that is still open elsewhere. */
export async function insertAccount(tx: Transaction<Tables>, account: Account): Promise<boolean> {
  const inserted = await tx
    .insertInto('account')
    .values(account)
    .onConflict((conflict) => conflict.constraint('account_email_unique').doNothing())
    .returning('id')
    .executeTakeFirst()
  return inserted !== undefined
}

/** Whether a normalised address has an account. */
export async function emailIsTaken(query: Kysely<Tables>, email: string): Promise<boolean> {
  return (await query.selectFrom('account').select('id').where('email', '=', email).executeTakeFirst()) !== undefined
}

/** What a login needs of the account with a normalised address. */
export function findCredentials(query: Kysely<Tables>, email: string) {
  return query
    .selectFrom('account')
    .select(['id', 'roles', 'password_hash as passwordHash'])
    .where('email', '=', email)
    .executeTakeFirst()
}

/** The public part of an account. */
export function findAccount(query: Kysely<Tables>, id: string): Promise<PublicAccount | undefined> {
  return query
    .selectFrom('account')
    .select(['id', 'email', 'display_name', 'roles', 'created_at'])
    .where('id', '=', id)
    .executeTakeFirst()
}

/** The present state of accounts as events, for `republish`. */
export async function currentAccounts(
  tx: Transaction<Tables>,
  { key, after, limit }: KeyRange,
): Promise<AnyNewEvent<'UserRegistered' | 'UserProfileChanged'>[]> {
  let accounts = tx.selectFrom('account').selectAll().orderBy('id').limit(limit).forUpdate()
  if (key !== undefined) accounts = accounts.where('id', '=', key)
  if (after !== undefined) accounts = accounts.where('id', '>', after)
  return (await accounts.execute()).map(({ id, email, display_name, roles, sequence, created_at }) => ({
    type: sequence === 1n ? 'UserRegistered' : 'UserProfileChanged',
    key: id,
    sequence,
    data: { userId: id, email, displayName: display_name, roles, registeredAt: created_at },
  }))
}
