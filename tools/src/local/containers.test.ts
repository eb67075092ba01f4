import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { repository } from '@shopstream/testing'
import { parse } from 'yaml'
import { type ServiceName, type Surroundings, serviceEnvironment, serviceNames } from './services.ts'
import { defaultPorts, readStackSettings } from './settings.ts'
import { nodeFlags } from './shop.ts'

interface ComposeService {
  image: string
  environment?: Record<string, string>
  volumes?: string[]
  ports?: string[]
  depends_on?: Record<string, { condition: string }>
  user?: string
}

const read = (file: string) => readFileSync(join(repository, file), 'utf8')
const compose: { services: Record<string, ComposeService>; volumes: object } = parse(read('docker-compose.yml'), {
  merge: true,
})
const serviceIn = (name: string) => compose.services[name] as ComposeService

const around: Surroundings = {
  ports: defaultPorts,
  brokers: ['kafka:9093'],
  databaseUrl: () => 'in a file',
  smtpUrl: 'smtp://mail:1025',
  secrets: {
    keyEncryptionSecret: 'in a file',
    staffPassword: 'in a file',
    postgresPassword: '',
    databasePasswords: {},
  },
  settings: readStackSettings({}).settings,
  identitySecret: 'in a file',
}

/** What a process of `npm start` is told and a container is not, and why. */
const ofProcessesAlone = new Set([
  'HOST', // the image's
  'PORT',
  'DATABASE_DIRECT_URL', // keeps out what the shell of `npm start` has
  'KAFKA_TOPIC_PREFIX',
])
/** Differ in their values: what is on one machine is at other addresses between containers, and has its own time to stop. */
const otherValues = /^(METRICS_HOST|SHUTDOWN_TIMEOUT_MS|(USER|ORDER|INVENTORY|NOTIFICATION)_URL)$/
/** The gateway's metrics are asked by others than its own container. */
const ofContainersAlone = new Set(['METRICS_HOST'])

/** As compose would say it: without the choice of a default by the environment, secrets in files. */
const asSaid = (name: string, value: string) => [
  name.replace(/_FILE$/, ''),
  name.endsWith('_FILE') ? 'in a file' : value.replaceAll(/\$\{\w+:-([^}]*)\}/g, '$1'),
]

test.each(serviceNames)('%s is told the same in a container as by npm start', (name) => {
  const said = Object.entries(serviceIn(name).environment ?? {}).map(([key, value]) => asSaid(key, String(value)))
  const inContainer = said.filter(([key = '']) => !ofContainersAlone.has(key))
  const asProcess = Object.entries(serviceEnvironment(name, around)).filter(([key]) => !ofProcessesAlone.has(key))
  const sameValues = (entries: (string | undefined)[][]) =>
    Object.fromEntries(entries.map(([key = '', value]) => [key, otherValues.test(key) ? 'another' : value]))
  expect(sameValues(inContainer)).toEqual(sameValues(asProcess))
})

test('every service has its image, its migrations where it has a database, and what it waits for', () => {
  for (const name of serviceNames) {
    const { image, depends_on = {} } = serviceIn(name)
    expect(image).toBe(`shopstream/${name}:\${SHOPSTREAM_VERSION:-local}`)
    const needed =
      name === 'gateway' ? serviceNames.filter((other) => other !== 'gateway') : ['topics', `${name}-migrate`]
    expect(Object.keys(depends_on)).toEqual(expect.arrayContaining(needed))
  }
})

test('each process reads its own secrets alone, and each volume of secrets is written by the job', () => {
  const secretsOf = (name: string) => (serviceIn(name).volumes ?? []).filter((volume) => volume.startsWith('secrets-'))
  for (const name of serviceNames) {
    expect(secretsOf(name)).toEqual([`secrets-${name}:/secrets:ro`])
    if (name !== 'gateway') expect(secretsOf(`${name}-migrate`)).toEqual([`secrets-${name}:/secrets:ro`])
  }
  const written = secretsOf('secrets').map((volume) => volume.split(':', 1).join())
  expect(Object.keys(compose.volumes).filter((volume) => volume.startsWith('secrets-'))).toEqual(written)
})

test('every port is on this machine alone', () => {
  const ports = Object.values(compose.services).flatMap(({ ports = [] }) => ports)
  expect(ports.length).toBeGreaterThan(3)
  for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/)
})

test('an image is built of all packages, and runs with the flags of npm start', () => {
  const dockerfile = read('Dockerfile')
  const copied = [...dockerfile.matchAll(/^COPY (\S+\/package\.json) /gm)].map(([, file]) => file)
  const packages = globSync('{libs/*,services/*,tools}/package.json', { cwd: repository })
  expect(copied.sort()).toEqual(packages.map((file) => file.replaceAll('\\', '/')).sort())
  for (const flag of nodeFlags.filter((flag) => flag.startsWith('--max-'))) expect(dockerfile).toContain(`"${flag}"`)
})

test('nobody who runs a service is root', () => {
  expect(read('Dockerfile')).toMatch(/^USER 65532:65532$/m)
  const roots = Object.entries(compose.services).filter(([, { user }]) => user !== undefined)
  expect(roots.map(([name]) => name)).toEqual(['secrets'])
  for (const name of serviceNames satisfies readonly ServiceName[])
    expect(serviceIn(name)).toMatchObject({
      read_only: true,
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
    })
})
