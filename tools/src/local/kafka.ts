import { createHash } from 'node:crypto'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  answers,
  containerEngine,
  eventually,
  findJava,
  findMaven,
  type Java,
  type KafkaListener,
  knownKafkaJars,
  repository,
  runCommand,
  startKafka,
  stopLeftoverKafka,
} from '@shopstream/local-servers'

/** A server of the stack that can be stopped and started again, for tests and demonstrations of outages. */
export interface ControlledServer {
  /** Undefined where it is no process of this machine's. */
  readonly pid: number | undefined
  stop(limitMs?: number): Promise<void>
  /** SIGKILL. */
  kill(): Promise<void>
  restart(): Promise<void>
}

export interface StackKafka extends ControlledServer {
  readonly brokers: string[]
  /** In words, for the table: where it comes from. */
  readonly origin: string
}

/** What this machine offers to run Kafka with. */
export interface KafkaWays {
  java: Java | undefined
  maven: string | undefined
  /** Jars that Maven fetched before: then Maven itself is not needed. */
  jars: boolean
  engine: { version: string; compose: boolean } | undefined
}

export type KafkaWay = 'java' | 'container'

/** Looks for Java with Maven, and only where these do not do (or `all` is asked for) for a container engine. */
export async function findKafkaWays(env: NodeJS.ProcessEnv, all = false): Promise<KafkaWays> {
  const jars = knownKafkaJars() !== undefined
  const [java, maven] = await Promise.all([findJava(env), jars && !all ? undefined : findMaven()])
  const ways: KafkaWays = { java, maven, jars, engine: undefined }
  if (!all && chooseWay(ways)) return ways
  const engine = await containerEngine(env)
  if (!engine) return ways
  const compose = await runCommand('docker', ['compose', 'version'], { env, limitMs: 10_000 }).then(
    () => true,
    () => false, // an engine without the plugin
  )
  return { ...ways, engine: { version: engine.version, compose } }
}

/** The first way that applies. */
export function chooseWay({ java, maven, jars, engine }: KafkaWays): KafkaWay | undefined {
  if (java && java.version >= 17 && (jars || maven)) return 'java'
  return engine?.compose ? 'container' : undefined
}

/** Why there is no Kafka, and the three ways to one. */
export function noKafkaMessage({ java, maven, engine }: KafkaWays): string {
  const javaFound = java ? `Java ${java.version}` : process.env.JAVA_HOME ? 'none that runs in JAVA_HOME' : 'no Java'
  const engineFound = engine ? 'an engine, but not "docker compose"' : 'none that answers'
  return `The shop needs Kafka, and this machine offers none. Any one of these will do:
  1. Java 17 or later and Maven, which fetches Apache Kafka (found: ${javaFound}, ${maven ? `Maven ${maven}` : 'no Maven'})
     Debian, Ubuntu: apt install openjdk-17-jre-headless maven      macOS: brew install openjdk maven
  2. a container engine with "docker compose", such as Docker (found: ${engineFound})
  3. a Kafka that runs already: KAFKA_BROKERS=host:port npm start`
}

/** How Kafka is started here. Throws with the ways to one where there is none. */
export async function findWay(env: NodeJS.ProcessEnv) {
  const ways = await findKafkaWays(env)
  const way = chooseWay(ways)
  if (!way) throw new Error(noKafkaMessage(ways))
  return way
}

interface KafkaPlace {
  home: string
  port: number
  /** Not in a container. */
  listeners?: readonly KafkaListener[]
  env: NodeJS.ProcessEnv
  progress: (line: string) => void
  onUnexpectedEnd: (how: string) => void
  /** Ends a start that is still going on. */
  signal: AbortSignal
}

/** Starts Kafka in the way chosen and returns when it takes requests. */
export async function startStackKafka(way: KafkaWay, place: KafkaPlace): Promise<StackKafka> {
  if (way === 'container') return startKafkaContainer(place)
  const { home, env: _, ...rest } = place
  const kafka = await startKafka({ dir: join(home, 'kafka'), ...rest })
  return Object.defineProperties(kafka, { origin: { value: 'Java' } }) as unknown as StackKafka
}

/** A Kafka that was there before: the stack uses it and leaves it alone. */
export function givenKafka(brokers: string[]): StackKafka {
  const refuse = async () => {
    throw new Error('this Kafka was not started by the shop (KAFKA_BROKERS), so the shop does not stop it')
  }
  return { brokers, origin: 'KAFKA_BROKERS', pid: undefined, stop: async () => {}, kill: refuse, restart: refuse }
}

async function startKafkaContainer({ home, port, env, progress, signal }: KafkaPlace): Promise<StackKafka> {
  const compose = composeIn(home, { ...env, KAFKA_PORT: String(port) })
  progress('the container engine starts Kafka; the first time it fetches the image')
  writeFileSync(containerMark(home), compose.project)
  const start = async () => {
    await compose.run(['up', '--detach', 'kafka'], 900_000, signal)
    await eventually('Kafka in its container', () => answers(port), { timeoutMs: 60_000 })
    await compose.run(['up', '--detach', '--wait', 'kafka'], 120_000)
  }
  await start()
  return {
    brokers: [`127.0.0.1:${port}`],
    origin: 'container',
    pid: undefined,
    async stop(limitMs = 8_000) {
      await compose.run(['stop', '--timeout', String(Math.max(1, Math.floor(limitMs / 1_000) - 1)), 'kafka'])
      rmSync(containerMark(home), { force: true })
    },
    kill: async () => void (await compose.run(['kill', 'kafka'])),
    restart: start,
  }
}

/** Compose for this folder alone: two clones do not share containers or volumes. */
function composeIn(home: string, env: NodeJS.ProcessEnv) {
  const project = `shopstream-${createHash('sha256').update(home).digest('hex').slice(0, 10)}`
  const file = join(repository, 'docker-compose.yml')
  return {
    project,
    run: (args: string[], limitMs = 60_000, signal?: AbortSignal) =>
      runCommand('docker', ['compose', '-p', project, '-f', file, ...args], {
        env,
        limitMs,
        ...(signal && { signal }),
      }),
  }
}

function containerMark(home: string): string {
  return join(home, 'kafka-container')
}

/** Stops the Kafka that a killed stack left running. Returns whether there was one. */
export async function stopStackKafkaLeftover(home: string, env: NodeJS.ProcessEnv): Promise<boolean> {
  if (!existsSync(containerMark(home))) return stopLeftoverKafka(join(home, 'kafka'))
  await composeIn(home, env).run(['stop', '--timeout', '5', 'kafka'])
  rmSync(containerMark(home), { force: true })
  return true
}

/** Removes the container and its data, for `npm run reset`; does nothing where there is no engine. */
export async function removeKafkaContainer(home: string, env: NodeJS.ProcessEnv): Promise<void> {
  if (await containerEngine(env)) await composeIn(home, env).run(['down', '--volumes', '--timeout', '5'])
}
