import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TObject } from '@shopstream/config'
import { deadLetterTopic } from '@shopstream/events'
import { stringify } from 'yaml'
import { configOf } from '../local/services.ts'
import { aclsOf } from '../schemas/acl.ts'
import type { Model } from '../schemas/wiring.ts'
import {
  bridgeSettings,
  bridgeUrls,
  containerSettings,
  databaseOwners,
  fileOf,
  ofProcessesAlone,
  operatorSettings,
  type ServiceName,
  serviceNames,
  serviceUrls,
} from './container-environment.ts'

const folder = 'infra/kubernetes'
const chart = `${folder}/shopstream`

const hostInCluster = (name: string) => `{{ include "shopstream.name" . }}-${name}`

/** Where what is on one machine is found from a pod: text that Helm evaluates. What comes to nothing is left out. */
const ofPods: Record<string, string> = {
  KAFKA_BROKERS: '{{ include "shopstream.brokers" . }}',
  KAFKA_TOPIC_PREFIX: '{{ .Values.kafka.topicPrefix }}',
  ...serviceUrls(hostInCluster),
}

/** What `npm start` says because it is a shop to try out; in a cluster its owner says it, in `services.NAME.settings`. */
export const ofTheOwner: ReadonlySet<string> = new Set([
  'MAIL_FROM', // has no default: a deployment without it is refused
  'PUBLIC_URL',
  'SCHEMA_REGISTRY_ACCESS', // anonymous on one machine alone
  'SEED_CATALOGUE',
  'STAFF_EMAIL', // with STAFF_PASSWORD in `secretSettings`
  'STAFF_PASSWORD',
])

/** Each holds a password wherever its server is not of this machine. */
export const secretInPods: ReadonlySet<string> = new Set(['SMTP_URL', ...bridgeUrls])

/** Set by templates, from `kafka.tls` and `kafka.sasl` or by Strimzi. */
const kafkaSecurity = /^KAFKA_(TLS|SASL)(_|$)/

export interface ServiceData {
  /** The name of its database and of its role. */
  database?: string
  metricsPort: number
  environment: Record<string, string>
  /** By setting, the key in the service's secret. */
  secrets: Record<string, string>
}

/** Of a service, as the chart's templates take it. */
function serviceData(name: ServiceName): ServiceData {
  const said = containerSettings(name, ofPods).filter((setting) => !ofTheOwner.has(setting.name))
  const isInFile = ({ name, isSecret }: (typeof said)[number]) => isSecret || secretInPods.has(name)
  const environment = Object.fromEntries(said.filter((one) => !isInFile(one)).map(({ name, value }) => [name, value]))
  if ('KAFKA_BROKERS' in environment) environment.KAFKA_TOPIC_PREFIX = ofPods.KAFKA_TOPIC_PREFIX ?? ''
  return {
    ...(databaseOwners.some((owner) => owner === name) && { database: name }),
    metricsPort: Number(environment.METRICS_PORT ?? 8080),
    environment,
    secrets: Object.fromEntries(said.filter(isInFile).map(({ name }) => [name, fileOf(name)])),
  }
}

export interface OperatorData extends Pick<ServiceData, 'environment' | 'secrets'> {
  /** What it is told besides if values tell it to the bridge service. */
  asBridge: string[]
}

function operatorData(): OperatorData {
  const { KAFKA_BROKERS = '', KAFKA_TOPIC_PREFIX = '' } = ofPods
  const { secrets, urls } = operatorSettings(hostInCluster)
  return { environment: { KAFKA_BROKERS, KAFKA_TOPIC_PREFIX, ...urls }, secrets, asBridge: bridgeSettings }
}

/** Settings of the broker without which a promise of the shop does not hold, whatever the size of the machine. */
const neededOfBrokers = [
  'auto.create.topics.enable',
  'offsets.retention.minutes',
  'transaction.max.timeout.ms',
  'message.max.bytes',
  'replica.fetch.max.bytes',
]

function brokerSettings(root: string): Record<string, string> {
  const text = readFileSync(join(root, 'infra/kafka/server.properties'), 'utf8')
  const all = Object.fromEntries(
    [...text.matchAll(/^([a-z.]+)=(.*)$/gm)].map(([, name = '', value = '']) => [name, value]),
  )
  return Object.fromEntries(neededOfBrokers.map((name) => [name, all[name] ?? '']))
}

/** What the templates loop over. */
export function chartData(root: string, { topics, wiring }: Pick<Model, 'topics' | 'wiring'>) {
  const acls = Map.groupBy(aclsOf({ topics, wiring }), ({ principal }) => principal.replace(/^User:/, ''))
  return {
    services: Object.fromEntries(serviceNames.map((name) => [name, serviceData(name)])),
    operator: operatorData(),
    topics: [...topics, ...wiring.map(({ service }) => deadLetterTopic(service))].map(
      ({ name, partitions, settings }) => ({
        name,
        partitions,
        config: settings,
      }),
    ),
    acls: Object.fromEntries(
      [...acls].map(([principal, rows]) => [
        principal,
        rows.map(({ resourceType, resourceName, patternType, operations }) => ({
          resourceType,
          resourceName,
          ...(patternType === 'PREFIXED' ? { isPrefix: true } : {}),
          operations,
        })),
      ]),
    ),
    brokers: brokerSettings(root),
  }
}

const generated =
  '# Written by `npm run generate` from what `npm start`, docker-compose.yml and infra/kafka/acls.json are made from.\n'

/** What of JSON Schema a setting is made of, see libs/config. */
interface Setting {
  [keyword: string]: unknown
  secret?: boolean
  format?: string
  protocols?: string[]
}

/** A setting as values have it: numbers, words and lists instead of their texts. */
function valueSchema({ secret, example, default: _, format, protocols, ...schema }: Setting) {
  const url = format === 'url' ? { pattern: `^(${protocols?.join('|')})://` } : {}
  return { ...schema, ...url, ...(typeof example === 'string' && { examples: [example] }) }
}

type SettingsOfServices = Record<string, TObject>

const isOfTheChart = (name: ServiceName, key: string) =>
  ofProcessesAlone.has(key) ||
  kafkaSecurity.test(key) ||
  (key !== 'SHUTDOWN_TIMEOUT_MS' &&
    [serviceData(name).environment, serviceData(name).secrets].some((set) => Object.hasOwn(set, key)))

/** What `services.NAME` may hold beyond what each service may: its own settings, and its optional secrets. */
function ownValues(name: ServiceName, { properties, required }: TObject) {
  const mustBeSet = new Set<string>(required)
  const free = Object.entries(properties as Record<string, Setting>).filter(([key]) => !isOfTheChart(name, key))
  const isSecret = ([key, { secret }]: [string, Setting]) => secret === true || secretInPods.has(key)
  const settings = free.filter((one) => !isSecret(one))
  const direct = Object.hasOwn(properties, 'DATABASE_DIRECT_URL') ? ['DATABASE_DIRECT_URL'] : []
  const secrets = [...direct, ...free.filter(isSecret).map(([key]) => key)]
  const needed = settings.filter(
    ([key, { default: preset }]) => mustBeSet.has(key) && preset === undefined && key !== 'LOG_FORMAT',
  )
  return {
    settings: {
      type: 'object',
      additionalProperties: false,
      ...(needed.length > 0 && { required: needed.map(([key]) => key) }),
      properties: Object.fromEntries(settings.map(([key, setting]) => [key, valueSchema(setting)])),
      patternProperties: { '^OTEL_[A-Z_]+$': { type: ['string', 'number', 'boolean'] } },
    },
    secretSettings: { type: 'array', uniqueItems: true, items: { enum: secrets } },
  }
}

/** The template of the values' schema, with the settings of each service as its own `config.ts` says them. */
function printValuesSchema(root: string, configs: SettingsOfServices, topics: readonly string[]): string {
  const template = JSON.parse(readFileSync(join(root, folder, 'values.schema.template.json'), 'utf8'))
  const own = serviceNames.map((name) => [name, ownValues(name, configs[name] as TObject)] as const)
  const ofEach = own.map(([, { settings }]) => settings.properties)
  const common = Object.entries(ofEach[0] ?? {}).filter(([key]) => ofEach.every((one) => Object.hasOwn(one, key)))
  const { service, ...definitions } = template.$defs
  template.$defs = definitions
  Object.assign(template.properties.settings.properties, Object.fromEntries(common))
  template.properties.services.properties = Object.fromEntries(
    own.map(([name, values]) => [name, { ...service, properties: { ...service.properties, ...values } }]),
  )
  template.properties.kafka.properties.strimzi.properties.partitions.propertyNames = { enum: topics }
  return `${JSON.stringify(template, null, 2)}\n`
}

const configsOf = async (): Promise<SettingsOfServices> =>
  Object.fromEntries(
    await Promise.all(serviceNames.map(async (name) => [name, (await configOf(name)).configSchema] as const)),
  )

/** The parts of the chart that follow from the code, by their path. */
export async function printChart(root: string, model: Model): Promise<Record<string, string>> {
  const data = chartData(root, model)
  const names = data.topics.map(({ name }) => name)
  return {
    [`${chart}/files/shop.yaml`]: `${generated}${stringify(data, { lineWidth: 0 })}`,
    // Alerts ask for what the others record.
    ...Object.fromEntries(
      ['rules', 'alerts'].map((name) => [
        `${chart}/files/${name}.yaml`,
        readFileSync(join(root, `infra/prometheus/${name}.yml`), 'utf8'),
      ]),
    ),
    [`${chart}/values.schema.json`]: printValuesSchema(root, await configsOf(), names),
  }
}
