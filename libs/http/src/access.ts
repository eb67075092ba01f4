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

/**
 * The user whom an `Authorization` header names by an access token: a JWT (EdDSA) of issuer and audience `shopstream`
 * whose key is known. Throws `invalid-token` (401) for anything else, without saying what was wrong with it.
 */
export async function authenticate(header: string | undefined, keys: KeyStore): Promise<User> {
  const token = bearer.exec(header ?? '')?.[1]
  if (token === undefined) throw errors['invalid-token']()
  try {
    const { payload } = await jwtVerify(token, ({ kid }) => keyOf(keys, kid), {
      algorithms: ['EdDSA'],
      issuer: 'shopstream',
      audience: 'shopstream',
      requiredClaims: ['sub', 'exp', 'iat', 'sid', 'roles'],
      clockTolerance,
    })
    const { sub: id = '', sid: sessionId, roles } = payload
    if (!uuid.test(id) || typeof sessionId !== 'string' || !isStrings(roles)) throw errors['invalid-token']()
    return { id, sessionId, roles }
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
