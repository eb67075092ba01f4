import { isNativeError } from 'node:util/types'
import pg from 'pg'
import { sessionLimits } from './database.ts'

/** SQLSTATE classes and codes that say "not now" and nothing about the statement itself. */
const unavailableStates = [
  '08', // connection exceptions
  '40', // serialisation failures and deadlocks
  '53', // insufficient resources
  '57', // operator intervention, shutdown, statement timeout
  '58', // system errors outside Postgres
  '25P03', // idle in transaction too long: this process was stopped for a while
  '25006', // read-only: a failover is under way
  '55P03', // lock timeout
]

const networkCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT', // the server's unix socket is not there
])

/** What pg says in plain errors, without a code, when a connection goes away or cannot be had. */
const connectionMessages =
  /^(Connection terminated|Connection ended|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed|Cannot use a pool after|Query read timeout)/

/**
 * True when an error says that the database cannot serve just now (connection, shutdown, deadlock, serialisation,
 * timeout), so that the same work may succeed later; false for errors that the work itself causes.
 */
export function isUnavailable(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return unavailableStates.some((state) => error.code?.startsWith(state))
  if (!isNativeError(error)) return false // not instanceof: Node's own errors are of another realm in some test runners
  const { code, errors } = error as NodeJS.ErrnoException & Partial<AggregateError>
  if (Array.isArray(errors)) return errors.some(isUnavailable) // one per address that was tried
  return (code !== undefined && networkCodes.has(code)) || connectionMessages.test(error.message)
}

/** How pg tells of a session that the server has ended: the reason only arrives where nothing was being sent just then. */
const endedSession = /^(Connection terminated|Client has encountered a connection error)/

/**
 * Whether a transaction that failed after `lastedMs` took longer than its session may, so that the work itself may be to
 * blame. Once it tells nothing (the process or the server was stopped); again and again with the same work it is the work.
 */
export function tookTooLong(error: unknown, lastedMs: number): boolean {
  if (error instanceof pg.DatabaseError) return error.code === '25P03' || error.code === '57014'
  const lost = isNativeError(error) && (endedSession.test(error.message) || 'code' in error)
  return lost && lastedMs > sessionLimits.idle_in_transaction_session_timeout
}

/** True when a statement broke a unique constraint (the named one, if a name is given). */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  return (
    error instanceof pg.DatabaseError &&
    error.code === '23505' &&
    (constraint === undefined || error.constraint === constraint)
  )
}
