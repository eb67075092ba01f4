import { type Kysely, sql, type Transaction } from '@shopstream/database'
import type { AnyNewEvent, KeyRange } from '@shopstream/messaging'
import type { SigningKeyPair, Tables } from '../tables.ts'

/** Waits until no other instance rotates keys; held until the transaction ends. */
export async function lockRotation(tx: Transaction<Tables>): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtext('signing-key-rotation'))`.execute(tx)
}

/** All key pairs that are not retired. There are two or three. */
export function listKeys(query: Kysely<Tables>): Promise<SigningKeyPair[]> {
  return query.selectFrom('signing_key_pair').selectAll().where('retired_at', 'is', null).execute()
}

/** What time it is for all instances. Also in a transaction that has waited for a lock. */
export async function timeOf(query: Kysely<Tables>): Promise<Date> {
  const { rows } = await sql<{ now: Date }>`select clock_timestamp() as now`.execute(query)
  return (rows[0] as { now: Date }).now
}

export async function insertKey(tx: Transaction<Tables>, key: SigningKeyPair): Promise<void> {
  await tx.insertInto('signing_key_pair').values(key).execute()
}

/** Marks a key retired and returns the sequence of the event that says so. */
export async function retireKey(tx: Transaction<Tables>, id: string, now: Date): Promise<bigint> {
  const { sequence } = await tx
    .updateTable('signing_key_pair')
    .set({ retired_at: now, sequence: sql`sequence + 1` })
    .where('id', '=', id)
    .returning('sequence')
    .executeTakeFirstOrThrow()
  return sequence
}

/** The present state of keys as events, for `republish`. */
export async function currentKeys(
  tx: Transaction<Tables>,
  { key, after, limit }: KeyRange,
): Promise<AnyNewEvent<'SigningKeyPublished' | 'SigningKeyRetired'>[]> {
  let keys = tx.selectFrom('signing_key_pair').selectAll().orderBy('id').limit(limit).forUpdate()
  if (key !== undefined) keys = keys.where('id', '=', key)
  if (after !== undefined) keys = keys.where('id', '>', after)
  return (await keys.execute()).map(({ id, public_jwk, active_from, expires_at, retired_at, sequence }) =>
    retired_at
      ? { type: 'SigningKeyRetired', key: id, sequence, data: { keyId: id, retiredAt: retired_at } }
      : {
          type: 'SigningKeyPublished',
          key: id,
          sequence,
          data: {
            keyId: id,
            algorithm: 'EdDSA',
            publicKey: public_jwk,
            activeFrom: active_from,
            expiresAt: expires_at,
          },
        },
  )
}
