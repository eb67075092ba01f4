import { createHash, randomBytes } from 'node:crypto'

/** A refresh token as its holder gets it, and what is kept of it. */
export interface NewRefreshToken {
  /** 256 random bits, base64url. */
  token: string
  hash: Buffer
}

export function newRefreshToken(): NewRefreshToken {
  const token = randomBytes(32).toString('base64url')
  return { token, hash: hashOf(token) }
}

/** What identifies a token in the database. SHA-256 is enough for 256 random bits: there is nothing to guess. */
export function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/** What is known of a presented refresh token and its session. */
export interface PresentedToken {
  expiresAt: Date
  rotatedAt: Date | null
  revokedAt: Date | null
}

export type RefreshDecision = 'rotate' | 'unknown' | 'revoked' | 'rotated' | 'expired'

/** Whether a presented token may be exchanged for a new one; everything but `rotate` says why not. */
export function decideRefresh(token: PresentedToken | undefined, now: Date): RefreshDecision {
  if (!token) return 'unknown'
  if (token.revokedAt) return 'revoked'
  if (token.rotatedAt) return 'rotated'
  return token.expiresAt <= now ? 'expired' : 'rotate'
}
