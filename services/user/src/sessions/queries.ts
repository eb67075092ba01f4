import { sql, type Transaction } from '@shopstream/database'
import type { Tables } from '../tables.ts'
import type { PresentedToken } from './refresh-token.ts'

/** The times of one refresh token. */
export interface Lifetime {
  issuedAt: Date
  expiresAt: Date
}

export async function insertSession(
  tx: Transaction<Tables>,
  session: { id: string; userId: string; network: string },
  life: Lifetime,
): Promise<void> {
  const { id, userId, network } = session
  await tx
    .insertInto('session')
    .values({ id, user_id: userId, network, created_at: life.issuedAt, expires_at: life.expiresAt, revoked_at: null })
    .execute()
}

export async function insertRefreshToken(
  tx: Transaction<Tables>,
  hash: Buffer,
  sessionId: string,
  life: Lifetime,
): Promise<void> {
  await tx
    .insertInto('refresh_token')
    .values({ hash, session_id: sessionId, issued_at: life.issuedAt, expires_at: life.expiresAt, rotated_at: null })
    .execute()
}

export type LockedToken = PresentedToken & { sessionId: string; userId: string; roles: string[]; now: Date }

/**
 * Locks a presented token and its session until the transaction ends: of two refreshes one waits and loses, and gets
 * the time after its wait.
 * @param waitedMs ms since the request came in; compared with the rotation by the database's clock, counted from the
 * begin of the transaction, which was answered before: a busy server's delay makes nobody late.
 */
export async function lockPresented(
  tx: Transaction<Tables>,
  hash: Buffer,
  waitedMs: number,
): Promise<LockedToken | undefined> {
  const { rows } = await sql<LockedToken>`
    select t.session_id "sessionId", t.expires_at "expiresAt", t.rotated_at "rotatedAt", s.revoked_at "revokedAt",
           t.rotated_at >= now() - make_interval(secs => ${waitedMs / 1000}) "isOutrun",
           a.id "userId", a.roles, clock_timestamp() "now"
    from refresh_token t join session s on s.id = t.session_id join account a on a.id = s.user_id
    where t.hash = ${hash}
    for update of s, t
  `.execute(tx)
  return rows[0]
}

/** Puts a new token in the place of a locked one and lets the session live as long as the new one does. */
export async function rotate(
  tx: Transaction<Tables>,
  sessionId: string,
  oldHash: Buffer,
  newHash: Buffer,
  life: Lifetime,
): Promise<void> {
  await insertRefreshToken(tx, newHash, sessionId, life)
  await tx.updateTable('session').set({ expires_at: life.expiresAt }).where('id', '=', sessionId).execute()
  // Last, and by the database's clock: what came in until now was sent before anybody could have the new token.
  await sql`update refresh_token set rotated_at = clock_timestamp() where hash = ${oldHash}`.execute(tx)
}

/** Revokes a session, if it is one and still open. */
export async function revokeSession(tx: Transaction<Tables>, id: string, now: Date): Promise<void> {
  await tx
    .updateTable('session')
    .set({ revoked_at: now })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .execute()
}
