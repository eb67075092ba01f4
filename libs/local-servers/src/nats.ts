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

const findNats = () => findProgram('nats-server')
const needed = 'needs nats-server on PATH: apt-get install nats-server'

/** What this machine lacks for {@link startNats}, in words; undefined: nothing. */
export const whyNoNats = () => (findNats() ? undefined : needed)

/** Starts NATS with JetStream, whose streams are kept in `dir`, and returns when it takes connections: about 0.1 s. */
export async function startNats(options: BrokerOptions): Promise<LocalBroker> {
  const { dir, port, password, tls, ...rest } = options
  const command = findNats()
  if (!command) throw new Error(`NATS ${needed}`)
  await stopLeftoverNats(dir)
  writeSettings(options, 'nats.conf', [
    `listen: "127.0.0.1:${port}"`,
    `authorization { user: "${brokerUser}", password: "${password}" }`,
    'jetstream { store_dir: "data" }',
    tls && 'tls { ca_file: "ca.pem", cert_file: "cert.pem", key_file: "key.pem" }',
  ])
  const running = await startProcess({
    ...rest,
    name: 'NATS',
    command,
    args: ['--config', 'nats.conf'],
    cwd: dir,
    env: { PATH: process.env.PATH },
    port,
    logFile: join(dir, 'nats.log'),
    pidFile: join(dir, 'nats.pid'),
    ready: /Server is ready/,
    readyLimitMs: 60_000,
    stopSignal: 'SIGTERM',
    stopLimitMs: 3_000,
  })
  return withUrl(running, brokerUrl(tls ? 'tls' : 'nats', options))
}

/** Stops a NATS that a killed process left running in `dir`. Returns whether there was one. */
export const stopLeftoverNats = async (dir: string) => (await stopLeftover(join(dir, 'nats.pid'))) !== undefined
