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
  /** It was exchanged while this request was under way. */
  isOutrun: boolean | null
  revokedAt: Date | null
}

export type RefreshDecision = 'rotate' | 'revoked' | 'outrun' | 'reused' | 'expired'

/**
 * Whether a presented token may be exchanged for a new one; everything but `rotate` says why not. Of several requests at
 * once one wins, and the others are `outrun`. A token that comes when it had been exchanged already is `reused`: somebody
 * has a copy of it, nobody knows who, and so the session ends for both (RFC 9700, section 4.14.2).
 */
export function decideRefresh(token: PresentedToken, now: Date): RefreshDecision {
  if (token.revokedAt) return 'revoked'
  if (token.rotatedAt) return token.isOutrun ? 'outrun' : 'reused'
  return token.expiresAt <= now ? 'expired' : 'rotate'
}
