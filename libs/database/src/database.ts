import type { Logger } from '@shopstream/observability'
import { Kysely, type Transaction as KyselyTransaction, PostgresDialect, sql } from 'kysely'
import { openPool, type PoolUse } from './pool.ts'
import { openSession, type Session } from './session.ts'

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
  /**
   * A connection of its own, past any pooler: for what has to stay on one, such as a session lock.
   * As {@link openSession}, which says what the parameters are and what it throws.
   */
  session(applicationName: string, settings: Record<string, number | string>, queryTimeoutMs?: number): Promise<Session>
  /** Throws in words when the server cannot be asked, or takes no writes. */
  check(): Promise<void>
  /** No session that was opened so far is used again. */
  renew(): void
  /**
   * The same database, signals included, by `poolSize` connections of its own, which close with this one. `name` says in
   * metrics who uses them.
   */
  withPool(name: string, poolSize: number): Database<T>
  /** How the connections of each pool are used now, by its name. */
  pools(): Map<string, PoolUse>
  /** Waits for what is running and closes the pool. */
  close(): Promise<void>
}

export interface DatabaseOptions {
  /** May lead through a pooler, also one that gives each transaction another session. */
  url: string
  /** Leads to Postgres itself, where `url` does not. */
  directUrl?: string | undefined
  /** Connections at the most, of the pool `requests`. */
  poolSize: number
  /** Shown in `pg_stat_activity`. */
  applicationName: string
  /** How long a statement may take as this process sees it, in ms; default 60,000. Migrations take as long as they take. */
  queryTimeoutMs?: number
  logger: Logger
}

interface Signal {
  name: string
  payload: unknown
}

const signals = new WeakMap<object, Signal[]>()

/** Opens the pool of a service's database. Connects when first used, so it never throws for an absent server. */
export function createDatabase<T>(options: DatabaseOptions): Database<T> {
  const listeners = new Map<string, Set<(payload: unknown) => void>>()
  const era = { current: 0 }
  const pools = new Map<string, { query: Kysely<T>; use: () => PoolUse }>()

  function withPool(name: string, poolSize: number): Database<T> {
    if (pools.has(name)) throw new Error(`there is a pool ${name} already`)
    const pool = openPool({ ...options, poolSize }, era)
    const query = new Kysely<T>({ dialect: new PostgresDialect({ pool }) })
    pools.set(name, { query, use: pool.use })
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
      session: (applicationName, settings, queryTimeoutMs) =>
        openSession(options.directUrl ?? options.url, applicationName, settings, queryTimeoutMs),
      async check() {
        const { rows } = await sql<{ readOnly: boolean }>`
          select current_setting('transaction_read_only')::boolean as "readOnly"`.execute(query)
        if (!rows[0]?.readOnly) return
        renew()
        throw new Error('the database takes no writes: it is a standby, or was set to read only')
      },
      renew,
      withPool,
      pools: () => new Map([...pools].map(([one, { use }]) => [one, use()])),
      close: () => query.destroy(),
    }
  }

  function renew(): void {
    era.current += 1
  }

  return {
    ...withPool('requests', options.poolSize),
    async close() {
      await Promise.all([...pools.values()].map(({ query }) => query.destroy()))
    },
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
