import { isNativeError } from 'node:util/types'
import pg from 'pg'
import { sessionLimits } from './limits.ts'

/** SQLSTATE classes and codes after which this session, or the server behind it, is of no more use. */
const endedSessionStates = [
  '08', // connection exceptions, also a pooler's
  '25006', // read-only: a failover has left it where nothing can be written any more
  '26', // a prepared statement is missing, or there already: a pooler has mixed up sessions
  '42P05',
  '57P', // shutdown, crash, start, a dropped database, an idle session's end
]

/** SQLSTATE classes and codes that say "not now" and nothing about the statement itself. */
const passingStates = [
  ...endedSessionStates,
  '40', // serialisation failures and deadlocks
  '53', // insufficient resources, too many connections
  '57014', // statement timeout
  '58', // system errors outside Postgres
  '25P03', // idle in transaction too long: this process was stopped for a while
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
  /^(Connection terminated|Connection ended|timeout exceeded when trying to connect|timeout expired|Client has encountered a connection error|Client was closed|Cannot use a pool after|Query read timeout)/

const hasState = (error: pg.DatabaseError, states: readonly string[]) =>
  states.some((state) => error.code?.startsWith(state))

/** Connection exceptions of poolers that refuse a login now and every further one. */
const hopelessLogin = /unsupported startup parameter|no such (user|database)|authentication failed/

const refusedLogins = new WeakSet<object>()

/** Remembers what a login ended with, whatever it was: it says nothing about the work that wanted a connection. */
export function noteLogin(error: unknown): unknown {
  if (typeof error === 'object' && error !== null) refusedLogins.add(error)
  return error
}

/** A connection on which a lock has to stay turned out to be one that a pooler shares out among its clients. */
export class SharedConnection extends Error {
  constructor() {
    super('a pooler gives each transaction another session of the database, and what is asked for needs one of its own')
  }
}

/**
 * True when an error says that the database cannot serve just now (connection, login, shutdown, deadlock, serialisation,
 * timeout), so that the same work may succeed later; false for errors that the work itself causes.
 */
export function isUnavailable(error: unknown): boolean {
  return isPassing(error) || (isNativeError(error) && refusedLogins.has(error))
}

/** As {@link isUnavailable}, but false for logins that will go on being refused until a person has changed something. */
export function isPassing(error: unknown): boolean {
  if (error instanceof pg.DatabaseError)
    return (
      (hasState(error, passingStates) || isStalePlan(error) || isMisrouted(error)) &&
      !(refusedLogins.has(error) && hopelessLogin.test(error.message))
    )
  if (!isNativeError(error)) return false // not instanceof: Node's own errors are of another realm in some test runners
  const { code, errors } = error as NodeJS.ErrnoException & Partial<AggregateError>
  if (Array.isArray(errors)) return errors.some(isPassing) // one per address that was tried
  return (code !== undefined && networkCodes.has(code)) || connectionMessages.test(error.message)
}

/** Advice on a connection that is refused for good, or shared; undefined if waiting may help, or for other errors. */
export function adviceOn(error: unknown): string | undefined {
  if (error instanceof SharedConnection)
    return `${error.message}: set DATABASE_DIRECT_URL to the address of Postgres itself`
  if (!isNativeError(error) || !refusedLogins.has(error) || isPassing(error)) return undefined
  const what = error.message.includes('startup parameter')
    ? 'leave it out of DATABASE_URL, or name it in ignore_startup_parameters of pgbouncer'
    : 'see to host, user, password, database and TLS of DATABASE_URL and DATABASE_DIRECT_URL, and to who may log in there'
  return `the database refuses the login, and will again: ${error.message}; ${what}`
}

/** A table has got a column since the statement was prepared: a new version migrates while this one runs. */
const isStalePlan = ({ code, message }: pg.DatabaseError) =>
  code === '0A000' && message.startsWith('cached plan must not change result type')

/**
 * A partition was attached while the row was on its way to the default one; the next attempt finds the new one. An
 * error of a check constraint has a constraint name.
 */
const isMisrouted = ({ code, constraint }: pg.DatabaseError) => code === '23514' && constraint === undefined

/** Whether a statement's error means that its session must not be used any more. */
export function endsSession(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return hasState(error, endedSessionStates) || isStalePlan(error)
  return isNativeError(error) && error.message === 'Query read timeout' // the server is still at it
}

/** pg's message for a session that the server has ended: the reason only arrives if nothing was being sent. */
const endedSession = /^(Connection terminated|Client has encountered a connection error)/

/**
 * Whether a transaction that failed after `lastedMs` took longer than its session may, so that the work itself may be
 * to blame. A single time proves nothing (the process or the server was stopped); if the same work does it repeatedly,
 * the work is to blame.
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
