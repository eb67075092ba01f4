import type { Transaction } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { lockCredentials } from '../accounts/queries.ts'
import type { Tables } from '../tables.ts'
import { type AccessClaims, type Signer, signAccessToken } from './access-token.ts'
import { insertRefreshToken, insertSession, type Lifetime, lockPresented, revokeSession, rotate } from './queries.ts'
import { decideRefresh, hashOf, newRefreshToken, type RefreshDecision } from './refresh-token.ts'

/** How long tokens live, by the clock of the database, and what signs them. */
export interface TokenSettings {
  accessTokenSeconds: number
  refreshTokenDays: number
  /** The key that signs just now. Throws when there is none. */
  signer(): Signer
}

/** What a client gets for a login or a refresh. */
export interface Tokens {
  accessToken: string
  tokenType: 'Bearer'
  /** Seconds until the access token expires. */
  expiresIn: number
  refreshToken: string
}

const dayMs = 86_400_000

/** Somebody whose password was right just now, and where the login came from. */
export interface Verified {
  id: string
  passwordHash: string
  network: string
}

/** Opens a session; undefined when the password has been changed since it was verified, which ends all sessions. */
export async function openSession(
  tx: Transaction<Tables>,
  settings: TokenSettings,
  { id: userId, passwordHash, network }: Verified,
): Promise<Tokens | undefined> {
  const account = await lockCredentials(tx, userId, passwordHash)
  if (!account) return undefined
  const { now } = account
  const life = refreshLifetime(settings, now)
  const sessionId = newEventId()
  const { token, hash } = newRefreshToken()
  await insertSession(tx, { id: sessionId, userId, network }, life)
  await insertRefreshToken(tx, hash, sessionId, life)
  return tokensOf(settings, { userId, roles: account.roles, sessionId }, token, now)
}

/** A refresh token that somebody presents. */
export interface Presented {
  token: string
  /** When the request came in, or the first of those that came together, by `performance.now()`. */
  since: number
}

export type Refusal = Exclude<RefreshDecision, 'rotate'> | 'unknown'

/** Exchanges a refresh token for new tokens, once; otherwise says why not, and ends the session of a reused one. */
export async function refreshSession(
  tx: Transaction<Tables>,
  settings: TokenSettings,
  presented: Presented,
): Promise<Tokens | { refusal: Refusal; sessionId?: string }> {
  const oldHash = hashOf(presented.token)
  const known = await lockPresented(tx, oldHash, performance.now() - presented.since)
  if (!known) return { refusal: 'unknown' }
  const { sessionId, now } = known
  const decision = decideRefresh(known, now)
  if (decision === 'reused') await revokeSession(tx, sessionId, now)
  if (decision !== 'rotate') return { refusal: decision, sessionId }
  const { token, hash } = newRefreshToken()
  const tokens = await tokensOf(settings, known, token, now)
  await rotate(tx, sessionId, oldHash, hash, refreshLifetime(settings, now))
  return tokens
}

const refreshLifetime = (settings: TokenSettings, now: Date): Lifetime => ({
  issuedAt: now,
  expiresAt: new Date(now.getTime() + settings.refreshTokenDays * dayMs),
})

async function tokensOf(
  settings: TokenSettings,
  claims: AccessClaims,
  refreshToken: string,
  now: Date,
): Promise<Tokens> {
  const accessToken = await signAccessToken(settings.signer(), claims, now, settings.accessTokenSeconds)
  return { accessToken, tokenType: 'Bearer', expiresIn: settings.accessTokenSeconds, refreshToken }
}
