import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  databaseOwners,
  type ServiceName,
  type Surroundings,
  serviceEnvironment,
  serviceNames,
} from '../local/services.ts'
import { defaultPorts, readStackSettings } from '../local/settings.ts'
import { type ServiceName as DataServiceName, variableOf } from '../services.ts'

const composeTemplate = 'infra/container/docker-compose.yml.template'

/** Stands where a secret would: the container is told a file. */
const inFile = 'in a file of its own'.padEnd(32, '.')

/** What is around a container, as `npm start` has it around a process. */
const around: Surroundings = {
  ports: defaultPorts,
  brokers: ['kafka:9093'],
  databaseUrl: () => inFile,
  smtpUrl: 'smtp://mail:1025',
  secrets: { keyEncryptionSecret: inFile, staffPassword: inFile, postgresPassword: inFile, databasePasswords: {} },
  settings: readStackSettings({}).settings,
  identitySecret: inFile,
}

/** What a process of `npm start` is told and a container is not, and why. */
const ofProcessesAlone = new Set([
  'HOST', // the image's
  'PORT',
  'DATABASE_DIRECT_URL', // keeps out what the shell of `npm start` has
  'KAFKA_TOPIC_PREFIX',
])

/** Where what is on one machine is found from a container; and all its time to stop is its own. */
const ofContainers: Record<string, string> = {
  SHUTDOWN_TIMEOUT_MS: '10000',
  PUBLIC_URL: `http://127.0.0.1:\${GATEWAY_PORT:-${defaultPorts.GATEWAY_PORT}}`,
  STAFF_EMAIL: `\${STAFF_EMAIL:-${around.settings.STAFF_EMAIL}}`,
  ...Object.fromEntries(databaseOwners.map((name) => [variableOf(name, 'URL'), urlOf(name)])),
}

/** Handed on from whoever runs compose; an empty one counts as not set. */
const tracing = Object.fromEntries(
  ['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_PROTOCOL', 'OTEL_TRACES_SAMPLER', 'OTEL_TRACES_SAMPLER_ARG'].map(
    (name) => [name, `\${${name}:-}`],
  ),
)

/** The gateway's metrics are asked by others than its own container. */
const besides: Partial<Record<ServiceName, Record<string, string>>> = { gateway: { METRICS_HOST: '0.0.0.0' } }

function urlOf(name: string): string {
  return `http://${name}:8080`
}

/** The environment of a service's container, by the name of each variable. */
function containerEnvironment(name: ServiceName): Record<string, string> {
  const own = Object.entries(serviceEnvironment(name, around)).filter(([key]) => !ofProcessesAlone.has(key))
  const said = own.map(([key, value]) =>
    value === inFile ? [`${key}_FILE`, `/secrets/${fileOf(key)}`] : [key, ofContainers[key] ?? value],
  )
  return { ...Object.fromEntries(said), ...besides[name], ...tracing }
}

/** As the operators' command `secrets` names it. */
const fileOf = (key: string) =>
  key
    .replace(/^SERVICE_/, '')
    .toLowerCase()
    .replaceAll('_', '-')

const lines = (entries: Record<string, string>, indent: string) =>
  Object.entries(entries)
    .map(([key, value]) => `${indent}${key}: ${JSON.stringify(value)}`)
    .join('\n')

const perOwner = (text: (name: DataServiceName) => string) => databaseOwners.map(text).join('\n')

const image = (name: string) => `image: shopstream/${name}:\${SHOPSTREAM_VERSION:-local}
  build: { context: ., args: { SERVICE: ${name}, REVISION: "\${SHOPSTREAM_VERSION:-local}" } }`

const secretsVolumes = ['postgres', 'deployment', 'operator', ...serviceNames]

/** What stands in the template's places. */
const parts: Record<string, () => string> = {
  bases: () =>
    databaseOwners
      .map(
        (name) => `x-${name}: &${name}
  ${image(name)}
  environment:
${lines(containerEnvironment(name), '    ')}
  volumes: ["secrets-${name}:/secrets:ro"]
`,
      )
      .join('\n'),
  operatorSettings: () =>
    perOwner(
      (name) => `    ${variableOf(name, 'DATABASE_URL_FILE')}: /secrets/${name}-database-url
    ${variableOf(name, 'URL')}: ${urlOf(name)}`,
    ),
  deploymentSettings: () =>
    perOwner((name) => `      ${variableOf(name, 'DATABASE_URL_FILE')}: /secrets/${name}-database-url`),
  secretsOfAll: () => secretsVolumes.map((name) => `      - secrets-${name}:/secrets/${name}`).join('\n'),
  migrations: () =>
    databaseOwners
      .map(
        (name) => `  ${name}-migrate:
    <<: [*job, *${name}]
    command: [migrate]
    healthcheck: { disable: true }
    depends_on:
      databases: { condition: service_completed_successfully }
`,
      )
      .join('\n')
      .trimEnd(),
  services: () =>
    databaseOwners
      .map(
        (name) => `  ${name}:
    <<: [*image, *${name}]
    depends_on:
      topics: { condition: service_completed_successfully }
      ${name}-migrate: { condition: service_completed_successfully }${'SMTP_URL' in containerEnvironment(name) ? '\n      mail: { condition: service_healthy }' : ''}
`,
      )
      .join('\n')
      .trimEnd(),
  gatewaySettings: () => lines(containerEnvironment('gateway'), '      '),
  gatewayWaits: () => perOwner((name) => `      ${name}: { condition: service_healthy }`),
  secretVolumes: () => secretsVolumes.map((name) => `  secrets-${name}:`).join('\n'),
}

/** docker-compose.yml: the template with a container for each service, which is told what `npm start` tells its process. */
export function printCompose(root: string): string {
  const template = readFileSync(join(root, composeTemplate), 'utf8')
  return template.replaceAll(/^\{\{(\w+)\}\}$/gm, (place, name: string) => parts[name]?.() ?? place)
}
