import { join } from 'node:path'
import {
  type BrokerOptions,
  brokerUrl,
  brokerUser,
  findProgram,
  type LocalBroker,
  withUrl,
  writeSettings,
} from './broker.ts'
import { startProcess } from './process.ts'
import { stopLeftover } from './process-identity.ts'

const findRedis = () => findProgram('redis-server', 'valkey-server')
const needed = 'needs redis-server or valkey-server on PATH: apt-get install redis-server'

/** What this machine lacks for {@link startRedis}, in words; undefined: nothing. */
export const whyNoRedis = () => (findRedis() ? undefined : needed)

/**
 * Starts a Redis, or the Valkey that this machine has instead, and returns when it takes requests: about 0.1 s. What it has
 * said to be done is on its disk.
 */
export async function startRedis(options: BrokerOptions): Promise<LocalBroker> {
  const { dir, port, password, tls, ...rest } = options
  const command = findRedis()
  if (!command) throw new Error(`Redis ${needed}`)
  await stopLeftoverRedis(dir)
  writeSettings(options, 'redis.conf', [
    'bind 127.0.0.1',
    `port ${tls ? 0 : port}`,
    tls && `tls-port ${port}`,
    tls && 'tls-ca-cert-file ca.pem\ntls-cert-file cert.pem\ntls-key-file key.pem\ntls-auth-clients optional',
    'user default off ~* &* +@all', // it loads transactions of its file in that one's name, and drops what it may not do
    `user ${brokerUser} on >${password} ~* &* +@all`,
    'appendonly yes',
    'appendfsync always', // each second: what it confirms while it syncs is in its memory alone, and a kill -9 loses it
    'save ""',
  ])
  const running = await startProcess({
    ...rest,
    name: 'Redis',
    command,
    args: ['redis.conf'],
    cwd: dir, // where its data go
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
    port,
    logFile: join(dir, 'redis.log'),
    pidFile: join(dir, 'redis.pid'),
    ready: /Ready to accept connections/,
    readyLimitMs: 60_000,
    stopSignal: 'SIGTERM',
    stopLimitMs: 3_000,
  })
  return withUrl(running, brokerUrl(tls ? 'rediss' : 'redis', options))
}

/** Stops a Redis that a killed process left running in `dir`. Returns whether there was one. */
export const stopLeftoverRedis = async (dir: string) => (await stopLeftover(join(dir, 'redis.pid'))) !== undefined
