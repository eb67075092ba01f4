import { ConfigError, readConfig, type TObject } from '@shopstream/config'
import {
  type ServiceName as DataServiceName,
  serviceNames as databaseOwners,
  settingsOf,
  variableOf,
} from '../services.ts'
import { bridgeSettings, type CompanionName, companionNames, companions, companionUrls } from './companions.ts'
import { defaultPorts, type PortName, type Ports, readStackSettings, type StackSettings } from './settings.ts'
import type { Secrets } from './state-folder.ts'

export { databaseOwners }
/** A service with a database, or the gateway. */
export type ServiceName = DataServiceName | 'gateway'
/** Every service of the stack, in the order in which they are started. */
export const serviceNames: readonly ServiceName[] = [...databaseOwners, 'gateway']

/** What a service's environment is made from. */
export interface Surroundings {
  ports: Ports
  brokers: string[]
  /** Its own database; undefined for a service without one. */
  databaseUrl: (service: ServiceName) => string
  smtpUrl: string
  secrets: Secrets
  settings: StackSettings
  /** By which the gateway knows its services. */
  identitySecret?: string
  /** Variables that say where spans go. */
  tracing?: Record<string, string>
  /** Variables that say where the companions are. */
  companions?: Record<string, string>
}

export const urlOf = (port: number) => `http://127.0.0.1:${port}`
/** Where a service's own HTTP is. */
export const serviceUrl = (name: ServiceName, ports: Ports) => urlOf(ports[portVariable(name)])

export const portVariable = (name: ServiceName) => (name === 'gateway' ? 'GATEWAY_PORT' : variableOf(name, 'PORT'))

/** Ports on which this stack starts nothing, so that it does not matter whether they are busy. */
export function unusedPorts(
  settings: { KAFKA_BROKERS?: string[]; POSTGRES_URL?: string },
  only: readonly ServiceName[],
  beside: readonly CompanionName[] = [],
): Set<PortName> {
  const unused = new Set<PortName>(serviceNames.filter((name) => !only.includes(name)).map(portVariable))
  if (settings.KAFKA_BROKERS) unused.add('KAFKA_PORT')
  if (settings.POSTGRES_URL) unused.add('POSTGRES_PORT')
  for (const name of companionNames) if (!beside.includes(name)) unused.add(companions[name].port)
  if (!only.includes('gateway')) unused.add('GATEWAY_METRICS_PORT')
  return unused
}

/** What one service alone needs in its environment. */
const ownSettings: Partial<Record<ServiceName, (around: Surroundings) => Record<string, string>>> = {
  user: ({ secrets, settings }) => ({
    KEY_ENCRYPTION_SECRET: secrets.keyEncryptionSecret,
    STAFF_EMAIL: settings.STAFF_EMAIL,
    STAFF_PASSWORD: settings.STAFF_PASSWORD ?? secrets.staffPassword,
  }),
  inventory: () => ({ SEED_CATALOGUE: 'true' }),
  notification: ({ smtpUrl, ports }) => ({
    SMTP_URL: smtpUrl,
    MAIL_FROM: 'shopstream <shop@shop.example>',
    PUBLIC_URL: urlOf(ports.GATEWAY_PORT),
  }),
  gateway: ({ ports }) => ({
    METRICS_PORT: String(ports.GATEWAY_METRICS_PORT),
    SCHEMA_REGISTRY_ACCESS: 'anonymous', // it listens on this machine alone
    ...settingsOf('URL', (name) => serviceUrl(name, ports)),
  }),
}

/** The whole environment of a service as the stack runs it, without what it inherits. */
export function serviceEnvironment(name: ServiceName, around: Surroundings): Record<string, string> {
  return {
    HOST: '127.0.0.1',
    PORT: String(around.ports[portVariable(name)]),
    // The stack stops everything within 10 s, Kafka after the services.
    SHUTDOWN_TIMEOUT_MS: '4000',
    ...(around.identitySecret && { SERVICE_IDENTITY_SECRET: around.identitySecret }),
    ...(name !== 'gateway' && {
      DATABASE_URL: around.databaseUrl(name),
      DATABASE_DIRECT_URL: around.databaseUrl(name), // whatever the shell that starts the stack has
      KAFKA_BROKERS: around.brokers.join(),
      KAFKA_TOPIC_PREFIX: around.settings.KAFKA_TOPIC_PREFIX,
    }),
    ...ownSettings[name]?.(around),
    ...around.tracing,
    ...(name === 'bridge' && around.companions),
  }
}

/** Stands for values that only exist after the start, so that all others can be judged before it. */
const example: Omit<Surroundings, 'settings'> = {
  ports: defaultPorts,
  brokers: ['127.0.0.1:9092'],
  databaseUrl: () => 'postgres://role:password@127.0.0.1/database',
  smtpUrl: 'smtp://127.0.0.1:1025',
  secrets: {
    keyEncryptionSecret: 'x'.repeat(32),
    staffPassword: 'x'.repeat(32),
    postgresPassword: '',
    databasePasswords: {},
    companionPasswords: {},
  },
}

/** A service's `config.ts`. */
interface ConfigModule {
  configSchema: TObject
  /** Throws a ConfigError for what the schema cannot say. */
  checkConfig?: (config: unknown, env?: NodeJS.ProcessEnv) => unknown
}

export const configOf = (name: ServiceName): Promise<ConfigModule> => import(`../../../services/${name}/src/config.ts`)

/**
 * Reads the stack's settings, and judges the environment of each service that would be started by the service's own
 * rules. Throws one ConfigError with everything that is wrong, the first problem of each variable.
 */
export async function readSettings(
  env: NodeJS.ProcessEnv,
  only: readonly ServiceName[] = serviceNames,
  beside: readonly CompanionName[] = [],
) {
  const own = problemsOf(() => readStackSettings(env))
  const { settings } = own.value ?? readStackSettings({ STAFF_EMAIL: env.STAFF_EMAIL })
  const perService = only.map(async (name) => {
    const { configSchema, checkConfig } = await configOf(name)
    const told = bridgeSettings(beside, companionUrls(beside, example.ports, example.secrets), env)
    const environment = { ...env, ...serviceEnvironment(name, { ...example, companions: told, settings }) }
    const judge = (set: NodeJS.ProcessEnv) =>
      problemsOf(() => checkConfig?.(readConfig(configSchema, set), set)).problems
    const first = judge(environment)
    // Without what is wrong by the schema, the rest is judged as well.
    const without = Object.fromEntries(first.map((problem) => [variableIn(problem), undefined]))
    return first.length === 0 ? [] : [...first, ...judge({ ...environment, ...without })]
  })
  const problems = [...own.problems, ...(await Promise.all(perService)).flat()]
  const firstOfEach = new Map(problems.toReversed().map((problem) => [variableIn(problem), problem]))
  if (!own.value || problems.length > 0) throw new ConfigError([...firstOfEach.values()].reverse().map(withCompanion))
  return own.value
}

/** The URL of what can be started beside the shop is told by that. */
const withCompanion = (problem: string) => {
  const name = companionNames.find((one) => problem.startsWith(`${companions[one].variable} is missing`))
  return name ? `${problem}; or start it beside the shop: --with ${name}` : problem
}

/** A problem begins with the variable that it is about, or is about none: such as a row of the bridges' table. */
const variableIn = (problem: string) => /^[A-Z][A-Z0-9_]*(?= )/.exec(problem)?.[0] ?? problem

function problemsOf<T>(read: () => T): { value?: T; problems: string[] } {
  try {
    return { value: read(), problems: [] }
  } catch (error) {
    if (error instanceof ConfigError) return { problems: error.problems }
    throw error
  }
}
