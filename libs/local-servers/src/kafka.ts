import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { classArchive, fetchKafkaJars, findJava, javaEnvironment, kafkaFolder } from './java.ts'
import { identitySettings, type KafkaIdentities, scramArguments } from './kafka-identities.ts'
import { freePort } from './ports.ts'
import { type LocalProcess, runCommand, startProcess } from './process.ts'
import { stopLeftover } from './process-identity.ts'

/**
 * An extra port for some clients. Kafka tells each client which address to connect to, so a client stays behind a proxy
 * only if it uses a listener that advertises the proxy.
 */
export interface KafkaListener {
  /** Capital letters; tells it from the others. */
  name: string
  /** Where Kafka listens, on 127.0.0.1. */
  port: number
  /** The port that clients are told, on 127.0.0.1. */
  advertisedPort: number
}

export interface KafkaOptions {
  /** Holds data, log and the record of the process; made when missing. Its data outlive the process. */
  dir: string
  /** On 127.0.0.1; a free one by default. */
  port?: number
  /** More ways in, each with the address that it tells clients. */
  listeners?: readonly KafkaListener[]
  /** Then `port` takes TLS with a user and password, and everything needs an ACL; default: open to this machine. */
  identities?: KafkaIdentities
  /** Told what takes long: fetching jars, formatting. */
  progress?: (line: string) => void
  onUnexpectedEnd?: (how: string) => void
  /** Ends a start that is still going on. */
  signal?: AbortSignal
}

export interface LocalKafka extends LocalProcess {
  /** `127.0.0.1:PORT` */
  readonly brokers: string[]
}

/** The settings in infra/kafka/server.properties. */
export function kafkaSettings(): Record<string, string> {
  const lines = readFileSync(join(kafkaFolder, 'server.properties'), 'utf8').split('\n')
  return Object.fromEntries(
    lines.filter((line) => /^[a-z]/.test(line)).map((line) => line.split('=', 2).map((part) => part.trim())),
  )
}

/**
 * Starts Apache Kafka (one node in KRaft mode) with Java 17+, listening on 127.0.0.1 alone, and returns when it takes
 * requests: about 1.5 s, 3 s before there is a class-data archive, and 1 s more for a new folder.
 * What a killed run left behind in `dir` is stopped first. Throws when Java is missing or Kafka does not come up.
 */
export async function startKafka(options: KafkaOptions): Promise<LocalKafka> {
  const port = options.port ?? (await freePort())
  const running = await startNode(options, {
    id: 1,
    port,
    controllers: [await freePort()],
    clusterId: newClusterId(),
    listeners: options.listeners ?? [],
    ...(options.identities && { identities: options.identities }),
  })
  return Object.defineProperties(running, {
    brokers: { value: [`127.0.0.1:${port}`], enumerable: true },
  }) as LocalKafka
}

export interface KafkaClusterOptions extends Pick<KafkaOptions, 'dir' | 'progress' | 'signal'> {
  /** Nodes; default 3, the fewest that outlive one of them. */
  size?: number
}

export interface LocalKafkaCluster {
  /** `127.0.0.1:PORT` of each node. */
  readonly brokers: string[]
  /** The nodes, each of which can be stopped, killed and started again alone. */
  readonly nodes: readonly LocalProcess[]
  stop(): Promise<void>
}

/**
 * Starts a cluster of Kafka nodes, each of them broker and controller, whose own topics have three replicas, of which two
 * must have what is acknowledged. About 4 s on 2 cores, and 110 MB (PSS) a node. The loss of a node is noticed after 4 s,
 * so that tests need not wait for the usual 9. Throws as {@link startKafka} does; then nothing is left running.
 */
export async function startKafkaCluster({ dir, size = 3, ...rest }: KafkaClusterOptions): Promise<LocalKafkaCluster> {
  const ids = Array.from({ length: size }, (_, i) => i + 1)
  const ports = await Promise.all(ids.map(() => freePort()))
  const controllers = await Promise.all(ids.map(() => freePort()))
  const clusterId = newClusterId()
  const settings = replicated(Math.min(3, size))
  const started = await Promise.allSettled(
    ids.map((id) => {
      const port = ports[id - 1] as number
      return startNode({ ...rest, dir: join(dir, `node-${id}`) }, { id, port, controllers, clusterId, settings })
    }),
  )
  const nodes = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  // All at once: a node that stops in order waits for a controller to take its partitions from it.
  const stop = async () => void (await Promise.all(nodes.map((node) => node.stop())))
  const failure = started.find((one) => one.status === 'rejected')
  if (failure) {
    await stop()
    throw failure.reason
  }
  return { brokers: ports.map((port) => `127.0.0.1:${port}`), nodes, stop }
}

/** What distinguishes a node. */
interface Node {
  id: number
  port: number
  /** Ports of all controllers, the one of node 1 first. */
  controllers: readonly number[]
  clusterId: string
  /** Beyond that at `port`. */
  listeners?: readonly KafkaListener[]
  /** Those of a cluster, beyond those of infra/kafka. */
  settings?: Record<string, string>
  identities?: KafkaIdentities
}

/** An id that starts with a dash would be taken for an option. */
const newClusterId = () => randomBytes(16).toString('base64url').replace(/^-/, 'A')

async function startNode(options: Omit<KafkaOptions, 'port'>, node: Node): Promise<LocalProcess> {
  const { dir, signal, progress = () => {} } = options
  mkdirSync(dir, { recursive: true })
  await stopLeftoverKafka(dir)
  const java = await findJava()
  if (!java || java.version < 17)
    throw new Error(`the local Kafka needs Java 17 or later; found ${java?.version ?? 'none'}`)
  const jars = await fetchKafkaJars(progress, signal)
  const classpath = jars.join(delimiter)

  // Kafka runs in its folder and is given names in there, never a path: its settings are read as ISO-8859-1, a backslash
  // begins an escape, and a comma a second folder.
  const data = join(dir, 'data')
  const propertiesOf = (file: string, logDirs: string) => {
    const settings = {
      ...kafkaSettings(),
      ...placeSettings(node, logDirs),
      ...(node.settings ?? afterCrash(data)),
      ...(node.identities && identitySettings(dir, node.identities)),
    }
    const lines = Object.entries(settings).map((pair) => `${pair.join('=')}\n`)
    writeFileSync(join(dir, file), lines.join(''))
    return file
  }
  // Each thread may otherwise keep a C heap of its own: 20 MB in all.
  const env = { ...javaEnvironment(), MALLOC_ARENA_MAX: '1' }
  const archive = classArchive(java, jars)
  const options_ = `@${join(kafkaFolder, 'jvm.options')}`
  if (!existsSync(join(data, 'meta.properties'))) {
    // Formatted beside its place and moved there, so that an interrupted start leaves nothing half done.
    const fresh = `${data}.new`
    rmSync(fresh, { recursive: true, force: true })
    rmSync(data, { recursive: true, force: true })
    const shared = archive.flags().filter((flag) => flag.startsWith('-XX:SharedArchiveFile'))
    const users = node.identities ? scramArguments(node.identities) : []
    const format = ['format', '-t', node.clusterId, '-c', propertiesOf('format.properties', 'data.new'), ...users]
    await runCommand(java.command, [options_, ...shared, '-cp', classpath, 'kafka.tools.StorageTool', ...format], {
      cwd: dir,
      env,
      ...(signal && { signal }),
    })
    renameSync(fresh, data)
  }

  return startProcess({
    name: node.controllers.length === 1 ? 'Kafka' : `Kafka ${node.id}`,
    command: java.command,
    get args() {
      return [options_, ...archive.flags(), '-cp', classpath, 'kafka.Kafka', propertiesOf('server.properties', 'data')]
    },
    cwd: dir,
    env,
    port: node.port,
    logFile: join(dir, 'kafka.log'),
    pidFile: join(dir, 'kafka.pid'),
    ready: /Kafka Server started/,
    readyLimitMs: 60_000,
    stopSignal: 'SIGTERM',
    stopLimitMs: 8_000,
    stopped: (orderly) => (orderly ? archive.keep() : archive.discard()),
    ...(signal && { signal }),
    ...(options.onUnexpectedEnd ? { onUnexpectedEnd: options.onUnexpectedEnd } : {}),
  })
}

/** Stops a Kafka that a killed process left running in `dir`. Returns whether there was one. */
export async function stopLeftoverKafka(dir: string): Promise<boolean> {
  return (await stopLeftover(join(dir, 'kafka.pid'))) !== undefined
}

/**
 * After a kill -9 the controller goes on waiting for the dead process's heartbeats before it lets the new one in: with
 * Kafka's 9 s a start takes 10 s, with this 3 s. Not always, because a starved machine must not lose its only broker.
 */
function afterCrash(data: string): Record<string, string> {
  const crashed = existsSync(join(data, 'meta.properties')) && !existsSync(join(data, '.kafka_cleanshutdown'))
  return crashed ? { 'broker.session.timeout.ms': '2000' } : {}
}

function placeSettings(node: Node, logDirs: string): Record<string, string> {
  const { id, port, controllers, listeners = [], identities } = node
  const ways = identities ? { SASL_SSL: port, SSL: identities.certificatePort } : { PLAINTEXT: port }
  const own = Object.entries(ways).map(([name, at]) => ({ name, port: at, advertisedPort: at }))
  const clients = [...own, ...listeners]
  const all = [...clients, { name: 'CONTROLLER', port: controllers[id - 1] }]
  return {
    'process.roles': 'broker,controller',
    'node.id': String(id),
    'controller.quorum.voters': controllers.map((at, i) => `${i + 1}@127.0.0.1:${at}`).join(),
    listeners: all.map((one) => `${one.name}://127.0.0.1:${one.port}`).join(),
    'advertised.listeners': clients.map((one) => `${one.name}://127.0.0.1:${one.advertisedPort}`).join(),
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': identities ? 'SSL' : 'PLAINTEXT',
    'listener.security.protocol.map': all.map(({ name }) => `${name}:${protocolOf(name, identities)}`).join(),
    'log.dirs': logDirs,
  }
}

const protocolOf = (listener: string, identities: KafkaIdentities | undefined) => {
  if (!identities) return 'PLAINTEXT'
  return listener === 'SASL_SSL' ? 'SASL_SSL' : 'SSL'
}

/** What a cluster needs to outlive the loss of a node; what topics need is said by whoever makes them. */
function replicated(replicas: number): Record<string, string> {
  const inSync = String(Math.max(1, replicas - 1))
  return {
    'default.replication.factor': String(replicas),
    'offsets.topic.replication.factor': String(replicas),
    'transaction.state.log.replication.factor': String(replicas),
    'transaction.state.log.min.isr': inSync,
    'share.coordinator.state.topic.replication.factor': String(replicas),
    'share.coordinator.state.topic.min.isr': inSync,
    'broker.session.timeout.ms': '4000',
  }
}
