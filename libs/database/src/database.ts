import type { Logger } from '@shopstream/observability'
import { Kysely, type Transaction as KyselyTransaction, PostgresDialect } from 'kysely'
import pg from 'pg'

/** An open transaction; a required parameter of everything that writes. `T` is the service's table types. */
// biome-ignore lint/suspicious/noExplicitAny: kysely's table types are invariant, so libraries take a transaction over any tables
export type Transaction<T = any> = KyselyTransaction<T>

/** A service's own database: a bounded pool, transactions, and signals that are delivered after commit. */
export interface Database<T> {
  /** For reads outside a transaction. */
  readonly query: Kysely<T>
  /**
   * Runs `work` in one READ COMMITTED transaction and delivers its signals after the commit.
   * Throws what `work` throws, after rolling back; a failed commit throws too, and then its outcome is unknown.
   */
  transaction<R>(work: (tx: Transaction<T>) => Promise<R>): Promise<R>
  /** Calls `listener` after each commit of this process that signalled `name`; returns the function that stops it. */
  on(name: string, listener: (payload: unknown) => void): () => void
  /** Waits for what is running and closes the pool. */
  close(): Promise<void>
}

export interface DatabaseOptions {
  url: string
  /** Connections at the most. */
  poolSize: number
  /** Shown in `pg_stat_activity`. */
  applicationName: string
  logger: Logger
}

interface Signal {
  name: string
  payload: unknown
}

const signals = new WeakMap<object, Signal[]>()

/** Limits of every session, in ms. A stopped process must not hold locks, and no statement may run for ever. */
export const sessionLimits = {
  statement_timeout: 15_000,
  lock_timeout: 5_000,
  idle_in_transaction_session_timeout: 5_000,
}

/** Avro longs and Postgres bigints are both `bigint` in code, so that no amount loses a digit on the way. */
export const columnTypes = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === pg.types.builtins.INT8 ? BigInt : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
}

/** Opens the pool of a service's database. Connects when first used, so it never throws for an absent server. */
export function createDatabase<T>({ url, poolSize, applicationName, logger }: DatabaseOptions): Database<T> {
  const pool = new pg.Pool({
    connectionString: url,
    max: poolSize,
    application_name: applicationName,
    connectionTimeoutMillis: 3_000,
    // The server's own limits do not help when it is stopped or unreachable.
    query_timeout: 60_000,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    types: columnTypes,
    ...sessionLimits,
  })
  // Without a listener on each client, losing one that is in use ends the process.
  pool.on('connect', (client) =>
    client.on('error', (error) => logger.warn({ err: error }, 'a database connection was lost')),
  )
  pool.on('error', () => {}) // the same loss again, told by the pool for an idle client
  const query = new Kysely<T>({ dialect: new PostgresDialect({ pool }) })
  const listeners = new Map<string, Set<(payload: unknown) => void>>()

  return {
    query,
    async transaction(work) {
      const pending: Signal[] = []
      const result = await query.transaction().execute((tx) => {
        signals.set(tx, pending)
        return work(tx)
      })
      for (const { name, payload } of pending) for (const listener of listeners.get(name) ?? []) listener(payload)
      return result
    },
    on(name, listener) {
      const named = listeners.get(name) ?? new Set()
      listeners.set(name, named.add(listener))
      return () => named.delete(listener)
    },
    close: () => query.destroy(),
  }
}

/**
 * Tells listeners in this process about something once `tx` has committed; nothing is told when it rolls back.
 * It only saves waiting for the next poll: whatever must not be missed is read from the database.
 * Throws when `tx` was not opened by {@link Database.transaction}.
 */
export function signal(tx: Transaction, name: string, payload?: unknown): void {
  const pending = signals.get(tx)
  if (!pending) throw new Error(`signal ${name}: the transaction was not opened by Database.transaction`)
  pending.push({ name, payload })
}
