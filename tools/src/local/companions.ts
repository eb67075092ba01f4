import { existsSync } from 'node:fs'
import { join } from 'node:path'
import {
  type BrokerOptions,
  brokerUrl,
  type LocalProcess,
  repository,
  startNats,
  startRabbitmq,
  startRedis,
  startZipkin,
  stopLeftoverNats,
  stopLeftoverRabbitmq,
  stopLeftoverRedis,
  stopLeftoverZipkin,
  whyNoNats,
  whyNoRabbitmq,
  whyNoRedis,
  whyNoZipkin,
} from '@shopstream/local-servers'
import type { PortName, Ports } from './settings.ts'
import type { Secrets } from './state-folder.ts'

interface CompanionOptions extends BrokerOptions {
  env: NodeJS.ProcessEnv
  progress: (line: string) => void
}

/** What may run beside the shop. Its state is kept in a folder of its name. */
interface Companion {
  title: string
  purpose: string
  port: PortName
  /** By which it is told to who uses it. */
  variable: string
  url: (port: number, password: string) => string
  /** What this machine lacks for it, in words; undefined: nothing. */
  whyNot: (env: NodeJS.ProcessEnv) => string | undefined | Promise<string | undefined>
  start: (options: CompanionOptions) => Promise<LocalProcess>
  stopLeftover: (dir: string) => Promise<boolean>
}

const broker = (scheme: string) => (port: number, password: string) => brokerUrl(scheme, { port, password })

const table = {
  rabbitmq: {
    title: 'RabbitMQ',
    purpose: 'a broker of AMQP, for bridges',
    port: 'RABBITMQ_PORT',
    variable: 'RABBITMQ_URL',
    url: broker('amqp'),
    whyNot: whyNoRabbitmq,
    start: startRabbitmq,
    stopLeftover: stopLeftoverRabbitmq,
  },
  redis: {
    title: 'Redis',
    purpose: 'or Valkey, for bridges and Celery',
    port: 'REDIS_PORT',
    variable: 'REDIS_URL',
    url: broker('redis'),
    whyNot: whyNoRedis,
    start: startRedis,
    stopLeftover: stopLeftoverRedis,
  },
  nats: {
    title: 'NATS',
    purpose: 'with JetStream, for bridges',
    port: 'NATS_PORT',
    variable: 'NATS_URL',
    url: broker('nats'),
    whyNot: whyNoNats,
    start: startNats,
    stopLeftover: stopLeftoverNats,
  },
  zipkin: {
    title: 'Zipkin',
    purpose: 'shows each order as one trace; the same as --traces',
    port: 'ZIPKIN_PORT',
    variable: 'ZIPKIN_URL',
    url: (port: number) => `http://127.0.0.1:${port}`,
    whyNot: whyNoZipkin,
    start: startZipkin,
    stopLeftover: stopLeftoverZipkin,
  },
} satisfies Record<string, Companion>

export type CompanionName = keyof typeof table
export const companions: Readonly<Record<CompanionName, Companion>> = table
export const companionNames = Object.keys(table) as CompanionName[]

export interface CompanionStart extends Omit<CompanionOptions, 'dir' | 'port' | 'password'> {
  home: string
  ports: Ports
  secrets: Secrets
}

/** Starts it on its port, with the state that it has in the folder of the shop's. */
export function startCompanion(name: CompanionName, { home, ports, secrets, ...rest }: CompanionStart) {
  const { port, start } = companions[name]
  const password = secrets.companionPasswords[name] ?? ''
  return start({ dir: join(home, name), port: ports[port], password, ...rest })
}

/** The URL of each of these, by the variable that tells it. */
export const companionUrls = (names: readonly CompanionName[], ports: Ports, secrets: Secrets) =>
  Object.fromEntries(
    names.map((name) => {
      const { variable, url, port } = companions[name]
      return [variable, url(ports[port], secrets.companionPasswords[name] ?? '')]
    }),
  )

/**
 * What the bridge is told about these: their URLs, and its files for them where there are any. What the environment says of
 * bridges is told as well, as others read it where this is written down, such as `verify`.
 */
export function bridgeSettings(
  names: readonly CompanionName[],
  urls: Record<string, string>,
  env: NodeJS.ProcessEnv,
): Record<string, string> {
  const files = names.map((name) => join(repository, `infra/bridges/${name}.yaml`)).filter((file) => existsSync(file))
  if (env.BRIDGES) return { ...brokerVariables(env), ...urls, BRIDGES: env.BRIDGES }
  const told = env.BRIDGES_FILE || files.join()
  return { ...brokerVariables(env), ...urls, ...(told && { BRIDGES_FILE: told }) }
}

/** Variables that a row of a table may name. */
const brokerVariables = (env: NodeJS.ProcessEnv) =>
  Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      value && /^(amqps?|rediss?|nats):\/\//.test(value) ? [[name, value]] : [],
    ),
  )

/** Reads `--with`: names between commas. Throws with what is unknown. */
export function readCompanions(list: string): CompanionName[] {
  const wanted = list
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean)
  const unknown = wanted.filter((name) => !companionNames.includes(name as CompanionName))
  if (unknown.length > 0)
    throw new Error(`--with: nothing is called ${unknown.join(', ')}; there are ${companionNames.join(', ')}`)
  return companionNames.filter((name) => wanted.includes(name))
}

/** Throws, with how to get them, where this machine lacks some of these. */
export async function requireCompanions(names: readonly CompanionName[], env: NodeJS.ProcessEnv): Promise<void> {
  const reasons = await Promise.all(names.map((name) => companions[name].whyNot(env)))
  const lacking = names.flatMap((name, n) => (reasons[n] ? `${companions[name].title} ${reasons[n]}` : []))
  if (lacking.length > 0) throw new Error(`not everything that --with names is on this machine.\n${lacking.join('\n')}`)
}

/** What there is, and whether this machine has it, for `npm start -- --with`. */
export async function listCompanions(env: NodeJS.ProcessEnv): Promise<string> {
  const lines = companionNames.map(async (name) => {
    const { title, purpose, port, variable, whyNot } = companions[name]
    const state = (await whyNot(env)) ?? `is on this machine; its port is ${port}, its URL is told as ${variable}`
    return `  ${name.padEnd(10)}${title}, ${purpose}\n${' '.repeat(12)}${state}`
  })
  return `npm start -- --with LIST starts beside the shop:\n\n${(await Promise.all(lines)).join('\n')}\n`
}
