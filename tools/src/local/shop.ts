import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { challengeFor } from '@shopstream/config'
import {
  cacheFolder,
  eventually,
  type KafkaListener,
  type MailSink,
  type MailSinkOptions,
  repository,
  startMailSink,
  stopLeftover,
  stopLeftoverPostgres,
} from '@shopstream/local-servers'
import { ownEnvironment } from '../../environment.mjs'
import { startDeployer } from './deployer.ts'
import { claimHome, homeFolder, type RunningShop, readSecrets, writePrivate } from './home.ts'
import {
  chooseWay,
  findKafkaWays,
  givenKafka,
  noKafkaMessage,
  type StackKafka,
  startStackKafka,
  stopStackKafkaLeftover,
} from './kafka.ts'
import { givenPostgres, type StackPostgres, startStackPostgres } from './postgres.ts'
import {
  databaseOwners,
  portVariable,
  readSettings,
  type ServiceName,
  type Surroundings,
  serviceEnvironment,
  serviceNames,
} from './services.ts'
import { choosePorts, type PortName, type Ports } from './settings.ts'
import { pauseMs, probe, type SupervisedService, supervise } from './supervisor.ts'

export interface ShopOptions {
  /** Folder of its state; default SHOPSTREAM_HOME or `.shopstream`. */
  home?: string
  /** Default `process.env`. It is what the services inherit, too. */
  env?: NodeJS.ProcessEnv
  /** Runs these services alone; all by default. */
  only?: readonly ServiceName[]
  /** As if the environment had set them. */
  ports?: Partial<Ports>
  /** Has the last word about a service's environment, such as what stands between it and the others. */
  around?: (service: ServiceName, env: Record<string, string>) => Record<string, string>
  /** More listeners of Kafka, for services that `around` sends there; not where Kafka is a container or given. */
  kafkaListeners?: readonly KafkaListener[]
  /** Folder of the code that a service runs, asked each time that it starts; default: this repository. */
  codeOf?: (service: ServiceName) => string
  /** Starts what receives the mails; by default in this process. */
  startMail?: (options: MailSinkOptions) => Promise<Mailbox>
  /** A line of a service's log, as the service wrote it. */
  onLine?: (service: string, line: string) => void
  /** What happens while it starts, and whenever something is started again. */
  onProgress?: (line: string) => void
  /** Default 120,000 ms. */
  readyLimitMs?: number
  /** Ends the attempt: what was started is stopped, and the promise is rejected. */
  signal?: AbortSignal
}

/** What the stack needs of whatever receives the mails. */
export type Mailbox = Pick<MailSink, 'smtpUrl' | 'mails' | 'close'>

export interface Shop {
  readonly home: string
  readonly gatewayUrl: string
  readonly mailUrl: string
  readonly ports: Ports
  readonly staff: { email: string; password: string }
  readonly topicPrefix: string
  /** URL of each service's own HTTP, also of those that this stack does not run. */
  readonly serviceUrls: Record<ServiceName, string>
  /** The services that this stack runs. */
  readonly services: Partial<Record<ServiceName, SupervisedService>>
  readonly kafka: StackKafka
  readonly postgres: StackPostgres
  readonly mail: Mailbox
  /** URL of a service's database, with its role. */
  databaseUrl(service: ServiceName): string
  /** From the call to readiness. */
  readonly startedInMs: number
  /** Services first, then mail, Postgres and Kafka, all within 10 s. Fine to repeat. */
  stop(): Promise<void>
}

/** Everything has to be gone 10 s after the signal; the rest is for this process's own end. */
const stopLimitMs = 9_300
const serviceStopLimitMs = 4_500

/**
 * Flags of each service's Node: a small heap keeps five of them small. A young generation of 2 MB instead of 16 cost a third
 * of the CPU of an order.
 */
export const nodeFlags = [
  '--max-semi-space-size=16',
  '--max-old-space-size=192',
  '--import',
  pathToFileURL(join(import.meta.dirname, 'die-with-parent.mjs')).href, // read as a URL: a # would end it
]

/**
 * Starts the whole shop: Kafka, Postgres and mail, databases and topics, then each service as a process of its own, and
 * returns when all are ready. One stack per folder; what a killed one left behind is cleaned up first.
 * Throws {@link AlreadyRunning}, a ConfigError with everything that is wrong in the environment, or the reason why a part
 * did not start; nothing is left running then.
 */
export async function startShop(options: ShopOptions = {}): Promise<Shop> {
  const begun = performance.now()
  const { env = process.env, home = homeFolder(env), only = serviceNames, onProgress: progress = () => {} } = options
  const { settings, explicit } = await readSettings(env, only)
  const release = claimHome(home)
  const undo: ((remainingMs: () => number) => Promise<void>)[] = []
  const starting = new AbortController()
  let stopped: Promise<void> | undefined
  const stop = () => {
    starting.abort(new Error('the shop was stopped'))
    stopped ??= stopInOrder(undo).finally(() => {
      rmSync(join(home, 'shop.json'), { force: true })
      release()
    })
    return stopped
  }
  try {
    options.signal?.addEventListener('abort', () => starting.abort(options.signal?.reason), { once: true })
    const aborted = once(starting.signal, 'abort').then(() => Promise.reject(starting.signal.reason))
    const shop = await Promise.race([start(), aborted])
    return Object.assign(shop, { startedInMs: Math.round(performance.now() - begun) })
  } catch (error) {
    await stop()
    throw error
  }

  async function start(): Promise<Shop> {
    rmSync(join(home, 'shop.json'), { force: true })
    await cleanUp(home, env, progress)
    const way = settings.KAFKA_BROKERS ? undefined : await findWay(env)
    starting.signal.throwIfAborted()
    const ports = await choosePorts({ ...explicit, ...options.ports }, unusedPorts(settings, only))
    const schemas = schemasNow()
    const isDeployed = readDeployed(home) === schemas
    const secrets = readSecrets(home, databaseOwners)
    const { signal } = starting
    const identitySecret = randomBytes(24).toString('base64url') // another one at each start
    const deployer = startDeployer(inherited(env))
    undo.push(async () => deployer.close())
    const onEnd = (what: string, restart: () => Promise<void>) => async (how: string) => {
      for (let deaths = 1; !signal.aborted; deaths += 1) {
        progress(`${what} ${how}; starting it again`)
        try {
          return await restart()
        } catch (error) {
          how = `does not start again: ${(error as Error).message}`
        }
        await delay(pauseMs(deaths), undefined, { signal }).catch(() => {}) // aborted: the shop stops
      }
    }
    // Undone in the reverse order: services, mail, Postgres, Kafka.
    const kafkaStarting: Promise<StackKafka> = way
      ? startStackKafka(way, {
          home,
          port: ports.KAFKA_PORT,
          listeners: options.kafkaListeners ?? [],
          env,
          progress,
          signal,
          onUnexpectedEnd: onEnd('Kafka', async () => (await kafkaStarting).restart()),
        })
      : Promise.resolve(givenKafka(settings.KAFKA_BROKERS ?? []))
    undo.push(async (remainingMs) => (await kafkaStarting.catch(() => undefined))?.stop(remainingMs()))
    const postgresStarting: Promise<StackPostgres> = settings.POSTGRES_URL
      ? Promise.resolve(givenPostgres(settings.POSTGRES_URL))
      : startStackPostgres({
          home,
          port: ports.POSTGRES_PORT,
          password: secrets.postgresPassword,
          progress,
          signal,
          onUnexpectedEnd: onEnd('Postgres', async () => (await postgresStarting).restart()),
        })
    undo.push(async (remainingMs) => (await postgresStarting.catch(() => undefined))?.stop(remainingMs()))
    const mailStarting = (options.startMail ?? startMailSink)({
      smtpPort: ports.SMTP_PORT,
      uiPort: ports.MAIL_UI_PORT,
      store: join(home, 'mails.jsonl'),
    })
    undo.push(async () => (await mailStarting.catch(() => undefined))?.close())

    // No failure may go unnoticed while another part is awaited.
    const failed = Promise.all([kafkaStarting, postgresStarting, mailStarting])
    failed.catch(() => {})
    const orFail = async <T>(part: Promise<T>): Promise<T> => (await Promise.race([part, failed.then(() => part)])) as T

    const [mail, postgres] = await Promise.all([orFail(mailStarting), orFail(postgresStarting)])
    if (!settings.POSTGRES_URL) progress(`Postgres takes connections ${since(begun)}`)
    const databases = databaseOwners.map((name) => ({
      name: `shopstream_${name}`,
      password: secrets.databasePasswords[name] ?? '',
    }))
    const urls = await orFail(
      blame(
        settings.POSTGRES_URL && 'POSTGRES_URL',
        deployer.run({ task: 'databases', adminUrl: postgres.url, databases }),
      ),
    )
    const databaseUrl = (service: ServiceName) => urls[serviceNames.indexOf(service)] ?? ''

    const brokers = settings.KAFKA_BROKERS ?? [`127.0.0.1:${ports.KAFKA_PORT}`]
    const around: Surroundings = {
      ports,
      brokers,
      databaseUrl,
      smtpUrl: mail.smtpUrl,
      secrets,
      settings,
      identitySecret,
    }
    writeEnvironments(home, around)
    const topicsMade = kafkaStarting.then(async () => {
      if (!settings.KAFKA_BROKERS) progress(`Kafka takes requests ${since(begun)}`)
      const { KAFKA_TOPIC_PREFIX: topicPrefix } = settings
      const topics = deployer.run({ task: 'topics', brokers, topicPrefix, groups: [...databaseOwners] })
      await blame(settings.KAFKA_BROKERS && `KAFKA_BROKERS (${brokers})`, topics)
      writePrivate(deployedFile(home), schemas)
      deployer.close()
    })
    topicsMade.catch(() => {})
    // Topics and schemas come before who writes by them. A start with the same as before saves a second.
    if (!isDeployed) await topicsMade
    signal.throwIfAborted() // nothing may be started behind the back of a stop
    const running = startServices(around)
    undo.push(async (remainingMs) => {
      const limitMs = Math.min(serviceStopLimitMs, remainingMs())
      await Promise.all(Object.values(running.services).map((service) => service.stop(limitMs)))
    })
    const kafka = await orFail(kafkaStarting)
    await topicsMade
    await waitUntilReady(running, ports)
    const shop: Shop = {
      home,
      gatewayUrl: urlOf(ports.GATEWAY_PORT),
      mailUrl: urlOf(ports.MAIL_UI_PORT),
      ports,
      staff: { email: settings.STAFF_EMAIL, password: settings.STAFF_PASSWORD ?? secrets.staffPassword },
      topicPrefix: settings.KAFKA_TOPIC_PREFIX,
      serviceUrls: Object.fromEntries(
        serviceNames.map((name) => [name, urlOf(ports[portVariable(name)])]),
      ) as Shop['serviceUrls'],
      services: running.services,
      kafka,
      postgres,
      mail,
      databaseUrl,
      startedInMs: 0,
      stop,
    }
    writePrivate(join(home, 'shop.json'), JSON.stringify(describe(shop), null, 2))
    return shop
  }

  function environmentOf(name: ServiceName, surroundings: Surroundings): Record<string, string> {
    const environment = serviceEnvironment(name, surroundings)
    return options.around?.(name, environment) ?? environment
  }

  function startServices(around: Surroundings) {
    const givenUp = Promise.withResolvers<never>()
    givenUp.promise.catch(() => {})
    const isGenuine = async (name: ServiceName, signal: AbortSignal) => {
      const { path, isMetBy } = challengeFor(around.identitySecret ?? '', name)
      return isMetBy((await probe(`${urlOf(around.ports[portVariable(name)])}${path}`, signal))?.body ?? '')
    }
    const started = only.map((name): [ServiceName, SupervisedService] => {
      const service = supervise({
        name,
        command: process.execPath,
        args: [...nodeFlags, `services/${name}/src/main.ts`],
        get cwd() {
          return options.codeOf?.(name) ?? repository
        },
        env: processEnvironment(env, environmentOf(name, around)),
        pidFile: pidFile(home, name),
        readyUrl: `${urlOf(around.ports[portVariable(name)])}/readyz`,
        isGenuine: (signal) => isGenuine(name, signal),
        onLine: (line) => options.onLine?.(name, line),
        onEvent: progress,
        onGivenUp: (reason) => {
          progress(`ERROR: ${reason}`)
          givenUp.reject(new Error(reason))
        },
      })
      return [name, service]
    })
    return { services: Object.fromEntries(started) as Shop['services'], givenUp: givenUp.promise, isGenuine }
  }

  /** All of it: the gateway, which asks every service. A part: each listens; what it waits for may not be there at all. */
  async function waitUntilReady(running: ReturnType<typeof startServices>, ports: Ports): Promise<void> {
    const whole = serviceNames.every((name) => running.services[name])
    const asked: readonly ServiceName[] = whole ? ['gateway'] : only
    const wanted = asked.map((name) => `${urlOf(ports[portVariable(name)])}${whole ? '/readyz' : '/livez'}`)
    const done = new AbortController()
    const report = (async () => {
      for (;;) {
        await delay(5_000, undefined, { signal: done.signal })
        const answers = await Promise.all(wanted.map((url) => probe(url, done.signal)))
        progress(
          `still waiting ${since(begun)}: ${answers.map((answer, n) => `${wanted[n]} says ${answer?.body ?? 'nothing'}`).join('; ')}`,
        )
      }
    })().catch(() => {}) // aborted: it is ready, or has failed
    const isReady = async () => {
      const answers = await Promise.all(wanted.map((url) => probe(url, done.signal)))
      if (!answers.every((answer) => answer?.status === 200)) return false
      return (await Promise.all(asked.map((name) => running.isGenuine(name, done.signal)))).every(Boolean)
    }
    const ready = (async () => {
      for (;;) {
        const patience = { timeoutMs: options.readyLimitMs ?? 120_000, everyMs: 60 }
        try {
          return await eventually('all services to be ready', isReady, patience)
        } catch (error) {
          const states = await Promise.all(only.map((name) => probe(`${urlOf(ports[portVariable(name)])}/readyz`)))
          // Ended by a limit, a migration of that length would begin anew with each start, for ever.
          if (done.signal.aborted || !states.some((state) => state && isMigrating(state.body))) throw error
        }
      }
    })()
    ready.catch(() => {})
    try {
      await Promise.race([ready, running.givenUp])
    } finally {
      done.abort()
      await report
    }
  }
}

/** Whether `/readyz` of a service says that it is at work on its database, which takes as long as it takes. */
export function isMigrating(body: string): boolean {
  try {
    const { checks } = JSON.parse(body) as { checks: { name: string; status: string }[] }
    const stateOf = (wanted: string) => checks.find(({ name }) => name === wanted)?.status
    return stateOf('start') === 'failed' && stateOf('database') === 'ok'
  } catch {
    return false // not one of ours
  }
}

/** Says which setting led to the part that failed. */
async function blame<T>(setting: string | undefined, part: Promise<T>): Promise<T> {
  try {
    return await part
  } catch (error) {
    if (setting === undefined) throw error
    throw new Error(`what ${setting} names cannot be used: ${(error as Error).message}`, { cause: error })
  }
}

/** What a deployment has made last: the same topics and schemas need not be waited for. */
const deployedFile = (home: string) => join(home, 'deployed')
const readDeployed = (home: string) => existsSync(deployedFile(home)) && readFileSync(deployedFile(home), 'utf8')
const schemasNow = () => {
  const locks = ['registry.lock.json', 'topics.lock.json'].map((file) =>
    readFileSync(join(repository, 'schemas', file)),
  )
  return createHash('sha256').update(Buffer.concat(locks)).digest('hex')
}

const urlOf = (port: number) => `http://127.0.0.1:${port}`
const since = (begun: number) => `after ${((performance.now() - begun) / 1_000).toFixed(1)} s`

/** For every service: lines that the stack can read, its death with the stack's, code that is compiled once. */
const stackEnvironment = {
  LOG_FORMAT: 'json',
  SHOPSTREAM_STACK_PID: String(process.pid),
  NODE_COMPILE_CACHE: join(cacheFolder, 'compiled'),
  MALLOC_ARENA_MAX: '1',
}

/** The environment of a process of the stack's, from what it inherits and what is its own. */
export const processEnvironment = (env: NodeJS.ProcessEnv, own: Record<string, string>): NodeJS.ProcessEnv => ({
  ...inherited(env),
  ...own,
  ...stackEnvironment,
})

/** The environment that services inherit: not npm's own, nor flags that were meant for this process or for others. */
function inherited(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const foreign = /^(npm_|NODE_OPTIONS$|NODE_USE_ENV_PROXY$|NODE_CHANNEL|JEST_WORKER_ID$|PORT$|HOST$)/
  return Object.fromEntries(Object.entries(ownEnvironment(env)).filter(([name]) => !foreign.test(name)))
}

async function findWay(env: NodeJS.ProcessEnv) {
  const ways = await findKafkaWays(env)
  const way = chooseWay(ways)
  if (!way) throw new Error(noKafkaMessage(ways))
  return way
}

/** Ports on which this stack starts nothing, so that it does not matter whether they are busy. */
function unusedPorts(
  settings: { KAFKA_BROKERS?: string[]; POSTGRES_URL?: string },
  only: readonly ServiceName[],
): Set<PortName> {
  const unused = new Set<PortName>(serviceNames.filter((name) => !only.includes(name)).map(portVariable))
  if (settings.KAFKA_BROKERS) unused.add('KAFKA_PORT')
  if (settings.POSTGRES_URL) unused.add('POSTGRES_PORT')
  if (!only.includes('gateway')) unused.add('GATEWAY_METRICS_PORT')
  return unused
}

/** Stops what a stack that was killed has left behind. Its services end by themselves, but not in an instant. */
export async function cleanUp(home: string, env: NodeJS.ProcessEnv, progress: (line: string) => void): Promise<void> {
  const stopServices = serviceNames.map(async (name) => {
    return (await stopLeftover(pidFile(home, name), { limitMs: 3_000 })) !== undefined && name
  })
  const left = (await Promise.all(stopServices)).filter(Boolean)
  const [kafka, postgres] = await Promise.all([
    stopStackKafkaLeftover(home, env),
    stopLeftoverPostgres(join(home, 'postgres')),
  ])
  const found = [...left, kafka && 'Kafka', postgres && 'Postgres'].filter(Boolean)
  if (found.length > 0) progress(`stopped what an earlier start that was killed had left: ${found.join(', ')}`)
}

const pidFile = (home: string, service: ServiceName) => join(home, `${service}.pid`)

async function stopInOrder(undo: ((remainingMs: () => number) => Promise<void>)[]): Promise<void> {
  const deadline = performance.now() + stopLimitMs
  const remainingMs = () => Math.max(300, deadline - performance.now())
  const failures: unknown[] = []
  for (const step of undo.reverse()) {
    try {
      await step(remainingMs)
    } catch (error) {
      failures.push(error) // the others have to be stopped all the same
    }
  }
  if (failures.length > 0) throw new AggregateError(failures, 'stopping the shop failed in part')
}

/** One file per service with its environment, to run one alone: `node --env-file=.shopstream/env/order.env …`. */
function writeEnvironments(home: string, around: Surroundings): void {
  const folder = join(home, 'env')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  for (const name of serviceNames) {
    const lines = Object.entries(serviceEnvironment(name, around)).map(([key, value]) => `${key}=${quoted(value)}\n`)
    writePrivate(join(folder, `${name}.env`), lines.join(''))
  }
}

/** As `node --env-file` reads it: there is no escape, but a choice of quotes. */
const quoted = (value: string) => {
  const quote = ["'", '"', '`'].find((one) => !value.includes(one)) ?? "'"
  return `${quote}${value}${quote}`
}

function describe(shop: Shop): RunningShop {
  return {
    pid: process.pid,
    gatewayUrl: shop.gatewayUrl,
    mailUrl: shop.mailUrl,
    smtpUrl: shop.mail.smtpUrl,
    brokers: shop.kafka.brokers,
    topicPrefix: shop.topicPrefix,
    postgresUrl: shop.postgres.url,
    databaseUrls: Object.fromEntries(databaseOwners.map((name) => [name, shop.databaseUrl(name)])),
    staff: shop.staff,
    services: shop.serviceUrls,
  }
}
