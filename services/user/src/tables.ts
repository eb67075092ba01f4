/** The tables of the user database, as migrations/ makes them. */
export interface Tables {
  account: Account
  session: Session
  refresh_token: RefreshToken
  signing_key_pair: SigningKeyPair
}

export interface Account {
  id: string
  /** Normalised by `normaliseEmail`. */
  email: string
  display_name: string
  password_hash: string
  roles: string[]
  /** Events of this user so far. */
  sequence: bigint
  created_at: Date
}

/** A family of refresh tokens, made by one login. */
export interface Session {
  id: string
  user_id: string
  created_at: Date
  expires_at: Date
  revoked_at: Date | null
}

export interface RefreshToken {
  hash: Buffer
  session_id: string
  issued_at: Date
  expires_at: Date
  rotated_at: Date | null
}

export interface SigningKeyPair {
  id: string
  public_jwk: string
  sealed_jwk: Buffer
  published_at: Date
  active_from: Date
  expires_at: Date
  retired_at: Date | null
  sequence: bigint
}
