import { type Kysely, sql, type Transaction } from '@shopstream/database'
import type { SigningKeyPair, Tables } from '../tables.ts'

/** Waits until no other instance rotates keys; held until the transaction ends. */
export async function lockRotation(tx: Transaction<Tables>): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtext('signing-key-rotation'))`.execute(tx)
}

/** All key pairs that are not retired. There are two or three. */
export function listKeys(query: Kysely<Tables>): Promise<SigningKeyPair[]> {
  return query.selectFrom('signing_key_pair').selectAll().where('retired_at', 'is', null).execute()
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
