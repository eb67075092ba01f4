import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { repository } from '@shopstream/testing'
import { parse } from 'yaml'
import { serviceNames } from './services.ts'
import { nodeFlags } from './shop.ts'

interface ComposeService {
  image: string
  environment?: Record<string, string>
  volumes?: string[]
  ports?: string[]
  depends_on?: Record<string, { condition: string }>
  user?: string
  profiles?: string[]
}

const read = (file: string) => readFileSync(join(repository, file), 'utf8')
const compose: { services: Record<string, ComposeService>; volumes: object } = parse(read('docker-compose.yml'), {
  merge: true,
})
const serviceIn = (name: string) => compose.services[name] as ComposeService

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
  expect(secretsOf('shop')).toEqual(['secrets-operator:/secrets:ro'])
  expect(secretsOf('databases')).toEqual(['secrets-deployment:/secrets:ro'])
  expect(secretsOf('topics')).toEqual([])
  const written = secretsOf('secrets').map((volume) => volume.split(':', 1).join())
  expect(Object.keys(compose.volumes).filter((volume) => volume.startsWith('secrets-'))).toEqual(written)
})

test('every port is on this machine alone', () => {
  const ports = Object.values(compose.services).flatMap(({ ports = [] }) => ports)
  expect(ports.length).toBeGreaterThan(3)
  for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/)
})

test('an image runs with the flags of npm start', () => {
  const dockerfile = read('Dockerfile')
  for (const flag of nodeFlags.filter((flag) => flag.startsWith('--max-'))) expect(dockerfile).toContain(`"${flag}"`)
})

test('what monitors, and the page on Kafka, have no rights that they need not, and no password of an image is good', () => {
  const beside = Object.entries(compose.services).filter(([, { profiles = [] }]) =>
    profiles.some((profile) => profile === 'observability' || profile === 'tools'),
  )
  expect(beside.map(([name]) => name)).toEqual(expect.arrayContaining(['grafana', 'kafka-ui']))
  for (const [name, service] of beside)
    expect({ name, ...service }).toMatchObject({
      name,
      restart: 'unless-stopped',
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
    })
  expect(serviceIn('grafana').environment).toMatchObject({
    GF_AUTH_DISABLE_LOGIN_FORM: 'true',
    GF_AUTH_BASIC_ENABLED: 'false',
  })
})

test('nobody who runs a service is root', () => {
  expect(read('Dockerfile')).toMatch(/^USER 65532:65532$/m)
  const roots = Object.entries(compose.services).filter(([, { user }]) => user !== undefined)
  expect(roots.map(([name]) => name)).toEqual(['secrets'])
  for (const name of serviceNames)
    expect(serviceIn(name)).toMatchObject({
      read_only: true,
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
    })
})
