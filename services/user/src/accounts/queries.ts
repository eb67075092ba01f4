import { type Kysely, sql, type Transaction } from '@shopstream/database'
import type { AnyNewEvent, KeyRange, NewEvent } from '@shopstream/messaging'
import type { Account, Tables } from '../tables.ts'
import { foldEmail, normaliseEmail } from './account.ts'

export type PublicAccount = Omit<Account, 'password_hash' | 'sequence' | 'seeded'>

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

/**
 * What a login needs of the account of an address as it was typed, and whether its owner has logged in from `network`
 * before. The spelling that is stored comes first: two accounts of one mailbox that were made before addresses had one
 * form both stay to be logged in to (see normalise-emails.ts).
 */
export async function findCredentials(query: Kysely<Tables>, email: string, network: string) {
  const folded = foldEmail(email)
  const { rows } = await sql<{ id: string; passwordHash: string; isKnownThere: boolean }>`
    select id, password_hash "passwordHash",
           exists (select from session s where s.user_id = account.id and s.network = ${network}) "isKnownThere"
    from account where email in (${folded}, ${normaliseEmail(email)})
    order by email = ${folded} desc limit 1
  `.execute(query)
  return rows[0]
}

/** The roles of the account that has this password hash, kept from changing until the transaction ends, and the time. */
export async function lockCredentials(
  tx: Transaction<Tables>,
  id: string,
  passwordHash: string,
): Promise<{ roles: string[]; now: Date } | undefined> {
  return tx
    .selectFrom('account')
    .select(['roles', sql<Date>`clock_timestamp()`.as('now')])
    .where('id', '=', id)
    .where('password_hash', '=', passwordHash)
    .forShare()
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
  return (await accounts.execute()).map(stateOf)
}

/** An account's present state as an event. */
export function stateOf(account: Account): NewEvent<'UserRegistered' | 'UserProfileChanged'> {
  const { id, email, display_name, roles, sequence, created_at } = account
  return {
    type: sequence === 1n ? 'UserRegistered' : 'UserProfileChanged',
    key: id,
    sequence,
    data: { userId: id, email, displayName: display_name, roles, registeredAt: created_at },
  }
}
