import pg from 'pg'
import { noteLogin } from './errors.ts'
import { columnTypes, keepAliveMs } from './pool.ts'

/** One connection of its own, outside the pool: for session locks that must end with their holder. */
export interface Session {
  /** Runs one statement; throws when the connection is gone. */
  query<Row>(text: string, values?: unknown[]): Promise<Row[]>
  /** Throws, and aborts `ended`, when a failover has left it read-only: a lock that it holds is none among those that write. */
  check(): Promise<void>
  /** Aborted once the connection is gone, for whatever reason. */
  readonly ended: AbortSignal
  close(): Promise<void>
}

/**
 * Opens a {@link Session}. Throws when the server cannot be reached.
 * @param settings session settings by name, such as `idle_session_timeout`; times in ms.
 * @param queryTimeoutMs how long a statement may take in all, as this process sees it; 0 for as long as it takes.
 */
export async function openSession(
  url: string,
  applicationName: string,
  settings: Record<string, number | string>,
  queryTimeoutMs = 15_000,
): Promise<Session> {
  const client = new pg.Client({
    connectionString: url,
    application_name: applicationName,
    connectionTimeoutMillis: 3_000,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveMs,
    types: columnTypes,
  })
  const ended = new AbortController()
  client.on('error', (error) => ended.abort(error))
  client.on('end', () => ended.abort(new Error('Connection ended')))
  const names = Object.keys(settings)
  try {
    await client.connect().catch((error) => {
      throw noteLogin(error)
    })
    await client.query(
      `select ${names.map((_, i) => `set_config($${2 * i + 1}, $${2 * i + 2}, false)`).join(', ')}`,
      names.flatMap((name) => [name, String(settings[name])]),
    )
  } catch (error) {
    void client.end().catch(() => undefined)
    throw error
  }
  return {
    query: async (text, values) => (await client.query(text, values)).rows,
    async check() {
      const { rows } = await client.query(`select current_setting('transaction_read_only')::boolean as "readOnly"`)
      if (!rows[0]?.readOnly) return
      const problem = new Error('this session takes no writes: a failover has left it behind')
      ended.abort(problem)
      throw problem
    },
    ended: ended.signal,
    close: () => client.end(),
  }
}
