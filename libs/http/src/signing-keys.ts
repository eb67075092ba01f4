import { type Database, sql } from '@shopstream/database'
import { type CryptoKey, importJWK, type JWK } from 'jose'
import type { KeyStore } from './access.ts'

/** Told after a commit that changed the table `signing_key`. */
export const keysChanged = 'signing-keys-changed'

/** An unknown key id asks the database at most this often, in ms: ids are cheap to invent. */
const askEveryMs = 1_000
/** Another instance may have stored a retirement: what is known is read again after this time, in ms. */
const staleAfterMs = 10_000

interface KnownKey {
  key: CryptoKey
  expiresAt: number
}

/**
 * The keys in the table `signing_key`, kept in memory. Keys that are retired or expired are not found. A key that is
 * known stays usable while the database is away.
 */
// biome-ignore lint/suspicious/noExplicitAny: any service's database
export function signingKeys(database: Database<any>): KeyStore {
  let known = new Map<string, KnownKey>()
  let readAt = Number.NEGATIVE_INFINITY
  let askedAt = Number.NEGATIVE_INFINITY
  let reading: Promise<void> | undefined

  const read = (): Promise<void> => {
    askedAt = performance.now()
    reading ??= readKeys(database)
      .then((keys) => {
        known = keys
        readAt = performance.now()
      })
      .finally(() => {
        reading = undefined
      })
    return reading
  }
  const usable = (keyId: string): CryptoKey | undefined => {
    const entry = known.get(keyId)
    return entry && entry.expiresAt > Date.now() ? entry.key : undefined
  }
  const isDue = (sinceMs: number, everyMs: number) => performance.now() - sinceMs >= everyMs

  database.on(keysChanged, () => {
    readAt = Number.NEGATIVE_INFINITY
    askedAt = Number.NEGATIVE_INFINITY
  })

  return {
    async find(keyId) {
      const key = usable(keyId)
      if (key && !isDue(readAt, staleAfterMs)) return key
      if (key) {
        if (!isDue(askedAt, askEveryMs)) return key
        try {
          await read()
        } catch {
          // Not lost: the same database says so in /readyz, and a key that was good 10 s ago is good enough meanwhile.
          return key
        }
      } else if (reading || isDue(askedAt, askEveryMs)) await read()
      return usable(keyId)
    },
    check: {
      name: 'signing keys',
      async check() {
        const hasUsable = () => [...known.keys()].some((keyId) => usable(keyId) !== undefined)
        if (!hasUsable()) await read()
        if (!hasUsable()) throw new Error('no signing key has arrived from shop.signing-key.v1 yet')
      },
    },
  }
}

// biome-ignore lint/suspicious/noExplicitAny: any service's database
async function readKeys(database: Database<any>): Promise<Map<string, KnownKey>> {
  const { rows } = await sql<{ id: string; jwk: JWK; expiresAt: Date }>`
    select key_id "id", public_key "jwk", expires_at "expiresAt" from signing_key
    where not retired and public_key is not null and expires_at > now()
  `.execute(database.query)
  const entries = rows.map(async ({ id, jwk, expiresAt }) => {
    const key = (await importJWK(jwk, 'EdDSA')) as CryptoKey
    return [id, { key, expiresAt: expiresAt.getTime() }] as const
  })
  return new Map(await Promise.all(entries))
}
