import type { Database } from '@shopstream/database'
import { normaliseEmail } from '../accounts/account.ts'
import type { Passwords } from '../accounts/passwords.ts'
import { findCredentials } from '../accounts/queries.ts'
import { errors } from '../errors.ts'
import type { Tables } from '../tables.ts'
import { revokeSession } from './queries.ts'
import { openSession, refreshSession, type TokenSettings, type Tokens } from './sessions.ts'

export interface SessionDeps {
  database: Database<Tables>
  passwords: Passwords
  tokens: TokenSettings
}

/**
 * Opens a session. A wrong password and an unknown address take the same steps, so that neither the answer nor its time
 * tells which addresses have accounts. Throws `invalid-credentials` or `busy`.
 */
export async function login(
  { database, passwords, tokens }: SessionDeps,
  input: { email: string; password: string },
  signal: AbortSignal,
): Promise<Tokens> {
  const user = await findCredentials(database.query, normaliseEmail(input.email))
  const isRight = await passwords.verify(user?.passwordHash, input.password, signal)
  if (!user || !isRight) throw errors['invalid-credentials']()
  return database.transaction((tx) => openSession(tx, tokens, user))
}

/** Exchanges a refresh token. Throws `invalid-refresh-token`, whatever is wrong with it. */
export async function refresh({ database, tokens }: SessionDeps, presented: string): Promise<Tokens> {
  const outcome = await database.transaction((tx) => refreshSession(tx, tokens, presented))
  if (typeof outcome === 'string') throw errors['invalid-refresh-token']()
  return outcome
}

/** Ends a session: its refresh tokens are refused from now on; its access tokens expire by themselves. */
export async function logout({ database }: SessionDeps, sessionId: string): Promise<void> {
  await database.transaction((tx) => revokeSession(tx, sessionId, new Date()))
}
