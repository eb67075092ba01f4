import type { Database, Kysely, Transaction } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { exportJWK, generateKeyPair } from 'jose'
import { produces } from '../produces.ts'
import type { SigningKeyPair, Tables } from '../tables.ts'
import { insertKey, listKeys, lockRotation, retireKey, timeOf } from './queries.ts'
import { type KeyAction, type KeySettings, nextKeyActions, type ScheduledKey } from './schedule.ts'
import { seal } from './sealing.ts'

/** A stored key as the schedule sees it. */
export const scheduled = (key: SigningKeyPair): ScheduledKey => ({
  id: key.id,
  activeFrom: key.active_from,
  expiresAt: key.expires_at,
  retired: key.retired_at !== null,
})

/**
 * Does what the schedule has due, with its events; returns what it did. Any number of instances may run it at once:
 * they decide one after the other, and the later ones find nothing left to do. By the clock of the database: an instance
 * whose own is ahead would retire the key that the others sign with.
 */
export async function rotateKeys(
  database: Database<Tables>,
  secret: string,
  settings: KeySettings,
): Promise<KeyAction[]> {
  const { actions } = await due(database.query, settings)
  if (actions.length === 0) return [] // most of the time, and without the lock
  return database.transaction(async (tx) => {
    await lockRotation(tx)
    const { actions, now } = await due(tx, settings)
    for (const action of actions) await perform(tx, secret, action, now)
    return actions
  })
}

async function due(query: Kysely<Tables>, settings: KeySettings) {
  const keys = await listKeys(query)
  const now = await timeOf(query)
  return { now, actions: nextKeyActions(keys.map(scheduled), now, settings) }
}

async function perform(tx: Transaction<Tables>, secret: string, action: KeyAction, now: Date): Promise<void> {
  if (action.do === 'publish') await publish(tx, secret, action, now)
  else await retire(tx, action.id, now)
}

async function publish(
  tx: Transaction<Tables>,
  secret: string,
  { activeFrom, expiresAt }: Extract<KeyAction, { do: 'publish' }>,
  now: Date,
): Promise<void> {
  const id = newEventId()
  const pair = await generateKeyPair('EdDSA', { extractable: true })
  const publicKey = JSON.stringify({ ...(await exportJWK(pair.publicKey)), kid: id, alg: 'EdDSA', use: 'sig' })
  const sequence = 1n
  await insertKey(tx, {
    id,
    public_jwk: publicKey,
    sealed_jwk: await seal(secret, id, JSON.stringify(await exportJWK(pair.privateKey))),
    published_at: now,
    active_from: activeFrom,
    expires_at: expiresAt,
    retired_at: null,
    sequence,
  })
  await produces.emit(tx, [
    {
      type: 'SigningKeyPublished',
      key: id,
      sequence,
      data: { keyId: id, algorithm: 'EdDSA', publicKey, activeFrom, expiresAt },
    },
  ])
}

async function retire(tx: Transaction<Tables>, id: string, now: Date): Promise<void> {
  const sequence = await retireKey(tx, id, now)
  await produces.emit(tx, [{ type: 'SigningKeyRetired', key: id, sequence, data: { keyId: id, retiredAt: now } }])
}
