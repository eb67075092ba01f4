import { ConfigError } from '@shopstream/config'
import type { Database } from '@shopstream/database'
import type { KeyStore } from '@shopstream/http'
import type { Logger } from '@shopstream/observability'
import { type CryptoKey, importJWK } from 'jose'
import { errors } from '../errors.ts'
import { every, type Periodic } from '../periodic.ts'
import type { Signer } from '../sessions/access-token.ts'
import type { SigningKeyPair, Tables } from '../tables.ts'
import { listKeys, timeOf } from './queries.ts'
import { rotateKeys, scheduled } from './rotation.ts'
import { type KeySettings, type ScheduledKey, signingKey } from './schedule.ts'
import { open, SealError } from './sealing.ts'

/** This instance's view of the signing keys: it rotates them, signs with them and verifies by them. */
export interface Keyring {
  /** Publishes the first key when there is none and opens all. Throws {@link ConfigError} when the secret is wrong. */
  start(): Promise<void>
  stop(): Promise<void>
  /** The key that signs now. Throws `no-signing-key` when there is none, which ends with the next run of the rotation. */
  signer(): Signer
  /** When the last of the known keys expires; undefined before the start. */
  expiry(): Date | undefined
  /** For verifying tokens: this service reads its own table and has no replica of the key topic. */
  readonly store: KeyStore
}

export interface KeyringOptions {
  database: Database<Tables>
  /** Private keys are sealed under it. */
  secret: string
  settings: KeySettings
  logger: Logger
}

interface OpenKey extends ScheduledKey {
  privateKey: CryptoKey
  publicKey: CryptoKey
}

/** An unknown key id is looked up in the table at most this often (ms), so that forged tokens cost no query each. */
const lookUpMs = 1_000

export function createKeyring({ database, secret, settings, logger }: KeyringOptions): Keyring {
  let keys = new Map<string, OpenKey>()
  let loadedAt = Number.NEGATIVE_INFINITY
  /** What the clock of the database, which all instances go by, is ahead of `performance.now()`. */
  let epoch = Date.now() - performance.now()
  let rotation: Periodic | undefined

  async function load() {
    loadedAt = performance.now()
    const stored = await listKeys(database.query)
    epoch = (await timeOf(database.query)).getTime() - performance.now()
    const opened = await Promise.all(
      stored.map(async (key) => ({ ...(keys.get(key.id) ?? (await openKey(secret, key))), ...scheduled(key) })),
    )
    keys = new Map(opened.map((key) => [key.id, key]))
  }

  async function rotate() {
    const actions = await rotateKeys(database, secret, settings)
    for (const action of actions) logger.info({ action }, 'signing keys rotated')
    await load()
  }

  const now = () => new Date(epoch + performance.now())
  const current = () => signingKey([...keys.values()], now(), settings)

  return {
    async start() {
      await rotate().catch(explainWrongSecret)
      rotation ??= every(settings.checkMs, 'signing key rotation', logger, rotate)
    },
    async stop() {
      await rotation?.stop()
    },
    signer() {
      const key = current()
      if (!key) throw errors['no-signing-key']().retryIn(Math.ceil(settings.checkMs / 1_000))
      return { keyId: key.id, privateKey: key.privateKey }
    },
    expiry: () => [...keys.values()].map(({ expiresAt }) => expiresAt).sort((one, other) => +other - +one)[0],
    store: {
      async find(keyId) {
        if (!keys.has(keyId) && performance.now() - loadedAt > lookUpMs) await load()
        const key = keys.get(keyId)
        return key && key.expiresAt > now() ? key.publicKey : undefined
      },
      check: {
        name: 'signing-keys',
        check() {
          if (!current()) throw new Error('no signing key is active')
        },
      },
    },
  }
}

async function openKey(secret: string, key: SigningKeyPair): Promise<Omit<OpenKey, keyof ScheduledKey>> {
  const privateJwk = JSON.parse(await open(secret, key.id, key.sealed_jwk))
  return {
    privateKey: (await importJWK(privateJwk, 'EdDSA')) as CryptoKey,
    publicKey: (await importJWK(JSON.parse(key.public_jwk), 'EdDSA')) as CryptoKey,
  }
}

function explainWrongSecret(error: unknown): never {
  if (!(error instanceof SealError)) throw error
  throw new ConfigError([
    `KEY_ENCRYPTION_SECRET does not open the signing keys in this database (${error.message}). ` +
      'Set the secret that was used when they were made.',
  ])
}
