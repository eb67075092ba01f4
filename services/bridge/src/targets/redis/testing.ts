import { accessSync, constants, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createClient } from '@redis/client'
import { type LocalProcess, startProcess } from '@shopstream/local-servers'

const places = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin']
const found = ['redis-server', 'valkey-server']
  .flatMap((name) => places.map((place) => join(place, name)))
  .find((file) => {
    try {
      accessSync(file, constants.X_OK)
      return true
    } catch {
      return false
    }
  })

export const whyNoRedis = () => (found ? undefined : 'needs redis-server or valkey-server on PATH')

interface RedisOptions {
  dir: string
  port: number
  password: string
  tls?: { ca: string; cert: string; key: string }
}

/** A Redis of its own, with the user shopstream. */
export async function startRedis({ dir, port, password, tls }: RedisOptions): Promise<LocalProcess & { url: string }> {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const files = { ...(tls && { 'ca.pem': tls.ca, 'cert.pem': tls.cert, 'key.pem': tls.key }) }
  for (const [file, text] of Object.entries(files)) writeFileSync(join(dir, file), text, { mode: 0o600 })
  const lines = [
    'bind 127.0.0.1',
    `port ${tls ? 0 : port}`,
    ...(tls ? [`tls-port ${port}`, 'tls-cert-file cert.pem', 'tls-key-file key.pem', 'tls-auth-clients no'] : []),
    // Off, but with rights: Redis loads transactions of its file in its name, and drops what that may not do.
    'user default off ~* &* +@all',
    `user shopstream on >${password} ~* &* +@all`,
    'appendonly yes',
    'save ""',
  ]
  writeFileSync(join(dir, 'redis.conf'), lines.join('\n'), { mode: 0o600 })
  const running = await startProcess({
    name: 'Redis',
    command: found as string,
    args: ['redis.conf'],
    cwd: dir,
    port,
    logFile: join(dir, 'redis.log'),
    pidFile: join(dir, 'redis.pid'),
    ready: /Ready to accept connections/,
    readyLimitMs: 60_000,
    stopSignal: 'SIGTERM',
    stopLimitMs: 3_000,
  })
  const url = `${tls ? 'rediss' : 'redis'}://shopstream:${password}@127.0.0.1:${port}`
  return Object.defineProperties(running, { url: { value: url } }) as LocalProcess & { url: string }
}

/** A client for what a test asks on its own account. */
export async function clientOf(url: string) {
  const client = createClient({ url, RESP: 2, socket: { reconnectStrategy: 50 } })
  client.on('error', () => {})
  await client.connect()
  return client
}
