import {
  ConfigError,
  dataSettings,
  kafkaIdentitySettings,
  readConfig,
  type Static,
  settings,
  Type,
} from '@shopstream/config'
import { freePort, isFree } from '@shopstream/local-servers'
import { services, settingsOf } from '../services.ts'

/** What of the environment concerns the stack itself; everything else reaches the services as it is. */
const schema = Type.Object({
  KAFKA_BROKERS: Type.Optional(dataSettings.KAFKA_BROKERS),
  KAFKA_TOPIC_PREFIX: dataSettings.KAFKA_TOPIC_PREFIX,
  ...kafkaIdentitySettings,
  POSTGRES_URL: Type.Optional(
    settings.url('a Postgres that runs already, with a role that may create roles and databases', {
      protocols: ['postgres', 'postgresql'],
      example: 'postgres://postgres:password@127.0.0.1:5432/postgres',
    }),
  ),
  STAFF_EMAIL: settings.text('address of the staff account', { defaultValue: 'staff@shop.example' }),
  STAFF_PASSWORD: Type.Optional(settings.secret('password of the staff account', { minLength: 12 })),
})

export type StackSettings = Readonly<Static<typeof schema>>

/** Default ports. A busy one moves; one that the environment sets does not. */
export const defaultPorts = {
  GATEWAY_PORT: 8080,
  ...settingsOf('PORT', (name) => services[name].port),
  GATEWAY_METRICS_PORT: 8089,
  MAIL_UI_PORT: 1080,
  SMTP_PORT: 1025,
  KAFKA_PORT: 9092,
  POSTGRES_PORT: 54_320,
  ZIPKIN_PORT: 9411,
  RABBITMQ_PORT: 5672,
  REDIS_PORT: 6379,
  NATS_PORT: 4222,
}

export type PortName = keyof typeof defaultPorts
export type Ports = Record<PortName, number>
const portNames = Object.keys(defaultPorts) as PortName[]
const port = Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535, description: 'a port of this machine' }))

/** Reads the stack's settings; throws a ConfigError with everything that is wrong, ports included. */
export function readStackSettings(env: NodeJS.ProcessEnv): { settings: StackSettings; explicit: Partial<Ports> } {
  const problems: string[] = []
  const attempt = <T>(read: () => T): T | undefined => {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      problems.push(...error.problems)
      return undefined
    }
  }
  const own = attempt(() => readConfig(schema, env))
  const explicit: Partial<Ports> = {}
  for (const name of portNames)
    Object.assign(
      explicit,
      attempt(() => readConfig(Type.Object({ [name]: port }), env)),
    )
  for (const name of portNames) {
    const twin = portNames.find((other) => other !== name && explicit[other] && explicit[other] === explicit[name])
    if (twin && name < twin)
      problems.push(`${name} and ${twin} are both ${explicit[name]}: give each a port of its own`)
  }
  if (own && !own.KAFKA_BROKERS) problems.push(...withoutBrokers(own))
  if (!own || problems.length > 0) throw new ConfigError(problems)
  return { settings: own, explicit }
}

/** The Kafka that the stack starts speaks neither TLS nor SASL: it listens on this machine alone. */
const withoutBrokers = (own: StackSettings) =>
  (['KAFKA_TLS', 'KAFKA_SASL_MECHANISM'] as const)
    .filter((name) => own[name])
    .map((name) => `${name} is for a Kafka that runs already: name it by KAFKA_BROKERS, or leave ${name} out`)

/** A free port for everything, far from the defaults: stacks that start side by side do not choose the same. */
export async function ownPorts(): Promise<Ports> {
  const pairs = portNames.map(async (name) => [name, await freePort()])
  return Object.fromEntries(await Promise.all(pairs))
}

/** Chooses all ports; throws a ConfigError that names each busy one that was set explicitly. `unused` ones are not checked. */
export async function choosePorts(explicit: Partial<Ports>, unused: ReadonlySet<PortName> = new Set()): Promise<Ports> {
  const problems: string[] = []
  const taken = new Set(Object.values(explicit))
  const ports = {} as Ports
  for (const name of portNames) {
    const wanted = explicit[name]
    if (unused.has(name)) ports[name] = wanted ?? defaultPorts[name]
    else if (wanted === undefined)
      ports[name] = await freePort(taken.has(defaultPorts[name]) ? undefined : defaultPorts[name])
    else if (await isFree(wanted)) ports[name] = wanted
    else problems.push(`${name} is ${wanted}, but something listens on that port already: stop it, or set another port`)
  }
  if (problems.length > 0) throw new ConfigError(problems)
  return ports
}
