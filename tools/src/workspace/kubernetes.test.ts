import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { deadLetterTopic, topics } from '@shopstream/events'
import { repository, runCommand } from '@shopstream/testing'
import { readWiring } from '@shopstream/testing/wiring'
import { parse, parseAllDocuments } from 'yaml'
import { isOnPath } from '../local/on-path.ts'
import { configOf } from '../local/services.ts'
import type { Acl } from '../schemas/acl.ts'
import { bridgeSettings, databaseOwners, ofProcessesAlone, serviceNames } from './container-environment.ts'
import { chartData, type OperatorData, ofTheOwner, type ServiceData, secretInPods } from './kubernetes.ts'
import { folderOf, schemaLocations, strict, versionsIn, writeSchemas } from './kubernetes-schemas.ts'

const folder = join(repository, 'infra/kubernetes')
const chart = join(folder, 'shopstream')
const read = (file: string) => readFileSync(join(repository, file), 'utf8')

interface Data {
  services: Record<string, ServiceData>
  operator: OperatorData
  topics: { name: string; partitions: number; config: Record<string, string> }[]
  acls: Record<string, { resourceType: string; resourceName: string; operations: string[] }[]>
}
const data: Data = parse(read('infra/kubernetes/shopstream/files/shop.yaml'))

interface ComposeService {
  environment: Record<string, string>
}
const compose: { services: Record<string, ComposeService> } = parse(read('docker-compose.yml'), { merge: true })

test('what the chart loops over is up to date', async () => {
  expect(data).toEqual(chartData(repository, { topics, wiring: await readWiring(repository) }))
})

test.each(serviceNames)('%s is told in a pod what it is told in a container, but for what has a name', (name) => {
  const told = Object.keys(compose.services[name]?.environment ?? {}).filter(
    (key) => !key.startsWith('OTEL_') && !(name === 'bridge' && bridgeSettings.includes(key)),
  )
  const inFiles = told.filter((key) => key.endsWith('_FILE')).map((key) => key.replace(/_FILE$/, ''))
  const own = data.services[name] as ServiceData
  const expected = told
    .map((key) => key.replace(/_FILE$/, ''))
    .filter((key) => !ofTheOwner.has(key))
    .concat('KAFKA_BROKERS' in own.environment ? 'KAFKA_TOPIC_PREFIX' : [])
  expect([...Object.keys(own.environment), ...Object.keys(own.secrets)].sort()).toEqual(expected.sort())
  const secret = [...inFiles, ...secretInPods].filter((key) => expected.includes(key))
  expect(Object.keys(own.secrets).sort()).toEqual(secret.sort())
  expect(own.database).toBe(databaseOwners.find((owner) => owner === name))
  for (const [key, file] of Object.entries(own.secrets))
    if (!secretInPods.has(key)) expect(compose.services[name]?.environment[`${key}_FILE`]).toBe(`/secrets/${file}`)
})

test("the operators' program is told what compose tells it, of bridges what the bridge service is told", () => {
  const { KAFKA_TOPIC_PREFIX: _, ...environment } = data.operator.environment
  const files = Object.entries(data.operator.secrets).map(([key, file]) => [`${key}_FILE`, `/secrets/${file}`])
  const told: Record<string, string> = { ...environment, ...Object.fromEntries(files) }
  const place = (text: string) => text.replace('{{ include "shopstream.name" . }}-', '')
  const ofBridges = data.operator.asBridge.map((key) => [key, compose.services.bridge?.environment[key]])
  expect({
    ...Object.fromEntries(Object.entries(told).map(([key, text]) => [key, place(text)])),
    ...Object.fromEntries(ofBridges),
  }).toEqual({
    ...compose.services.shop?.environment,
    KAFKA_BROKERS: '{{ include "shopstream.brokers" . }}',
  })
})

test('topics and ACLs are those that `shop deploy topics` makes and acls.json lists', () => {
  const deployed = [...topics, ...[...databaseOwners].sort().map(deadLetterTopic)]
  expect(data.topics).toEqual(
    deployed.map(({ name, partitions, settings }) => ({ name, partitions, config: settings })),
  )
  const rows = Object.entries(data.acls).flatMap(([principal, acls]) => acls.map((acl) => ({ principal, ...acl })))
  const listed: { acls: Pick<Acl, 'principal' | 'resourceType' | 'resourceName' | 'patternType' | 'operations'>[] } =
    JSON.parse(read('infra/kafka/acls.json'))
  expect(rows).toEqual(
    listed.acls.map(({ principal, resourceType, resourceName, patternType, operations }) => ({
      principal: principal.replace('User:', ''),
      resourceType,
      resourceName,
      ...(patternType === 'PREFIXED' && { isPrefix: true }),
      operations,
    })),
  )
})

test('a definition refuses what it does not name, and takes what it leaves open', () => {
  const open = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true, properties: { a: { type: 'string' } } }
  const given = {
    properties: { open, port: { 'x-kubernetes-int-or-string': true, anyOf: [] }, list: { items: { properties: {} } } },
  }
  expect(strict(given)).toEqual({
    additionalProperties: false,
    properties: {
      open,
      port: { type: ['integer', 'string'] },
      list: { items: { additionalProperties: false, properties: {} } },
    },
  })
})

const schemas = folderOf('KUBERNETES_SCHEMAS')
const lacks = (needs: Record<string, boolean>) => Object.keys(needs).filter((name) => !needs[name])
const needing = (needs: Record<string, boolean>, name: string, check: () => Promise<void>) => {
  const missing = lacks(needs)
  if (missing.length > 0) test.skip(`${name}: skipped, this machine lacks ${missing.join(' and ')}`, () => {})
  else test(name, check, 120_000)
}
const helm = isOnPath('helm')

interface Manifest {
  apiVersion: string
  kind: string
  metadata: { name: string; annotations?: Record<string, string> }
  spec: {
    template: { spec: { containers: { env: { name: string; value: string }[]; image: string }[]; volumes?: unknown[] } }
    topicName: string
    groups: { rules: { record?: string; alert?: string; expr: string }[] }[]
    ingress: { from: Record<string, unknown>[] }[]
    egress: { ports: { port: number }[] }[]
    authorization: { acls: { resource: { type: string; name: string }; operations: string[] }[] }
  }
}
const valueFiles = ['minimal', 'local', 'production']
const fileOf = (values: string) => join(folder, `values-${values}.yaml`)
const template = (values: string, ...more: string[]) =>
  runCommand('helm', ['template', 'shop', chart, '--values', fileOf(values), ...more])
const manifestsOf = async (values: string, ...more: string[]): Promise<Manifest[]> =>
  parseAllDocuments(await template(values, ...more))
    .map((document) => document.toJS())
    .filter((manifest) => manifest !== null)

for (const values of valueFiles)
  needing({ helm }, `values-${values}.yaml: each setting is one that the service knows`, async () => {
    await runCommand('helm', ['lint', '--strict', chart, '--values', fileOf(values)])
    const manifests = await manifestsOf(values)
    for (const name of serviceNames) {
      const deployment = manifests.find(
        ({ kind, metadata }) => kind === 'Deployment' && metadata.name === `shop-${name}`,
      )
      const { properties } = (await configOf(name)).configSchema
      const container = deployment?.spec.template.spec.containers[0]
      const told = (container?.env ?? []).map((one) => one.name.replace(/_FILE$/, ''))
      expect(told.filter((key) => !(key in properties))).toEqual([])
      expect(told).toEqual(expect.arrayContaining(Object.keys(data.services[name]?.secrets ?? {})))
      const asked = values === 'local' && name === 'user' ? ['STAFF_EMAIL', 'STAFF_PASSWORD'] : []
      expect(told.filter((key) => key.startsWith('STAFF_'))).toEqual(asked)
      for (const key of ofProcessesAlone) if (key !== 'DATABASE_DIRECT_URL') expect(told).not.toContain(key)
    }
  })

needing({ helm }, 'with Strimzi, topics and ACLs are those of acls.json, in its words, with the prefix', async () => {
  const manifests = await manifestsOf('production', '--set', 'kafka.topicPrefix=test.')
  const made = manifests.filter(({ kind }) => kind === 'KafkaTopic').map(({ spec }) => spec.topicName)
  expect(made.sort()).toEqual(data.topics.map(({ name }) => `test.${name}`).sort())
  const word = (text: string) => text.toLowerCase().replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
  const capital = (text: string) => text.replace(/^\w/, (letter) => letter.toUpperCase())
  for (const [principal, rows] of Object.entries(data.acls)) {
    const user = manifests.find(
      ({ kind, metadata }) => kind === 'KafkaUser' && metadata.name === `shop-kafka-${principal}`,
    )
    expect(user?.spec.authorization.acls).toEqual(
      rows.map(({ resourceType, resourceName, operations, ...row }) => ({
        resource: {
          type: word(resourceType),
          name: `test.${resourceName}`,
          patternType: 'isPrefix' in row ? 'prefix' : 'literal',
        },
        operations: operations.map((operation) => capital(word(operation))),
      })),
    )
  }
})

needing({ helm }, 'another tag of one service changes its Deployment and its migration alone', async () => {
  const [before, after] = await Promise.all([
    manifestsOf('local'),
    manifestsOf('local', '--set', 'services.order.tag=next'),
  ])
  const textOf = (manifest?: Manifest) => JSON.stringify(manifest)
  const changed = after.filter((manifest, index) => textOf(manifest) !== textOf(before[index]))
  expect(changed.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort()).toEqual([
    'Deployment shop-order',
    'Job shop-order-migrate',
  ])
})

needing({ helm }, 'what alerts ask for that is recorded, the chart records', async () => {
  const manifests = await manifestsOf('minimal', '--set', 'metrics.rules.enabled=true')
  const groups = manifests.find(({ kind }) => kind === 'PrometheusRule')?.spec.groups ?? []
  const files = ['rules', 'alerts'].flatMap((name) => parse(read(`infra/prometheus/${name}.yml`)).groups)
  expect(groups).toEqual(files)
  const rules = groups.flatMap((group) => group.rules)
  const asked = rules.flatMap(({ expr }) => expr.match(/\b\w+:\w+:\w+/g) ?? [])
  expect(asked.length).toBeGreaterThan(20)
  expect(rules.flatMap(({ record }) => record ?? [])).toEqual(expect.arrayContaining(asked))
})

const policyOf = async (name: string, ...set: string[]) => {
  const manifests = await manifestsOf('minimal', ...set.flatMap((one) => ['--set', one]))
  const policy = manifests.find(({ kind, metadata }) => kind === 'NetworkPolicy' && metadata.name === name)
  return policy?.spec as Manifest['spec']
}
const own = '10.1.0.0/16'
const clients: [what: string, blocks: string[], ...set: string[]][] = [
  ['a LoadBalancer lets in who comes from outside', ['0.0.0.0/0', '::/0'], 'services.gateway.serviceType=LoadBalancer'],
  ['a NodePort does so too', ['0.0.0.0/0', '::/0'], 'services.gateway.serviceType=NodePort'],
  ['a ClusterIP does not', [], 'services.gateway.serviceType=ClusterIP'],
  [
    'whoever names addresses means those',
    [own],
    'services.gateway.serviceType=NodePort',
    `networkPolicies.gatewayClients[0].ipBlock.cidr=${own}`,
  ],
  [
    'of an empty list nobody is let in',
    [],
    'services.gateway.serviceType=NodePort',
    'networkPolicies.gatewayClients=null',
  ],
]
for (const [what, blocks, ...set] of clients)
  needing({ helm }, `network policies: ${what}`, async () => {
    const { ingress } = await policyOf('shop-gateway', ...set)
    const addresses = ingress[0]?.from.flatMap(({ ipBlock }) => (ipBlock as { cidr: string } | undefined)?.cidr ?? [])
    expect(addresses).toEqual(blocks)
  })

for (const [setting, port] of Object.entries({
  OTEL_EXPORTER_OTLP_ENDPOINT: 4318,
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 4318,
  OTEL_EXPORTER_ZIPKIN_ENDPOINT: 9411,
}))
  needing({ helm }, `network policies: ${setting} opens the way to the collector, and nothing else does`, async () => {
    const portsOf = async (...set: string[]) =>
      (await policyOf('shop-order', ...set)).egress.flatMap(({ ports }) => ports.map((one) => one.port))
    expect(await portsOf()).not.toContain(port)
    expect(await portsOf(`settings.${setting}=http://collector:${port}`)).toContain(port)
  })

const bridged = [
  ['--set-file', `services.bridge.settings.BRIDGES=${join(repository, 'infra/bridges/redis.yaml')}`],
  ['--set', 'services.bridge.secretSettings={REDIS_URL}'],
].flat()
const podOf = (manifests: Manifest[], name: string) =>
  manifests.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === name)?.spec.template.spec

for (const values of ['local', 'production'])
  needing({ helm }, `values-${values}.yaml: operators know the bridges, and both reach their brokers`, async () => {
    const manifests = await manifestsOf(values, ...bridged)
    for (const name of ['shop-bridge', 'shop-operator']) {
      const { containers, volumes } = podOf(manifests, name) ?? { containers: [] }
      const told = Object.fromEntries((containers[0]?.env ?? []).map((one) => [one.name, one.value]))
      expect(told.BRIDGES).toBe(read('infra/bridges/redis.yaml'))
      expect(told.REDIS_URL_FILE).toBe('/secrets/redis-url')
      expect(volumes).toContainEqual({ name: 'secrets', secret: expect.objectContaining({ secretName: name }) })
      const policy = manifests.find(({ kind, metadata }) => kind === 'NetworkPolicy' && metadata.name === name)
      expect(policy?.spec.egress.flatMap(({ ports }) => ports.map((one) => one.port))).toContain(6379)
    }
    const without = await manifestsOf(values)
    expect(JSON.stringify(without)).not.toMatch(/BRIDGES|REDIS|6379/)
  })

const wrong: [string, RegExp][] = [
  ['services.order.settings.RESERVATION_DEADLINE=5', /RESERVATION_DEADLINE/],
  ['services.order.settings.RESERVATION_DEADLINE_SECONDS=0', /RESERVATION_DEADLINE_SECONDS.*\n?.*minimum/],
  ['services.order.settings.DATABASE_URL=postgres://a:b@c/d', /DATABASE_URL/],
  ['services.ordr.tag=1', /ordr/],
  ['settings.LOG_LEVEL=loud', /LOG_LEVEL.*\n?.*one of/],
  ['kafka.mode=kraft', /mode.*\n?.*external/],
  ['kafka.brokers={kafka}', /brokers.*\n?.*pattern/],
  ['kafka.brokers=null', /brokers/],
  ['services.notification.settings.MAIL_FROM=null', /MAIL_FROM/],
  ['services.user.secretSettings={DATABASE_URL}', /secretSettings.*\n?.*one of/],
  ['services.bridge.settings.REDIS_URL=redis://:password@redis', /REDIS_URL/],
]
for (const [set, words] of wrong)
  needing({ helm }, `--set ${set} is refused in words`, async () => {
    await expect(template('minimal', '--set', set)).rejects.toThrow(words)
  })

for (const values of valueFiles)
  needing(
    { helm, kubeconform: isOnPath('kubeconform'), KUBERNETES_SCHEMAS: schemas !== undefined },
    `values-${values}.yaml: valid for the oldest Kubernetes of the chart and the newest of the schemas`,
    async () => {
      const own = mkdtempSync(join(tmpdir(), 'shopstream-schemas-'))
      try {
        const oldest = /kubeVersion: ">=(\d+\.\d+)/.exec(read('infra/kubernetes/shopstream/Chart.yaml'))?.[1] ?? ''
        const versions = versionsIn(schemas ?? '')
        const judged = [versions.find((version) => version.startsWith(`${oldest}.`)), versions.at(-1)] as string[]
        const definitions = folderOf('KUBERNETES_CRDS')
        writeSchemas(own, schemas ?? '', judged, definitions)
        writeFileSync(join(own, 'manifests.yaml'), await template(values, ...bridged))
        const locations = schemaLocations(own).flatMap((location) => ['-schema-location', location])
        const missing = definitions ? [] : ['-ignore-missing-schemas']
        for (const version of judged) {
          const args = ['-strict', '-summary', '-kubernetes-version', version, ...missing, ...locations]
          expect(await runCommand('kubeconform', [...args, join(own, 'manifests.yaml')])).toMatch(
            /Valid: [1-9]\d+, Invalid: 0, Errors: 0/,
          )
        }
      } finally {
        rmSync(own, { recursive: true, force: true })
      }
    },
  )
