import type { Transaction } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import type { Tables } from '../tables.ts'
import { type AccessClaims, type Signer, signAccessToken } from './access-token.ts'
import { insertRefreshToken, insertSession, type Lifetime, lockPresented, rotate } from './queries.ts'
import { decideRefresh, hashOf, newRefreshToken, type RefreshDecision } from './refresh-token.ts'

/** How long tokens live, and what signs them. */
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

/** Opens a session for somebody whose password was right. */
export async function openSession(
  tx: Transaction<Tables>,
  settings: TokenSettings,
  user: { id: string; roles: string[] },
): Promise<Tokens> {
  const now = new Date()
  const life = refreshLifetime(settings, now)
  const sessionId = newEventId()
  const { token, hash } = newRefreshToken()
  await insertSession(tx, sessionId, user.id, life)
  await insertRefreshToken(tx, hash, sessionId, life)
  return tokensOf(settings, { userId: user.id, roles: user.roles, sessionId }, token, now)
}

/** Exchanges a refresh token for new tokens, once; otherwise says why not. */
export async function refreshSession(
  tx: Transaction<Tables>,
  settings: TokenSettings,
  presented: string,
): Promise<Tokens | Exclude<RefreshDecision, 'rotate'>> {
  const oldHash = hashOf(presented)
  const known = await lockPresented(tx, oldHash)
  const now = new Date() // after the lock: whoever waited for it decides by the time it got it
  const decision = decideRefresh(known, now)
  if (decision !== 'rotate' || !known) return decision === 'rotate' ? 'unknown' : decision
  const { token, hash } = newRefreshToken()
  await rotate(tx, known.sessionId, oldHash, hash, refreshLifetime(settings, now))
  return tokensOf(settings, known, token, now)
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
