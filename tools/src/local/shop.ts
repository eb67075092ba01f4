import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import {
  type KafkaListener,
  type LocalProcess,
  type MailSink,
  type MailSinkOptions,
  repository,
  startMailSink,
} from '@shopstream/local-servers'
import {
  bridgeSettings,
  type CompanionName,
  companions,
  companionUrls,
  requireCompanions,
  startCompanion,
} from './companions.ts'
import { blame, type Deployer, deployedFile, readDeployed, schemasNow, startDeployer } from './deployment.ts'
import { inherited, processEnvironment, tracesEnvironment, writeEnvironments } from './environments.ts'
import { findWay, givenKafka, type KafkaWay, type StackKafka, startStackKafka } from './kafka.ts'
import { cleanUp, pidFile } from './leftovers.ts'
import { givenPostgres, type StackPostgres, startStackPostgres } from './postgres.ts'
import { isGenuine, since, waitUntilReady } from './readiness.ts'
import {
  databaseOwners,
  readSettings,
  type ServiceName,
  type Surroundings,
  serviceEnvironment,
  serviceNames,
  serviceUrl,
  unusedPorts,
  urlOf,
} from './services.ts'
import { choosePorts, type Ports, type StackSettings } from './settings.ts'
import { claimHome, homeFolder, type RunningShop, readSecrets, type Secrets, writePrivate } from './state-folder.ts'
import { pauseMs, type SupervisedService, supervise } from './supervisor.ts'

export interface ShopOptions {
  /** Folder of its state; default SHOPSTREAM_HOME or `.shopstream`. */
  home?: string
  /** Default `process.env`. It is what the services inherit, too. */
  env?: NodeJS.ProcessEnv
  /** Runs these services alone; all by default. */
  only?: readonly ServiceName[]
  /** Run beside the shop; with `zipkin` the spans of the services can be seen. */
  with?: readonly CompanionName[]
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
  /** URLs of what runs beside it, with passwords, by the variable that tells each: `REDIS_URL`. */
  readonly companionUrls: Record<string, string>
  /** What runs beside it, by name. */
  readonly companions: ReadonlyMap<CompanionName, LocalProcess>
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

type UndoStep = (remainingMs: () => number) => Promise<void>

/** A start under way. */
interface Launch {
  options: ShopOptions
  env: NodeJS.ProcessEnv
  home: string
  only: readonly ServiceName[]
  beside: readonly CompanionName[]
  settings: StackSettings
  explicit: Partial<Ports>
  progress: (line: string) => void
  /** When it began, by `performance.now()`. */
  begun: number
  /** Nothing more is started from then on. */
  signal: AbortSignal
  /** What stops each part that was started; done in the reverse order: services, mail, Postgres, Kafka. */
  undo: UndoStep[]
  stop: () => Promise<void>
}

/**
 * Starts the whole shop: Kafka, Postgres and mail, databases and topics, then each service as a process of its own, and
 * returns when all are ready. One stack per folder; what a killed one left behind is cleaned up first.
 * Throws {@link AlreadyRunning}, a ConfigError with everything that is wrong in the environment, or the reason why a part
 * did not start; nothing is left running then.
 */
export async function startShop(options: ShopOptions = {}): Promise<Shop> {
  const begun = performance.now()
  const { env = process.env, home = homeFolder(env), only = serviceNames, with: beside = [] } = options
  const { onProgress: progress = () => {} } = options
  const { settings, explicit } = await readSettings(env, only, beside)
  await requireCompanions(beside, env)
  const release = claimHome(home)
  const undo: UndoStep[] = []
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
    const { signal } = starting
    options.signal?.addEventListener('abort', () => starting.abort(options.signal?.reason), { once: true })
    const aborted = once(signal, 'abort').then(() => Promise.reject(signal.reason))
    const launch = { options, env, home, only, beside, settings, explicit, progress, begun, signal, undo, stop }
    const shop = await Promise.race([start(launch), aborted])
    return Object.assign(shop, { startedInMs: Math.round(performance.now() - begun) })
  } catch (error) {
    await stop()
    throw error
  }
}

async function start(launch: Launch): Promise<Shop> {
  const { options, env, home, only, beside, settings, explicit, progress, signal, begun, undo } = launch
  rmSync(join(home, 'shop.json'), { force: true })
  await cleanUp(home, env, progress)
  const way = settings.KAFKA_BROKERS ? undefined : await findWay(env)
  signal.throwIfAborted()
  const ports = await choosePorts({ ...explicit, ...options.ports }, unusedPorts(settings, only, beside))
  const schemas = schemasNow()
  const isDeployed = readDeployed(home) === schemas
  const secrets = readSecrets(home, databaseOwners, beside)
  const identitySecret = randomBytes(24).toString('base64url') // another one at each start
  const deployer = startDeployer(inherited(env))
  undo.push(async () => deployer.close())
  const servers = startServers(launch, { way, ports, secrets })

  const [mail, postgres] = await Promise.all([servers.orFail(servers.mail), servers.orFail(servers.postgres)])
  if (!settings.POSTGRES_URL) progress(`Postgres takes connections ${since(begun)}`)
  const urls = await servers.orFail(makeDatabases(deployer, postgres, secrets, settings))
  const databaseUrl = (service: ServiceName) => urls[(databaseOwners as readonly ServiceName[]).indexOf(service)] ?? ''
  const brokers = settings.KAFKA_BROKERS ?? [`127.0.0.1:${ports.KAFKA_PORT}`]
  const { smtpUrl } = mail
  const tracing = beside.includes('zipkin') ? tracesEnvironment(env, ports.ZIPKIN_PORT) : {}
  const told = bridgeSettings(beside, companionUrls(beside, ports, secrets), env)
  const known = { ports, brokers, databaseUrl, smtpUrl, secrets, settings, identitySecret }
  const around: Surroundings = { ...known, tracing, companions: told }
  writeEnvironments(home, around)
  const topicsMade = servers.kafka.then(() => makeTopics(launch, deployer, { brokers, schemas }))
  topicsMade.catch(() => {})
  // Topics and schemas come before who writes by them. A start with the same as before saves a second.
  if (!isDeployed) await topicsMade
  const started = await servers.orFail(servers.companions) // before there are spans: an exporter that nobody answers complains
  signal.throwIfAborted() // nothing may be started behind the back of a stop
  const running = startServices(launch, around)
  undo.push(async (remainingMs) => {
    const limitMs = Math.min(serviceStopLimitMs, remainingMs())
    await Promise.all(Object.values(running.services).map((service) => service.stop(limitMs)))
  })
  const kafka = await servers.orFail(servers.kafka)
  await topicsMade
  const limitMs = options.readyLimitMs ?? 120_000
  await waitUntilReady({ only, ports, identitySecret, begun, limitMs, progress }, running.givenUp)
  const processes = new Map(beside.map((name, n) => [name, started[n] as LocalProcess]))
  const shop = shopOf(launch, around, { services: running.services, companions: processes, kafka, postgres, mail })
  writePrivate(join(home, 'shop.json'), JSON.stringify(describe(shop), null, 2))
  return shop
}

/** Starts Kafka, Postgres, mail and what was asked for beside them, or takes what the environment names. */
function startServers(
  launch: Launch,
  { way, ports, secrets }: { way: KafkaWay | undefined; ports: Ports; secrets: Secrets },
) {
  const { options, env, home, settings, progress, signal, undo } = launch
  const onEnd = (what: string, restart: () => Promise<void>) => (how: string) => startAgain(launch, what, how, restart)
  const kafka: Promise<StackKafka> = way
    ? startStackKafka(way, {
        home,
        port: ports.KAFKA_PORT,
        listeners: options.kafkaListeners ?? [],
        env,
        progress,
        signal,
        onUnexpectedEnd: onEnd('Kafka', async () => (await kafka).restart()),
      })
    : Promise.resolve(givenKafka(settings.KAFKA_BROKERS ?? []))
  undo.push(async (remainingMs) => (await kafka.catch(() => undefined))?.stop(remainingMs()))
  const postgres: Promise<StackPostgres> = settings.POSTGRES_URL
    ? Promise.resolve(givenPostgres(settings.POSTGRES_URL))
    : startStackPostgres({
        home,
        port: ports.POSTGRES_PORT,
        password: secrets.postgresPassword,
        progress,
        signal,
        onUnexpectedEnd: onEnd('Postgres', async () => (await postgres).restart()),
      })
  undo.push(async (remainingMs) => (await postgres.catch(() => undefined))?.stop(remainingMs()))
  const mail = (options.startMail ?? startMailSink)({
    smtpPort: ports.SMTP_PORT,
    uiPort: ports.MAIL_UI_PORT,
    store: join(home, 'mails.jsonl'),
  })
  undo.push(async () => (await mail.catch(() => undefined))?.close())

  const start = (name: CompanionName) => {
    const onUnexpectedEnd = onEnd(companions[name].title, async () => (await running).restart())
    const parts = { home, ports, secrets, env, progress, signal, onUnexpectedEnd }
    const running: Promise<LocalProcess> = startCompanion(name, parts)
    undo.push(async (remainingMs) => (await running.catch(() => undefined))?.stop(Math.min(3_000, remainingMs())))
    return running
  }
  const beside = Promise.all(launch.beside.map(start))

  // No failure may go unnoticed while another part is awaited.
  const failed = Promise.all([kafka, postgres, mail, beside])
  failed.catch(() => {})
  const orFail = async <T>(part: Promise<T>): Promise<T> => (await Promise.race([part, failed.then(() => part)])) as T
  return { kafka, postgres, mail, companions: beside, orFail }
}

/** Tries until it is there again, or the shop stops. */
async function startAgain(
  { progress, signal }: Launch,
  what: string,
  how: string,
  restart: () => Promise<void>,
): Promise<void> {
  let reason = how
  for (let deaths = 1; !signal.aborted; deaths += 1) {
    progress(`${what} ${reason}; starting it again`)
    try {
      return await restart()
    } catch (error) {
      reason = `does not start again: ${(error as Error).message}`
    }
    await delay(pauseMs(deaths), undefined, { signal }).catch(() => {}) // aborted: the shop stops
  }
}

/** Returns the URL of each owner's database, in their order. */
function makeDatabases(deployer: Deployer, postgres: StackPostgres, secrets: Secrets, settings: StackSettings) {
  const databases = databaseOwners.map((name) => ({
    name: `shopstream_${name}`,
    password: secrets.databasePasswords[name] ?? '',
  }))
  const made = deployer.run({ task: 'databases', adminUrl: postgres.url, databases })
  return blame(settings.POSTGRES_URL && 'POSTGRES_URL', made)
}

async function makeTopics(
  { home, settings, progress, begun }: Launch,
  deployer: Deployer,
  { brokers, schemas }: { brokers: string[]; schemas: string },
): Promise<void> {
  if (!settings.KAFKA_BROKERS) progress(`Kafka takes requests ${since(begun)}`)
  const { KAFKA_TOPIC_PREFIX: topicPrefix } = settings
  const topics = deployer.run({ task: 'topics', brokers, topicPrefix, groups: [...databaseOwners] })
  await blame(settings.KAFKA_BROKERS && `KAFKA_BROKERS (${brokers})`, topics)
  writePrivate(deployedFile(home), schemas)
  deployer.close()
}

function startServices({ options, env, home, only, progress }: Launch, around: Surroundings) {
  const { ports, identitySecret = '' } = around
  const givenUp = Promise.withResolvers<never>()
  givenUp.promise.catch(() => {})
  const started = only.map((name): [ServiceName, SupervisedService] => {
    const environment = serviceEnvironment(name, around)
    const service = supervise({
      name,
      command: process.execPath,
      args: [...nodeFlags, `services/${name}/src/main.ts`],
      get cwd() {
        return options.codeOf?.(name) ?? repository
      },
      env: processEnvironment(env, options.around?.(name, environment) ?? environment),
      pidFile: pidFile(home, name),
      readyUrl: `${serviceUrl(name, ports)}/readyz`,
      isGenuine: (signal) => isGenuine(name, ports, identitySecret, signal),
      onLine: (line) => options.onLine?.(name, line),
      onEvent: progress,
      onGivenUp: (reason) => {
        progress(`ERROR: ${reason}`)
        givenUp.reject(new Error(reason))
      },
    })
    return [name, service]
  })
  return { services: Object.fromEntries(started) as Shop['services'], givenUp: givenUp.promise }
}

function shopOf(
  { home, beside, settings, stop }: Launch,
  { ports, secrets, databaseUrl }: Surroundings,
  parts: Pick<Shop, 'services' | 'kafka' | 'postgres' | 'mail' | 'companions'>,
): Shop {
  const urls = serviceNames.map((name) => [name, serviceUrl(name, ports)])
  return {
    home,
    gatewayUrl: urlOf(ports.GATEWAY_PORT),
    mailUrl: urlOf(ports.MAIL_UI_PORT),
    companionUrls: companionUrls(beside, ports, secrets),
    ports,
    staff: { email: settings.STAFF_EMAIL, password: settings.STAFF_PASSWORD ?? secrets.staffPassword },
    topicPrefix: settings.KAFKA_TOPIC_PREFIX,
    serviceUrls: Object.fromEntries(urls) as Shop['serviceUrls'],
    ...parts,
    databaseUrl,
    startedInMs: 0,
    stop,
  }
}

async function stopInOrder(undo: UndoStep[]): Promise<void> {
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

function describe(shop: Shop): RunningShop {
  return {
    pid: process.pid,
    gatewayUrl: shop.gatewayUrl,
    mailUrl: shop.mailUrl,
    companionUrls: shop.companionUrls,
    smtpUrl: shop.mail.smtpUrl,
    brokers: shop.kafka.brokers,
    topicPrefix: shop.topicPrefix,
    postgresUrl: shop.postgres.url,
    databaseUrls: Object.fromEntries(databaseOwners.map((name) => [name, shop.databaseUrl(name)])),
    staff: shop.staff,
    services: shop.serviceUrls,
  }
}
