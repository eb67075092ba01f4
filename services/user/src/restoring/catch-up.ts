import { sql, type Transaction } from '@shopstream/database'
import type { CatchUp, Message } from '@shopstream/messaging'
import { produces } from '../produces.ts'
import type { Tables } from '../tables.ts'

type AccountMessage = Message<'UserRegistered' | 'UserProfileChanged' | 'UserErased'>
type KeyMessage = Message<'SigningKeyPublished' | 'SigningKeyRetired'>

/**
 * Adopts what this service has published of its accounts and keys and its restored tables do not know. A password and a
 * private key are in no event: accounts that were made since are lost, and keys that were made since are retired, so that
 * nobody takes tokens which this service does not know.
 */
export function catchUp(): CatchUp {
  const lost = new Set<string>()
  return {
    topics: [
      {
        topic: 'shop.user.v1',
        async adopt(tx, messages) {
          const { changed, unknown } = await adoptAccounts(tx, messages as AccountMessage[])
          for (const id of unknown) lost.add(id)
          return changed
        },
      },
      { topic: 'shop.signing-key.v1', adopt: (tx, messages) => adoptKeys(tx, messages as KeyMessage[]) },
    ],
    async settle() {
      if (lost.size === 0) return []
      return [`the accounts of users who registered since, and have to do so again: ${[...lost].join(', ')}`]
    },
  }
}

const lastOfEach = <M extends Message>(messages: readonly M[]): M[] =>
  [...Map.groupBy(messages, ({ key }) => key).values()].map((ofKey) =>
    ofKey.reduce((last, message) => (message.sequence > last.sequence ? message : last)),
  )

async function adoptAccounts(
  tx: Transaction<Tables>,
  messages: AccountMessage[],
): Promise<{ changed: number; unknown: string[] }> {
  const latest = lastOfEach(messages)
  const erased = latest.flatMap(({ type, key }) => (type === 'UserErased' ? [key] : []))
  const told = latest.flatMap(({ key, sequence, data }) => ('email' in data ? [{ key, sequence, ...data }] : []))
  const updated = await sql`
    update account set email = told.email, display_name = told.display_name, roles = string_to_array(told.roles, ','),
      sequence = told.sequence
    from unnest(
      ${told.map(({ key }) => key)}::uuid[], ${told.map(({ email }) => email)}::text[],
      ${told.map(({ displayName }) => displayName)}::text[], ${told.map(({ roles }) => roles.join())}::text[],
      ${told.map(({ sequence }) => sequence)}::bigint[]
    ) as told (id, email, display_name, roles, sequence)
    where account.id = told.id and account.sequence < told.sequence
    returning account.id`.execute(tx)
  const deleted = await sql`delete from account where id = any(${erased}::uuid[]) returning id`.execute(tx)
  const known = await sql<{ id: string }>`
    select id from account where id = any(${told.map(({ key }) => key)}::uuid[])`.execute(tx)
  const ids = new Set(known.rows.map(({ id }) => id))
  return {
    changed: updated.rows.length + deleted.rows.length,
    unknown: told.map(({ key }) => key).filter((id) => !ids.has(id)),
  }
}

async function adoptKeys(tx: Transaction<Tables>, messages: KeyMessage[]): Promise<number> {
  const latest = lastOfEach(messages)
  const retired = latest.flatMap(({ key, sequence, data }) =>
    'retiredAt' in data ? [{ key, sequence, at: data.retiredAt }] : [],
  )
  const { rows } = await sql`
    update signing_key_pair as pair set retired_at = told.at, sequence = told.sequence
    from unnest(
      ${retired.map(({ key }) => key)}::text[], ${retired.map(({ at }) => at)}::timestamptz[],
      ${retired.map(({ sequence }) => sequence)}::bigint[]
    ) as told (id, at, sequence)
    where pair.id = told.id and pair.sequence < told.sequence
    returning pair.id`.execute(tx)
  const known = await sql<{ id: string }>`select id from signing_key_pair`.execute(tx)
  const ids = new Set(known.rows.map(({ id }) => id))
  const foreign = latest.filter(({ type, key }) => type === 'SigningKeyPublished' && !ids.has(key))
  await produces.emit(
    tx,
    foreign.map(({ key, sequence }) => ({
      type: 'SigningKeyRetired',
      key,
      sequence: sequence + 1n,
      data: { keyId: key, retiredAt: new Date() },
    })),
  )
  return rows.length + foreign.length
}
