import { expect, test } from '@jest/globals'
import { decideRefresh, hashOf, newRefreshToken, type PresentedToken } from './refresh-token.ts'

const now = new Date('2026-01-01T12:00:00Z')
const past = new Date('2026-01-01T11:59:59Z')
const later = new Date('2026-01-01T12:00:01Z')
const open: PresentedToken = { expiresAt: later, rotatedAt: null, isOutrun: null, revokedAt: null }

test.each<[PresentedToken, string]>([
  [open, 'rotate'],
  [{ ...open, expiresAt: past }, 'expired'],
  [{ ...open, expiresAt: now }, 'expired'],
  [{ ...open, rotatedAt: past, isOutrun: false }, 'reused'],
  [{ ...open, rotatedAt: past, isOutrun: false, expiresAt: past }, 'reused'],
  [{ ...open, rotatedAt: past, isOutrun: true }, 'outrun'],
  [{ ...open, revokedAt: past }, 'revoked'],
  [{ ...open, expiresAt: past, rotatedAt: past, revokedAt: past }, 'revoked'],
])('%j: %s', (token, decision) => {
  expect(decideRefresh(token, now)).toBe(decision)
})

test('a token has 256 random bits and is known by its hash alone', () => {
  const { token, hash } = newRefreshToken()
  expect(Buffer.from(token, 'base64url')).toHaveLength(32)
  expect(hashOf(token)).toEqual(hash)
  expect(newRefreshToken().token).not.toBe(token)
})
