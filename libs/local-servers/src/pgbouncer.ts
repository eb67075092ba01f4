import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from './ports.ts'
import { type LocalProcess, startProcess } from './process.ts'

export interface PgBouncerOptions {
  /** Holds its settings and its log; made when missing. Its user has to be able to reach it. */
  dir: string
  /** A role's URL at Postgres itself. */
  url: string
  /** Of the pools: whether a session is a client's for a transaction, or for as long as it stays. */
  mode: 'transaction' | 'session'
  /** Sessions at Postgres for each role and database. */
  poolSize?: number
}

export interface PgBouncer extends LocalProcess {
  /** The role's URL, through the pooler. */
  readonly url: string
}

/** Where pgbouncer is (a package of that name in Debian and Homebrew), undefined on a machine without it. */
export const pgBouncerBinary = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer', '/opt/homebrew/bin/pgbouncer'].find(
  existsSync,
)

/** Starts a pgbouncer with the settings that it comes with, but for the mode. Throws where there is none. */
export async function startPgBouncer({ dir, url, mode, poolSize = 5 }: PgBouncerOptions): Promise<PgBouncer> {
  if (!pgBouncerBinary) throw new Error('pgbouncer is not installed')
  mkdirSync(dir, { recursive: true })
  const { username, password, hostname, port: target } = new URL(url)
  const port = await freePort()
  const file = (name: string) => join(dir, name)
  writeFileSync(file('users.txt'), `"${decodeURIComponent(username)}" "${decodeURIComponent(password)}"\n`)
  const settings = {
    listen_addr: '127.0.0.1',
    listen_port: port,
    unix_socket_dir: '',
    auth_type: 'scram-sha-256',
    auth_file: file('users.txt'),
    pool_mode: mode,
    default_pool_size: poolSize,
    max_client_conn: 200,
    ...(process.getuid?.() === 0 && { user: 'postgres' }),
  }
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`)
  writeFileSync(
    file('pgbouncer.ini'),
    `[databases]\n* = host=${hostname} port=${target}\n[pgbouncer]\n${lines.join('\n')}\n`,
  )
  const running = await startProcess({
    name: 'pgbouncer',
    command: pgBouncerBinary,
    args: [file('pgbouncer.ini')],
    port,
    logFile: file('pgbouncer.log'),
    pidFile: file('pgbouncer.pid'),
    ready: /process up/,
    readyLimitMs: 10_000,
    stopSignal: 'SIGTERM',
    stopLimitMs: 2_000,
  })
  const through = new URL(url)
  through.host = `127.0.0.1:${port}`
  return Object.defineProperties(running, { url: { value: through.href, enumerable: true } }) as PgBouncer
}
