import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  createSteppedClock,
  freePort,
  type KafkaListener,
  type Mail,
  type MailSinkOptions,
  type MailTrouble,
  repository,
  type SteppedClock,
  startTcpProxy,
  type TcpProxy,
} from '@shopstream/testing'
import { processEnvironment } from '../../local/environments.ts'
import { type ServiceName, serviceNames } from '../../local/services.ts'
import { ownPorts } from '../../local/settings.ts'
import { type Mailbox, nodeFlags, type Shop, startShop } from '../../local/shop.ts'
import { type SupervisedService, supervise } from '../../local/supervisor.ts'
import { type Owner, owners, type Reach, reach } from '../../operations/reach.ts'
import { thisVersion, type Version } from './previous.ts'

/** What services reach over a network that can fail. */
const servers = ['kafka', 'postgres'] as const
type Server = (typeof servers)[number]
export type LinkName = `${Owner}-${Server}`
export const linkNames = owners.flatMap((owner) => servers.map((server): LinkName => `${owner}-${server}`))

/** A whole shop in which everything can be made to fail. */
export interface Arena {
  readonly shop: Shop
  /** By ways of its own, which no fault touches. */
  readonly reach: Reach
  /** The SMTP server, a process of its own. */
  readonly smtp: SupervisedService
  /** The network between a service and Kafka or Postgres. */
  readonly links: Readonly<Record<LinkName, TcpProxy>>
  /** The wall clock of each service. */
  readonly clocks: Readonly<Record<ServiceName, SteppedClock>>
  /** Every mail that was accepted, or left without an answer. */
  mails(): Mail[]
  /** What the SMTP server does with the mails that come from now on; undefined: answers them. */
  troubleMails(trouble: MailTrouble | undefined): void
  /** Starts another instance of a service beside the first, on the same database and in the same group. */
  startBeside(service: Owner, version: Version): Promise<SupervisedService>
  /** Ends a service and starts it again as another version, with the same address and all else that it has. */
  roll(service: ServiceName, version: Version): void
  /** Stops everything. */
  close(): Promise<void>
}

export interface ArenaOptions {
  /** Holds everything of the run. */
  folder: string
  /** What clients of the run and the operators' commands are told, too. */
  env: Record<string, string>
  progress(line: string): void
  signal: AbortSignal
}

const mailsKept = 1_000_000

/** Starts it; returns when the shop is ready. */
export async function openArena({ folder, env, progress, signal }: ArenaOptions): Promise<Arena> {
  const home = join(folder, 'shop')
  const logs = join(folder, 'logs')
  mkdirSync(logs, { recursive: true })
  const log = (name: string, line: string) => appendFileSync(join(logs, `${name}.log`), `${line}\n`)
  const say = (line: string) => {
    log('stack', `${new Date().toISOString()} ${line}`)
    progress(line)
  }
  const environment = { ...withoutServers(process.env), ...env }
  const ports = await ownPorts()
  const links = {} as Record<LinkName, TcpProxy>
  const kafkaListeners: KafkaListener[] = []
  for (const owner of owners) {
    const port = await freePort()
    const proxy = await startTcpProxy({ target: port })
    links[`${owner}-kafka`] = proxy
    links[`${owner}-postgres`] = await startTcpProxy({ target: ports.POSTGRES_PORT })
    kafkaListeners.push({ name: owner.toUpperCase(), port, advertisedPort: proxy.port })
  }
  const clocks = Object.fromEntries(
    serviceNames.map((name) => [name, createSteppedClock(join(folder, `${name}.clock`))]),
  ) as Arena['clocks']

  const environments = {} as Record<ServiceName, Record<string, string>>
  const around = (name: ServiceName, own: Record<string, string>) => {
    const clock = clocks[name]
    const throughLinks = isOwner(name) && {
      KAFKA_BROKERS: `127.0.0.1:${links[`${name}-kafka`].port}`,
      DATABASE_URL: withPort(own.DATABASE_URL ?? '', links[`${name}-postgres`].port),
      DATABASE_DIRECT_URL: withPort(own.DATABASE_DIRECT_URL ?? '', links[`${name}-postgres`].port),
    }
    environments[name] = { ...own, ...throughLinks, ...clock.env, NODE_OPTIONS: clock.nodeArgs.join(' ') }
    return environments[name]
  }

  const store = join(folder, 'mails.jsonl')
  const mailTrouble = join(folder, 'mail-trouble.json')
  const readMails = () => (existsSync(store) ? wholeLines(readFileSync(store, 'utf8')) : [])
  let smtp: SupervisedService | undefined
  const startMail = async ({ smtpPort, uiPort }: MailSinkOptions): Promise<Mailbox> => {
    smtp = supervise({
      name: 'smtp',
      command: process.execPath,
      args: [...nodeFlags, 'libs/local-servers/src/mail-sink-main.ts'],
      cwd: repository,
      env: processEnvironment(environment, {
        SMTP_PORT: String(smtpPort),
        MAIL_UI_PORT: String(uiPort),
        MAIL_STORE: store,
        MAIL_KEEP: String(mailsKept),
        MAIL_TROUBLE: mailTrouble,
      }),
      pidFile: join(home, 'smtp.pid'),
      readyUrl: `http://127.0.0.1:${uiPort}/healthz`,
      onLine: (line) => log('smtp', line),
      onEvent: say,
      onGivenUp: say,
    })
    return { smtpUrl: `smtp://127.0.0.1:${smtpPort}`, mails: readMails, close: async () => smtp?.stop(2_000) }
  }

  const versions = new Map<ServiceName, Version>()

  let shop: Shop
  try {
    shop = await startShop({
      home,
      env: environment,
      ports,
      around,
      codeOf: (service) => (versions.get(service) ?? thisVersion).folder,
      kafkaListeners,
      startMail,
      onLine: log,
      onProgress: say,
      signal,
    })
  } catch (error) {
    await Promise.all(Object.values(links).map((link) => link.close()))
    throw error
  }
  const hold = await reach(
    {
      brokers: shop.kafka.brokers,
      topicPrefix: shop.topicPrefix,
      databaseUrls: Object.fromEntries(owners.map((owner) => [owner, shop.databaseUrl(owner)])) as Record<
        Owner,
        string
      >,
      serviceUrls: shop.serviceUrls,
    },
    'silent', // faults make its clients complain
  )
  const beside = new Set<SupervisedService>()

  return {
    shop,
    reach: hold,
    smtp: smtp as unknown as SupervisedService,
    links,
    clocks,
    mails: readMails,
    troubleMails(trouble) {
      if (!trouble) return rmSync(mailTrouble, { force: true })
      writeFileSync(`${mailTrouble}.new`, JSON.stringify(trouble))
      renameSync(`${mailTrouble}.new`, mailTrouble)
    },
    async startBeside(service, { folder: code }) {
      const port = await freePort()
      const name = `${service}-beside`
      const second = supervise({
        name,
        command: process.execPath,
        args: [...nodeFlags, `services/${service}/src/main.ts`],
        cwd: code,
        env: processEnvironment(environment, { ...environments[service], PORT: String(port) }),
        pidFile: join(home, `${name}.pid`),
        readyUrl: `http://127.0.0.1:${port}/readyz`,
        onLine: (line) => log(name, line),
        onEvent: say,
        onGivenUp: say,
      })
      beside.add(second)
      return second
    },
    roll(service, version) {
      versions.set(service, version)
      shop.services[service]?.kill('SIGTERM')
    },
    async close() {
      for (const link of Object.values(links)) link.heal()
      await Promise.all([hold.close(), ...[...beside].map((one) => one.stop(3_000))])
      await shop.stop()
      await Promise.all(Object.values(links).map((link) => link.close()))
    },
  }
}

const isOwner = (name: ServiceName): name is Owner => (owners as readonly string[]).includes(name)

/** The run has servers of its own, whatever this process would use. */
const withoutServers = ({ KAFKA_BROKERS: _, POSTGRES_URL: __, SHOPSTREAM_HOME: ___, ...env }: NodeJS.ProcessEnv) => env

function withPort(url: string, port: number): string {
  const changed = new URL(url)
  changed.port = String(port)
  return changed.href
}

/** The last line may be half written. */
const wholeLines = (text: string): Mail[] =>
  text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
