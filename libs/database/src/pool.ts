import type { Logger } from '@shopstream/observability'
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

/** Whether a client leads to Postgres itself, by what its session says of `pg_backend_pid`: poolers give a number of their own at the login. */
export const isDirect = (client: pg.ClientBase, pid: unknown): boolean =>
  pid === (client as { processID?: number }).processID

export interface PoolOptions {
  url: string
  poolSize: number
  applicationName: string
  queryTimeoutMs?: number | undefined
  logger: Logger
}

/** Which sessions may be used: those that were opened since the last one told that the server is not what it was. */
export interface Era {
  current: number
}

/**
 * A bounded pool whose sessions are thrown away when what they answered says so: pg keeps one that a failover has left
 * read-only, and orders fail for as long as it lives. With it go all that were opened before, as each would cost another
 * request; on one that has told, nothing more is said, so that a rollback does not wait for a server that hangs.
 */
export function openPool(
  { url, poolSize, applicationName, queryTimeoutMs = 60_000, logger }: PoolOptions,
  era: Era,
): PostgresPool {
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
      try {
        const name = values?.length > 0 && direct.get(client) ? preparedName(text) : undefined
        return await client.query(name === undefined ? { text, values } : { name, text, values })
      } catch (error) {
        if (!endsSession(error)) throw error
        over = error
        // Those that were opened since are good: ten sessions that tell the same end one era, not ten.
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
  }
}
