import { appendFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createSteppedClock, freePort, type Mail, type MailTrouble, type SteppedClock } from '@shopstream/testing'
import { type ServiceName, serviceNames } from '../../local/services.ts'
import { ownPorts } from '../../local/settings.ts'
import { type Shop, startShop } from '../../local/shop.ts'
import type { SupervisedService } from '../../local/supervisor.ts'
import { type Owner, owners, type Reach, reach } from '../../operations/shop-access.ts'
import { createMailServer } from './mail-server.ts'
import { closeLinks, type Links, openLinks, throughLinks } from './network-links.ts'
import { thisVersion, type Version } from './previous-version.ts'
import { type NodeLaunch, type ProcessSurroundings, superviseNode } from './processes.ts'

/** A whole shop in which everything can be made to fail. */
export interface Arena {
  readonly shop: Shop
  /** By ways of its own, which no fault touches. */
  readonly reach: Reach
  /** The SMTP server, a process of its own. */
  readonly smtp: SupervisedService
  /** The network between a service and Kafka or Postgres. */
  readonly links: Links
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

/** Starts it; returns when the shop is ready. */
export async function openArena({ folder, env, progress, signal }: ArenaOptions): Promise<Arena> {
  const surroundings = surroundingsOf(folder, { ...withoutServers(process.env), ...env }, progress)
  const ports = await ownPorts()
  const { links, kafkaListeners } = await openLinks(ports.POSTGRES_PORT)
  const clocks = Object.fromEntries(
    serviceNames.map((name) => [name, createSteppedClock(join(folder, `${name}.clock`))]),
  ) as Arena['clocks']
  const environments = {} as Record<ServiceName, Record<string, string>>
  const around = (name: ServiceName, own: Record<string, string>) => {
    const clock = clocks[name]
    const linked = { ...own, ...throughLinks(links, name, own) }
    environments[name] = { ...linked, ...clock.env, NODE_OPTIONS: clock.nodeArgs.join(' ') }
    return environments[name]
  }
  const mail = createMailServer(folder, surroundings)
  const versions = new Map<ServiceName, Version>()

  let shop: Shop
  try {
    shop = await startShop({
      home: surroundings.home,
      env: surroundings.env,
      ports,
      around,
      codeOf: (service) => (versions.get(service) ?? thisVersion).folder,
      kafkaListeners,
      startMail: mail.start,
      onLine: surroundings.log,
      onProgress: surroundings.say,
      signal,
    })
  } catch (error) {
    await closeLinks(links)
    throw error
  }
  const hold = await reachPastFaults(shop)
  const beside = new Set<SupervisedService>()

  return {
    shop,
    reach: hold,
    smtp: mail.process as SupervisedService,
    links,
    clocks,
    mails: mail.mails,
    troubleMails: mail.trouble,
    async startBeside(service, version) {
      const port = await freePort()
      const second = superviseNode(surroundings, launchBeside(service, version, port, environments[service]))
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
      await closeLinks(links)
    },
  }
}

/** Each process has a log of its own; what becomes of them stands in that of the stack, too. */
function surroundingsOf(folder: string, env: NodeJS.ProcessEnv, progress: ArenaOptions['progress']) {
  const logs = join(folder, 'logs')
  mkdirSync(logs, { recursive: true })
  const log = (name: string, line: string) => appendFileSync(join(logs, `${name}.log`), `${line}\n`)
  const say = (line: string) => {
    log('stack', `${new Date().toISOString()} ${line}`)
    progress(line)
  }
  return { home: join(folder, 'shop'), env, log, say } satisfies ProcessSurroundings
}

/** The run has servers of its own, whatever this process would use. */
const withoutServers = ({ KAFKA_BROKERS: _, POSTGRES_URL: __, SHOPSTREAM_HOME: ___, ...env }: NodeJS.ProcessEnv) => env

/** By the servers' own addresses, and not by the links that fail. */
function reachPastFaults(shop: Shop): Promise<Reach> {
  const urls = owners.map((owner) => [owner, shop.databaseUrl(owner)])
  return reach(
    {
      brokers: shop.kafka.brokers,
      topicPrefix: shop.topicPrefix,
      databaseUrls: Object.fromEntries(urls) as Record<Owner, string>,
      serviceUrls: shop.serviceUrls,
    },
    'silent', // faults make its clients complain
  )
}

/** Another instance of a service has all that the first has but its port. */
const launchBeside = (
  service: Owner,
  { folder }: Version,
  port: number,
  environment: Record<string, string>,
): NodeLaunch => ({
  name: `${service}-beside`,
  script: `services/${service}/src/main.ts`,
  cwd: folder,
  env: { ...environment, PORT: String(port) },
  readyUrl: `http://127.0.0.1:${port}/readyz`,
})
