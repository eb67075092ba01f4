import {
  databaseOwners,
  type ServiceName,
  type Surroundings,
  serviceEnvironment,
  serviceNames,
} from '../local/services.ts'
import { defaultPorts, readStackSettings } from '../local/settings.ts'
import { settingsOf } from '../services.ts'

export { databaseOwners, defaultPorts, type ServiceName, serviceNames }

/** The port that every image listens on; Dockerfile says it. */
const containerPort = 8080

/** Stands where a secret would: the container is told a file. */
const inFile = 'in a file of its own'.padEnd(32, '.')

/** What is around a container, as `npm start` has it around a process. */
const around: Surroundings = {
  ports: defaultPorts,
  brokers: ['kafka:9093'],
  databaseUrl: () => inFile,
  smtpUrl: 'smtp://mail:1025',
  secrets: {
    keyEncryptionSecret: inFile,
    staffPassword: inFile,
    postgresPassword: inFile,
    databasePasswords: {},
    companionPasswords: {},
  },
  settings: readStackSettings({}).settings,
  identitySecret: inFile,
}

/** What a process of `npm start` is told and a container is not, and why. */
export const ofProcessesAlone: ReadonlySet<string> = new Set([
  'HOST', // the image's
  'PORT',
  'DATABASE_DIRECT_URL', // keeps out what the shell of `npm start` has
  'KAFKA_TOPIC_PREFIX',
])

/** The gateway's metrics are asked by others than its own container. */
const besides: Partial<Record<ServiceName, Record<string, string>>> = { gateway: { METRICS_HOST: '0.0.0.0' } }

/** Handed on from whoever runs the containers. */
export const tracingSettings = [
  'OTEL_EXPORTER_OTLP_ENDPOINT',
  'OTEL_EXPORTER_OTLP_PROTOCOL',
  'OTEL_TRACES_SAMPLER',
  'OTEL_TRACES_SAMPLER_ARG',
]

/** Where bridges lead, with the password. */
export const bridgeUrls = ['RABBITMQ_URL', 'REDIS_URL', 'NATS_URL']

/** Said by whoever deploys, or by nobody: to the bridge service, and to operators, whose `verify` asks the brokers. */
export const bridgeSettings = ['BRIDGES', 'BRIDGES_FILE', ...bridgeUrls]

/** A setting by its value, or by the file that holds it. */
export interface ContainerSetting {
  name: string
  value: string
  isSecret: boolean
}

/** The value of each `…_URL` by which the gateway finds the services. */
export const serviceUrls = (hostOf: (name: string) => string) =>
  settingsOf('URL', (name) => `http://${hostOf(name)}:${containerPort}`)

/**
 * What a service's container is told of what `npm start` tells its process. A secret's value is the name of its file, as the
 * operators' command `secrets` has it.
 * @param said by a platform in place of what is said on one machine.
 */
export function containerSettings(name: ServiceName, said: Record<string, string>): ContainerSetting[] {
  const all = { ...serviceEnvironment(name, around), ...besides[name] }
  return Object.entries(all)
    .filter(([key]) => !ofProcessesAlone.has(key))
    .map(([key, value]) => {
      const isSecret = value === inFile
      // The whole time to stop is the container's own.
      const changed = { SHUTDOWN_TIMEOUT_MS: '10000', ...said }[key] ?? value
      return { name: key, value: isSecret ? fileOf(key) : changed, isSecret }
    })
}

/** What the operators' program is told of the databases, and of whom it may ask. */
export function operatorSettings(hostOf: (name: string) => string) {
  const secrets = settingsOf('DATABASE_URL', (name) => `${name}-database-url`)
  return { secrets, urls: { ...serviceUrls(hostOf), GATEWAY_URL: `http://${hostOf('gateway')}:${containerPort}` } }
}

/** As the operators' command `secrets` names it. */
export const fileOf = (key: string) =>
  key
    .replace(/^SERVICE_/, '')
    .toLowerCase()
    .replaceAll('_', '-')

/** What `npm start` says where whoever deploys has said nothing. */
export const staffEmail = around.settings.STAFF_EMAIL
