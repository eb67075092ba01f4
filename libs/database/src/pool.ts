import { currentTrace, isTracing, type Logger, startSpan } from '@shopstream/observability'
import type { PostgresPool, PostgresPoolClient } from 'kysely'
import pg from 'pg'
import { endsSession, noteLogin } from './errors.ts'
import { preparedName } from './prepared.ts'

/** Avro longs and Postgres bigints are both `bigint` in code, so that no amount loses a digit on the way. */
export const columnTypes = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === pg.types.builtins.INT8 ? BigInt : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
}

/** The time, in ms, after which a peer that sends nothing is asked whether it is there; it is given up 10 s later. */
export const keepAliveMs = 10_000

/**
 * Whether a client is connected to Postgres itself: then its session's `pg_backend_pid` is the number that it got at
 * the login. Poolers give one of their own there.
 */
export const isDirect = (client: pg.ClientBase, pid: unknown): boolean =>
  pid === (client as { processID?: number }).processID

export interface PoolOptions {
  url: string
  poolSize: number
  applicationName: string
  queryTimeoutMs?: number | undefined
  logger: Logger
}

/** Of a statement that belongs to a trace; loops that nobody's request began have none. No value of it is told. */
function spanOf(text: string, service: string) {
  const parent = isTracing() ? currentTrace() : undefined
  if (!parent) return undefined
  const operation = /\w+/.exec(text)?.[0].toUpperCase() ?? 'QUERY'
  const attributes = { 'db.system.name': 'postgresql', 'db.namespace': service, 'db.operation.name': operation }
  return startSpan(operation, { kind: 'client', parent, attributes })
}

/** The current era of sessions: only those that were opened since the last report of a failed server may be used. */
export interface Era {
  current: number
}

/** Connections of a pool, and who waits for one. */
export interface PoolUse {
  idle: number
  busy: number
  /** Work that waits for a connection. */
  waiting: number
}

/**
 * A bounded pool that closes a session when an answer shows that the server has failed: pg keeps a session that a
 * failover has left read-only, and orders would fail for as long as it lives. All sessions opened before close as well,
 * as each would cost another request. A session that has shown it gets no more statements, so that a rollback does not
 * wait for a server that hangs.
 */
export function openPool(
  { url, poolSize, applicationName, queryTimeoutMs = 60_000, logger }: PoolOptions,
  era: Era,
): PostgresPool & { use(): PoolUse } {
  const pool = new pg.Pool({
    connectionString: url,
    max: poolSize,
    application_name: applicationName,
    connectionTimeoutMillis: 3_000,
    // The server's own limits do not help when it is stopped or unreachable.
    query_timeout: queryTimeoutMs,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveMs,
    types: columnTypes,
  })
  const openedIn = new WeakMap<pg.PoolClient, number>()
  /** Whether one leads to Postgres itself: poolers keep no prepared statements, or mix them up. */
  const direct = new WeakMap<pg.PoolClient, boolean>()
  // Without a listener on each client, losing one that is in use ends the process.
  pool.on('connect', (client) => {
    openedIn.set(client, era.current)
    client.on('error', (error) => logger.warn({ err: error }, 'a database connection was lost'))
  })
  pool.on('error', () => {}) // the same loss again, told by the pool for an idle client

  async function meet(client: pg.PoolClient): Promise<void> {
    try {
      const { rows } = await client.query('select pg_backend_pid() as pid')
      direct.set(client, isDirect(client, rows[0]?.pid))
    } catch (error) {
      client.release(true)
      throw error
    }
  }

  function guard(client: pg.PoolClient): PostgresPoolClient {
    let over: unknown
    const query = async (text: string, values: unknown[]) => {
      if (over) throw over
      const span = spanOf(text, applicationName)
      try {
        const name = values?.length > 0 && direct.get(client) ? preparedName(text) : undefined
        const result = await client.query(name === undefined ? { text, values } : { name, text, values })
        span?.end()
        return result
      } catch (error) {
        span?.end(error)
        if (!endsSession(error)) throw error
        over = error
        // Sessions opened since then are good: ten sessions that report the same failure end one era, not ten.
        if (error instanceof pg.DatabaseError && openedIn.get(client) === era.current) era.current += 1
        throw error
      }
    }
    return {
      query: query as unknown as PostgresPoolClient['query'],
      release: (destroy) => client.release(destroy === true || over !== undefined),
    }
  }

  return {
    async connect() {
      for (;;) {
        const client = await pool.connect().catch((error) => {
          throw noteLogin(error)
        })
        if (openedIn.get(client) === era.current) {
          if (!direct.has(client)) await meet(client)
          return guard(client)
        }
        client.release(true)
      }
    },
    end: () => pool.end(),
    options: pool.options,
    use: () => ({ idle: pool.idleCount, busy: pool.totalCount - pool.idleCount, waiting: pool.waitingCount }),
  }
}
