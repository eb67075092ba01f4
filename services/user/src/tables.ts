/** The tables of the user database, as migrations/ makes them. */
export interface Tables {
  account: Account
  session: Session
  refresh_token: RefreshToken
  signing_key_pair: SigningKeyPair
  allowance: Allowance
}

export interface Account {
  id: string
  /** Normalised by `normaliseEmail`. */
  email: string
  display_name: string
  password_hash: string
  roles: string[]
  /** Made by the settings of this service, which give and take its role `staff`. */
  seeded: boolean
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
  /** Where the login came from, see `networkOf`. */
  network: string | null
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

/** What was used of a limit, see limits/limit.ts. */
export interface Allowance {
  key: Buffer
  whole_at: Date
}
