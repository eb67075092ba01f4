import { createHash } from 'node:crypto'
import type { ReadinessCheck } from '@shopstream/messaging'
import { type CryptoKey, errors as joseErrors, jwtVerify } from 'jose'
import { errors } from './errors.ts'
import type { Access, User } from './routes.ts'

/** Public keys that access tokens are verified with. */
export interface KeyStore {
  /**
   * The Ed25519 key of this id, undefined when there is none that may be used. Cheap for ids that do not exist.
   * May throw what `isUnavailable` of `@shopstream/database` recognises.
   */
  find(keyId: string): Promise<CryptoKey | undefined>
  /** Fails until a key is known. */
  readonly check: ReadinessCheck
}

/** Clocks of two hosts may differ by this many seconds. */
const clockTolerance = 5

const bearer = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+)$/i
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** Throws the refusal, unless `user` may call a route with `access`. */
export function authorize(user: User, access: Access): void {
  if (access === 'staff' && !user.roles.includes('staff')) throw errors['staff-only']()
}

interface Verified {
  user: User
  keyId: string
  key: CryptoKey
  /** Seconds since 1970. */
  expires: number
}

/**
 * Tokens that were verified, by their hash: to verify one again took 0.2 ms of each request. It counts while its key is the
 * one that was found then: what is retired, or read anew from the database (every 10 s), verifies once more.
 */
const verified = new Map<string, Verified>()
const mostVerified = 10_000

async function isStillGood({ keyId, key, expires }: Verified, keys: KeyStore): Promise<boolean> {
  return expires + clockTolerance > Date.now() / 1_000 && (await keys.find(keyId)) === key
}

function remember(hash: string, one: Verified): void {
  verified.delete(hash) // so that the first is always the oldest
  const [oldest] = verified.size >= mostVerified ? verified.keys() : []
  if (oldest !== undefined) verified.delete(oldest)
  verified.set(hash, one)
}

/**
 * The user whom an `Authorization` header names by an access token: a JWT (EdDSA) of issuer and audience `shopstream`
 * whose key is known. Throws `invalid-token` (401) for anything else, without saying what was wrong with it.
 */
export async function authenticate(header: string | undefined, keys: KeyStore): Promise<User> {
  const token = bearer.exec(header ?? '')?.[1]
  if (token === undefined) throw errors['invalid-token']()
  const hash = createHash('sha256').update(token).digest('base64url')
  const known = verified.get(hash)
  if (known && (await isStillGood(known, keys))) return known.user
  try {
    const { payload, protectedHeader, key } = await jwtVerify(token, ({ kid }) => keyOf(keys, kid), {
      algorithms: ['EdDSA'],
      issuer: 'shopstream',
      audience: 'shopstream',
      requiredClaims: ['sub', 'exp', 'iat', 'sid', 'roles'],
      clockTolerance,
    })
    const { sub: id = '', sid: sessionId, roles, exp: expires = 0 } = payload
    if (!uuid.test(id) || typeof sessionId !== 'string' || !isStrings(roles)) throw errors['invalid-token']()
    const user = { id, sessionId, roles }
    remember(hash, { user, keyId: protectedHeader.kid ?? '', key: key as CryptoKey, expires })
    return user
  } catch (error) {
    // Everything that jose refuses is the token's fault; what the key store throws is not.
    if (error instanceof joseErrors.JOSEError) throw errors['invalid-token']()
    throw error
  }
}

async function keyOf(keys: KeyStore, keyId: string | undefined): Promise<CryptoKey> {
  const key = keyId !== undefined && /^[\w.-]{1,64}$/.test(keyId) ? await keys.find(keyId) : undefined
  if (!key) throw errors['invalid-token']()
  return key
}

const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string')
