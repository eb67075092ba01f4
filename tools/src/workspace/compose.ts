import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ServiceName as DataServiceName } from '../services.ts'
import {
  bridgeSettings,
  containerSettings,
  databaseOwners,
  defaultPorts,
  operatorSettings,
  type ServiceName,
  serviceNames,
  serviceUrls,
  staffEmail,
  tracingSettings,
} from './container-environment.ts'

const composeTemplate = 'infra/container/docker-compose.yml.template'

/** Where what is on one machine is found from a container. */
const ofContainers: Record<string, string> = {
  KAFKA_BROKERS: `\${KAFKA_BOOTSTRAP:-kafka:9093}`,
  PUBLIC_URL: `http://127.0.0.1:\${GATEWAY_PORT:-${defaultPorts.GATEWAY_PORT}}`,
  STAFF_EMAIL: `\${STAFF_EMAIL:-${staffEmail}}`,
  ...serviceUrls((name) => name),
}

/** An empty one counts as not set. */
const tracing = Object.fromEntries(tracingSettings.map((name) => [name, `\${${name}:-}`]))

/** What whoever runs the containers says of bridges: BRIDGES_FILE=/bridges/rabbitmq.yaml and the like. */
const ofBridges = Object.fromEntries(bridgeSettings.map((name) => [name, `\${${name}:-}`]))
const volumesOf = (name: ServiceName) =>
  JSON.stringify([`secrets-${name}:/secrets:ro`, ...(name === 'bridge' ? ['./infra/bridges:/bridges:ro'] : [])])

/** The environment of a service's container, by the name of each variable. */
function containerEnvironment(name: ServiceName): Record<string, string> {
  const said = containerSettings(name, ofContainers).map(({ name, value, isSecret }) =>
    isSecret ? [`${name}_FILE`, `/secrets/${value}`] : [name, value],
  )
  return { ...Object.fromEntries(said), ...(name === 'bridge' && ofBridges), ...tracing }
}

const lines = (entries: Record<string, string>, indent: string) =>
  Object.entries(entries)
    .map(([key, value]) => `${indent}${key}: ${JSON.stringify(value)}`)
    .join('\n')

const inFiles = (secrets: Record<string, string>) =>
  Object.fromEntries(Object.entries(secrets).map(([name, file]) => [`${name}_FILE`, `/secrets/${file}`]))

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
  volumes: ${volumesOf(name).replaceAll(',', ', ')}
`,
      )
      .join('\n'),
  operatorSettings: () => {
    const { secrets, urls } = operatorSettings((name) => name)
    return lines({ ...inFiles(secrets), ...urls, ...ofBridges }, '    ') // `verify` asks their brokers
  },
  deploymentSettings: () => lines(inFiles(operatorSettings((name) => name).secrets), '      '),
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
