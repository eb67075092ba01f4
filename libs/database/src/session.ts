import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { noteLogin, SharedConnection } from './errors.ts'
import { columnTypes, isDirect, keepAliveMs } from './pool.ts'
import { preparedName } from './prepared.ts'

/** One connection of its own, outside the pool: for session locks that must end with their holder. */
export interface Session {
  /** Runs one statement; throws when the connection is gone. */
  query<Row>(text: string, values?: unknown[]): Promise<Row[]>
  /**
   * Throws, and aborts `ended`, when this is a session no more that can hold a lock for writing: a failover has left it
   * read-only, or a pooler has moved it.
   */
  check(): Promise<void>
  /** Calls `listener` for each NOTIFY on `channel`, until the session ends. */
  listen(channel: string, listener: () => void): Promise<void>
  /** Aborted once the connection is gone, for whatever reason. */
  readonly ended: AbortSignal
  close(): Promise<void>
}

/** A setting that identifies a session; a pooler that shares sessions shows it to other clients, or loses it. */
const markSetting = 'shopstream.session'

/**
 * Opens a {@link Session}. Throws when the server cannot be reached, and {@link SharedConnection} when a pooler is in
 * between that gives each transaction another session: locks would be held twice, or by nobody.
 * @param settings session settings by name, such as `idle_session_timeout`; times in ms.
 * @param queryTimeoutMs how long a statement may take in all, as this process sees it; 0 for as long as it takes.
 */
export async function openSession(
  url: string,
  applicationName: string,
  settings: Record<string, number | string>,
  queryTimeoutMs = 15_000,
): Promise<Session> {
  const client = await login(url, applicationName, queryTimeoutMs)
  const ended = new AbortController()
  client.on('error', (error) => ended.abort(error))
  client.on('end', () => ended.abort(new Error('Connection ended')))
  const mark = randomUUID()
  let direct = false
  const entries = Object.entries({ ...settings, [markSetting]: mark })
  try {
    const { rows } = await client.query(
      `select pg_backend_pid() as pid, ${entries.map((_, i) => `set_config($${2 * i + 1}, $${2 * i + 2}, false)`).join(', ')}`,
      entries.flatMap(([name, value]) => [name, String(value)]),
    )
    direct = isDirect(client, rows[0]?.pid)
    // A pooler may be one that keeps sessions apart.
    if (!direct && (await isShared(client, mark, () => login(url, applicationName, queryTimeoutMs))))
      throw new SharedConnection()
  } catch (error) {
    void client.end().catch(() => undefined)
    throw error
  }
  return {
    async query(text, values) {
      if (!values) return (await client.query(text)).rows
      const name = direct ? preparedName(text) : undefined
      return (await client.query({ text, values, ...(name && { name }) })).rows
    },
    async listen(channel, listener) {
      client.on('notification', (notification) => notification.channel === channel && listener())
      await client.query(`listen ${client.escapeIdentifier(channel)}`)
    },
    async check() {
      const { rows } = await client.query(
        `select current_setting('${markSetting}', true) is not distinct from $1 as own,
           current_setting('transaction_read_only')::boolean as "readOnly"`,
        [mark],
      )
      const problem = !rows[0]?.own
        ? new SharedConnection()
        : rows[0].readOnly && new Error('this session takes no writes: a failover has left it behind')
      if (!problem) return
      ended.abort(problem)
      throw problem
    },
    ended: ended.signal,
    close: () => client.end(),
  }
}

async function login(url: string, applicationName: string, queryTimeoutMs: number): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    application_name: applicationName,
    connectionTimeoutMillis: 3_000,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveMs,
    types: columnTypes,
  })
  client.on('error', () => {}) // or an error between two statements would end the process
  try {
    await client.connect()
    return client
  } catch (error) {
    void client.end().catch(() => undefined)
    throw noteLogin(error)
  }
}

/**
 * Whether a second client gets the first one's session, or the first one a different session, while the second is in a
 * transaction. A busy pooler may hide it once, so it is asked three times; later `check` goes on asking.
 */
async function isShared(first: pg.Client, mark: string, connect: () => Promise<pg.Client>): Promise<boolean> {
  const markOf = async (client: pg.Client) =>
    (await client.query(`select current_setting('${markSetting}', true) as mark`)).rows[0]?.mark
  const second = await connect()
  try {
    for (let times = 0; times < 3; times += 1) {
      await second.query('begin')
      if ((await markOf(second)) === mark || (await markOf(first)) !== mark) return true
      await second.query('rollback')
    }
    return false
  } finally {
    void second.end().catch(() => undefined)
  }
}
