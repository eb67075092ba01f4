import { rmSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import {
  type BrokerOptions,
  brokerUrl,
  brokerUser,
  findProgram,
  isExecutable,
  type LocalBroker,
  searchPath,
  withUrl,
  writeSettings,
} from './broker.ts'
import { eventually } from './eventually.ts'
import { answers, freePort } from './ports.ts'
import { startProcess } from './process.ts'
import { readIfThere, stopLeftover } from './process-identity.ts'

/** Of Debian's and Red Hat's packages. What they have on PATH becomes another user, who cannot get to our folder. */
const packaged = '/usr/lib/rabbitmq/bin/rabbitmq-server'
const findRabbitmq = () => (isExecutable(packaged) ? packaged : findProgram('rabbitmq-server'))
const needed = 'needs rabbitmq-server on PATH: apt-get install rabbitmq-server'

/** What this machine lacks for {@link startRabbitmq}, in words; undefined: nothing. */
export const whyNoRabbitmq = () => (findRabbitmq() ? undefined : needed)

export interface RabbitmqOptions extends BrokerOptions {
  /** More lines of rabbitmq.conf. */
  settings?: readonly string[]
}

/**
 * Starts a RabbitMQ, with no plugin, and returns when it takes connections: 5 to 10 s. Besides its port it takes two free
 * ones, for Erlang's own connections, on 127.0.0.1 as well. {@link LocalProcess.stop} ends Erlang's port mapper (epmd)
 * with it, which would outlive it.
 */
export async function startRabbitmq(options: RabbitmqOptions): Promise<LocalBroker> {
  const { dir, port, password, tls, settings = [], ...rest } = options
  const command = findRabbitmq()
  if (!command) throw new Error(`RabbitMQ ${needed}`)
  await stopLeftoverRabbitmq(dir)
  writeSettings(options, 'rabbitmq.conf', [
    tls ? `listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:${port}` : `listeners.tcp.1 = 127.0.0.1:${port}`,
    tls && 'ssl_options.cacertfile = ca.pem\nssl_options.certfile = cert.pem\nssl_options.keyfile = key.pem',
    tls && 'ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false',
    `default_user = ${brokerUser}`, // made, with all permissions, where there are no data yet
    `default_pass = ${password}`,
    'log.console = true',
    'log.file = false',
    ...settings,
  ])
  writeFileSync(join(dir, 'enabled_plugins'), '[].\n')
  const [nodePort, mapperPort] = await Promise.all([freePort(), freePort()])
  writeFileSync(mapperFile(dir), String(mapperPort))
  const endMapper = () => endPortMapper(dir)
  const starting = startProcess({
    ...rest,
    name: 'RabbitMQ',
    command,
    args: [],
    cwd: dir,
    env: environment(dir, nodePort, mapperPort),
    port,
    logFile: join(dir, 'rabbitmq.log'),
    pidFile: join(dir, 'rabbitmq.pid'),
    ready: /Server startup complete/,
    readyLimitMs: 120_000,
    stopSignal: 'SIGTERM',
    stopLimitMs: 6_000,
  })
  starting.catch(endMapper)
  const running = await starting
  const { stop: stopNode } = running
  const stop = async (limitMs?: number) => {
    await stopNode(limitMs)
    await endMapper()
  }
  return withUrl(
    Object.defineProperties(running, { stop: { value: stop } }),
    brokerUrl(tls ? 'amqps' : 'amqp', options),
  )
}

/** Nothing of the shell's: a variable of Erlang's or RabbitMQ's there is meant for another one. */
const environment = (dir: string, nodePort: number, mapperPort: number): NodeJS.ProcessEnv => ({
  PATH: searchPath(),
  LC_ALL: 'C.UTF-8',
  HOME: dir, // Erlang keeps its cookie there
  ERL_EPMD_ADDRESS: '127.0.0.1',
  ERL_EPMD_PORT: String(mapperPort),
  RABBITMQ_NODENAME: 'shopstream@localhost', // its data belong to that name
  RABBITMQ_DIST_PORT: String(nodePort),
  RABBITMQ_CONF_ENV_FILE: '/dev/null',
  RABBITMQ_CONFIG_FILE: join(dir, 'rabbitmq.conf'),
  RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, 'enabled_plugins'),
  RABBITMQ_MNESIA_BASE: join(dir, 'data'),
  RABBITMQ_LOG_BASE: dir,
  RABBITMQ_PID_FILE: join(dir, 'node.pid'),
  RABBITMQ_ALLOW_INPUT: 'true', // so that the process is Erlang itself, and not a shell that a kill -9 would end alone
  RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-noinput -kernel inet_dist_use_interface {127,0,0,1}',
})

/** Stops a RabbitMQ that a killed process left running in `dir`. Returns whether there was one. */
export async function stopLeftoverRabbitmq(dir: string): Promise<boolean> {
  const found = (await stopLeftover(join(dir, 'rabbitmq.pid'))) !== undefined
  await endPortMapper(dir)
  return found
}

const mapperFile = (dir: string) => join(dir, 'epmd.port')

/** Asks it to end, as `epmd -kill` does; it refuses as long as it knows a node. */
async function endPortMapper(dir: string): Promise<void> {
  const port = Number(readIfThere(mapperFile(dir)))
  if (!port) return
  const hasEnded = async () => {
    if (!(await answers(port))) return true
    const socket = createConnection({ port, host: '127.0.0.1' }, () => socket.end(Buffer.from([0, 1, 0x6b])))
    socket.on('error', () => {}) // it has just ended
    return false
  }
  await eventually("the end of RabbitMQ's epmd", hasEnded, { timeoutMs: 2_000, everyMs: 50 }).catch(() => {}) // not ours
  rmSync(mapperFile(dir), { force: true })
}
