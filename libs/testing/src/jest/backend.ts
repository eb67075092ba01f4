import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  containerEngine,
  freePort,
  isAlive,
  kafkaSettings,
  parseIdentity,
  removePostgres,
  startKafka,
  startPostgres,
  stopLeftoverKafka,
  stopLeftoverPostgres,
  temporaryFolder,
  writeIdentity,
} from '@shopstream/local-servers'

/** Kafka and Postgres for one run of the tests. */
export interface Backend {
  kind: 'local' | 'containers'
  brokers: string
  postgresUrl: string
  stop(): Promise<void>
}

const choices = ['auto', 'local', 'containers', 'none'] as const

/** TEST_BACKEND, checked. `none` is for tests that need neither Kafka nor Postgres. */
export function chosenBackend(value = process.env.TEST_BACKEND || 'auto'): (typeof choices)[number] {
  const choice = choices.find((known) => known === value)
  if (!choice) throw new Error(`TEST_BACKEND is "${value}"; set it to one of ${choices.join(', ')}`)
  return choice
}

/** Starts what TEST_BACKEND asks for; `auto` takes containers where an engine answers and runs them, else local ones. */
export async function startBackend(progress: (line: string) => void): Promise<Backend | undefined> {
  const choice = chosenBackend()
  if (choice === 'none') return undefined
  if (choice === 'containers') return startContainers()
  if (choice === 'auto' && (await containerEngine())) {
    try {
      return await startContainers()
    } catch (error) {
      progress(
        `the container engine answers but does not run the images (${(error as Error).message}); using local servers`,
      )
    }
  }
  return startLocal(progress)
}

const prefix = 'shopstream-test-'

async function startLocal(progress: (line: string) => void): Promise<Backend> {
  await removeAbandonedRuns()
  const dir = temporaryFolder('test')
  writeIdentity(join(dir, 'owner.json'), process.pid)
  const started = await Promise.allSettled([
    startKafka({ dir: join(dir, 'kafka'), progress }),
    startPostgres({ dir: join(dir, 'postgres'), password: randomBytes(12).toString('hex'), durable: false, progress }),
  ])
  const stop = async () => {
    await Promise.all(started.map((one) => one.status === 'fulfilled' && one.value.stop()))
    removePostgres(join(dir, 'postgres'))
    rmSync(dir, { recursive: true, force: true })
  }
  const [kafka, postgres] = started
  if (kafka.status === 'fulfilled' && postgres.status === 'fulfilled') {
    return { kind: 'local', brokers: kafka.value.brokers.join(), postgresUrl: postgres.value.url, stop }
  }
  const reasons = started.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []))
  await stop()
  throw new AggregateError(
    reasons,
    `the tests' servers did not start: ${reasons.map((reason) => reason.message).join('; ')}`,
  )
}

/** Stops and removes what a run that was killed left behind in the system's folder for temporary files. */
export async function removeAbandonedRuns(base = tmpdir()): Promise<void> {
  for (const name of readdirSync(base)) {
    const dir = join(base, name)
    const stat = name.startsWith(prefix) ? statSync(dir, { throwIfNoEntry: false }) : undefined
    if (!stat?.isDirectory() || stat.uid !== (process.getuid?.() ?? stat.uid)) continue
    const file = join(dir, 'owner.json')
    const owner = existsSync(file) ? parseIdentity(readFileSync(file, 'utf8')) : undefined
    const isUsed = owner ? isAlive(owner) : Date.now() - stat.mtimeMs < 60_000 // just being made
    if (isUsed) continue
    await stopLeftoverKafka(join(dir, 'kafka'))
    await stopLeftoverPostgres(join(dir, 'postgres'))
    removePostgres(join(dir, 'postgres'))
    rmSync(dir, { recursive: true, force: true })
  }
}

async function startContainers(): Promise<Backend> {
  // Only here: loading it takes most of a second.
  const { GenericContainer, Wait } = await import('testcontainers')
  const host = process.env.TESTCONTAINERS_HOST_OVERRIDE ?? '127.0.0.1'
  const password = randomBytes(12).toString('hex')
  // Kafka tells its clients where to connect, so its port on the host must be known before it starts.
  const port = await freePort()
  const kafka = new GenericContainer('apache/kafka:4.3.1')
    .withExposedPorts({ container: 9092, host: port })
    .withEnvironment({ ...kafkaEnvironment(kafkaSettings()), ...containerPlace(`${host}:${port}`) })
    .withWaitStrategy(Wait.forLogMessage(/Kafka Server started/))
    .start()
  const postgres = new GenericContainer('postgres:18')
    .withExposedPorts(5432)
    .withEnvironment({ POSTGRES_PASSWORD: password })
    .withTmpFs({ '/tmp': 'rw' })
    .withCommand(['postgres', '-c', 'fsync=off', '-c', 'max_connections=200'])
    // Twice: the image starts it once for its own preparation.
    .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/, 2))
    .start()
  const started = await Promise.allSettled([kafka, postgres])
  const stop = async () => {
    await Promise.all(started.map((one) => one.status === 'fulfilled' && one.value.stop()))
  }
  const failure = started.find((one) => one.status === 'rejected')
  if (failure) {
    await stop()
    throw failure.reason
  }
  const database = await postgres
  const address = `${database.getHost()}:${database.getMappedPort(5432)}`
  return {
    kind: 'containers',
    brokers: `${host}:${port}`,
    postgresUrl: `postgres://postgres:${password}@${address}/postgres`,
    stop,
  }
}

/** Settings as the environment of Kafka's image: `a.b-c` is KAFKA_A_B___C. */
export function kafkaEnvironment(settings: Record<string, string>): Record<string, string> {
  const name = (key: string) => key.replaceAll('_', '__').replaceAll('-', '___').replaceAll('.', '_').toUpperCase()
  return Object.fromEntries(Object.entries(settings).map(([key, value]) => [`KAFKA_${name(key)}`, value]))
}

function containerPlace(advertised: string): Record<string, string> {
  return kafkaEnvironment({
    'process.roles': 'broker,controller',
    'node.id': '1',
    'controller.quorum.voters': '1@localhost:9093',
    listeners: 'PLAINTEXT://0.0.0.0:9092,CONTROLLER://localhost:9093',
    'advertised.listeners': `PLAINTEXT://${advertised}`,
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
  })
}
