import { type CryptoKey, SignJWT } from 'jose'

export interface AccessClaims {
  userId: string
  roles: readonly string[]
  /** The refresh family, claim `sid`. */
  sessionId: string
}

export interface Signer {
  keyId: string
  privateKey: CryptoKey
}

/** Signs a JWT (EdDSA) that lives `seconds`; the claims are those that `@shopstream/http` verifies in every service. */
export function signAccessToken(signer: Signer, claims: AccessClaims, now: Date, seconds: number): Promise<string> {
  const issuedAt = Math.floor(now.getTime() / 1000)
  return new SignJWT({ roles: claims.roles, sid: claims.sessionId })
    .setProtectedHeader({ alg: 'EdDSA', typ: 'JWT', kid: signer.keyId })
    .setIssuer('shopstream')
    .setAudience('shopstream')
    .setSubject(claims.userId)
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + seconds)
    .sign(signer.privateKey)
}
