import type { Database } from '@shopstream/database'
import { networkOf } from '@shopstream/http'
import type { Logger } from '@shopstream/observability'
import { normaliseEmail } from '../accounts/account.ts'
import type { Guard, Passwords } from '../accounts/passwords.ts'
import { findCredentials } from '../accounts/queries.ts'
import { errors } from '../errors.ts'
import type { Limits } from '../limits/limit.ts'
import { secondsUntil, take, type Use } from '../limits/limit.ts'
import type { Tables } from '../tables.ts'
import { revokeSession } from './queries.ts'
import { openSession, refreshSession, type TokenSettings, type Tokens } from './sessions.ts'

export interface SessionDeps {
  database: Database<Tables>
  passwords: Passwords
  tokens: TokenSettings
  limits: Limits
}

/**
 * Opens a session. A wrong password and an unknown address take the same steps and are limited in the same way, so that
 * neither the answer nor its time tells which addresses have accounts. Throws `invalid-credentials`, `too-many-attempts`
 * or `busy`.
 */
export async function login(
  { database, passwords, tokens, limits }: SessionDeps,
  { email, password }: { email: string; password: string },
  { clientAddress, signal }: { clientAddress: string; signal: AbortSignal },
): Promise<Tokens> {
  const network = networkOf(clientAddress)
  const user = await findCredentials(database.query, email, network)
  // Strangers share one allowance for an account. An owner's own network has another one, under another limit: the
  // first is counted by the address that a client gives, which may be any text, even the key of the second.
  const ofAccount = user?.isKnownThere
    ? { limit: limits.failuresOfOwner, by: `${user.id} ${network}` }
    : { limit: limits.failuresOfAccount, by: normaliseEmail(email) }
  const guard = guardOf(database, [ofAccount, { limit: limits.failuresOfClient, by: network }])
  const isRight = await passwords.verify(user?.passwordHash, password, { signal, guard })
  const opened = user && isRight && (await database.transaction((tx) => openSession(tx, tokens, { ...user, network })))
  if (!opened) throw errors['invalid-credentials']()
  return opened
}

/** Only failures count: a right password costs one look, and any number of them may come at once. */
function guardOf({ query }: Database<Tables>, uses: readonly Use[]): Guard {
  return {
    async before() {
      const seconds = await secondsUntil(query, uses)
      if (seconds > 0) throw errors['too-many-attempts']().retryIn(seconds)
    },
    async failed() {
      for (const use of uses) await take(query, use)
    },
  }
}

/** Exchanges a refresh token. Throws `invalid-refresh-token`, whatever is wrong with it. */
export async function refresh({ database, tokens }: SessionDeps, token: string, log: Logger): Promise<Tokens> {
  const outcome = await together(token, (since) =>
    database.transaction((tx) => refreshSession(tx, tokens, { token, since })),
  )
  if (!('refusal' in outcome)) return outcome
  const { refusal, sessionId } = outcome
  if (refusal === 'reused') log.warn({ sessionId }, 'a spent refresh token was used again: its session has ended')
  throw errors['invalid-refresh-token']()
}

/** Longer than a burst takes, in ms. A burst that goes on longer, to hide a reuse, is found out after this time. */
const burstMs = 1_000

/** Refreshes that this process has in hand, by token. */
const inHand = new Map<string, { since: number; requests: number }>()

/**
 * Overlapping requests with one token count as arriving together, when the first of them came. Of 30 that a client sent
 * at once through the gateway, the last came some 30 ms later, after the first had its answer: each on its own would be
 * a reuse.
 */
async function together<R>(token: string, work: (since: number) => Promise<R>): Promise<R> {
  const group = inHand.get(token) ?? { since: performance.now(), requests: 0 }
  inHand.set(token, group)
  group.requests++
  try {
    return await work(Math.max(group.since, performance.now() - burstMs))
  } finally {
    if (--group.requests === 0) inHand.delete(token)
  }
}

/** Ends a session: its refresh tokens are refused from now on; its access tokens expire by themselves. */
export async function logout({ database }: SessionDeps, sessionId: string): Promise<void> {
  await database.transaction((tx) => revokeSession(tx, sessionId, new Date()))
}
