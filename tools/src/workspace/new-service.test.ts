import { cpSync, globSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { runCommand } from '@shopstream/testing'
import { workspace, write } from '../schemas/files.ts'
import { services } from '../services.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { type NewService, newService, removeService } from './new-service.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'shopstream-new-service-'))
  for (const part of [
    'biome.json',
    'infra/prometheus/alerts.yml',
    'package-lock.json',
    'tsconfig.base.json',
    'schemas',
    'tools/templates',
    'tools/lint',
    'services',
  ])
    cpSync(join(workspace, part), join(root, part), { recursive: true, filter: (path) => !/[\\/]dist$/.test(path) })
  symlinkSync(join(workspace, 'libs'), join(root, 'libs'))
  mkdirSync(join(root, 'node_modules'))
  for (const name of readdirSync(join(workspace, 'node_modules')).filter((name) => !/^\.(?!bin$)/.test(name)))
    symlinkSync(join(workspace, 'node_modules', name), join(root, 'node_modules', name))
})
afterEach(() => rmSync(root, { recursive: true }))

const newcomer = (more: Partial<NewService> = {}) => ({
  root,
  name: 'newcomer',
  event: 'OrderDelivered',
  path: '/v1/newcomers',
  ...more,
})
const read = (file: string) => readFileSync(join(root, file), 'utf8')
const everything = () =>
  globSync(['services/**/*.{ts,sql,json,md}', 'package-lock.json', 'infra/**/*.yml'], { cwd: root }).map((file) => [
    file,
    read(file),
  ])

test.each([
  ['OrderDelivered', 'newcomer'],
  ['ProductListed', 'recommendation'],
  ['UserRegistered', 'crm'],
])(
  'a service that consumes %s: style and types are in order',
  async (event, name) => {
    newService(newcomer({ name, event, path: `/v1/${name}s` }))
    const tool = (tool: string, ...args: string[]) =>
      runCommand(join(workspace, 'node_modules/.bin', tool), args, { cwd: root })
    const settings = JSON.parse(read('biome.json'))
    write(join(root, 'biome.json'), JSON.stringify({ ...settings, vcs: { enabled: false } }))
    await tool('biome', 'check', `services/${name}`, 'services/gateway/src/services.ts')
    await tool('tsc', '-p', `services/${name}`, '--noEmit')
  },
  120_000,
)

test('it has a row in the list, with the next port, and a place in the lock as the others have', () => {
  const files = newService(newcomer())
  expect(files.slice(-3)).toEqual([
    'services/gateway/src/services.ts',
    'package-lock.json',
    'infra/prometheus/alerts.yml',
  ])
  expect(read('infra/prometheus/alerts.yml')).toContain('or absent(shopstream_service_info{service="newcomer"})')
  const last = Math.max(...Object.values(services).map(({ port }) => port))
  expect(read('services/gateway/src/services.ts')).toContain(
    `  newcomer: { port: ${last + 1}, paths: ['/v1/newcomers'] },\n} as`,
  )
  const { packages } = JSON.parse(read('package-lock.json'))
  for (const path of ['node_modules/@shopstream/NAME-service', 'services/NAME'])
    expect(JSON.stringify(packages[path.replace('NAME', 'newcomer')])).toBe(
      JSON.stringify(packages[path.replace('NAME', 'order')]).replaceAll('order', 'newcomer'),
    )
})

test('taken away again, it leaves nothing behind', () => {
  const before = everything()
  newService(newcomer())
  expect(everything()).not.toEqual(before)
  removeService(root, 'newcomer')
  expect(everything()).toEqual(before)
})

test.each(['src/ask.ts', 'Dockerfile', '.env'])('a folder with work in it, such as %s, is not deleted', (file) => {
  newService(newcomer())
  write(join(root, 'services/newcomer', file), 'work\n')
  const before = everything()
  expect(() => removeService(root, 'newcomer')).toThrow(Refusal)
  expect(() => removeService(root, 'newcomer')).toThrow(`services/newcomer/${file}`)
  expect(() => removeService(root, 'order')).toThrow(Refusal)
  expect(everything()).toEqual(before)
})

test('who has deleted the folder alone is told how to take the rest away', () => {
  const before = everything()
  newService(newcomer())
  rmSync(join(root, 'services/newcomer'), { recursive: true })
  expect(() => newService(newcomer({ path: '/v1/others' }))).toThrow(
    /newcomer is in .* already: npm run new -- service/,
  )
  removeService(root, 'newcomer')
  expect(everything()).toEqual(before)
})

test.each([
  [{ name: 'Review' }, 'small letters and digits'],
  [{ name: '../x' }, 'small letters and digits'],
  [{ name: 'order' }, 'services/order is there already'],
  [{ name: 'kafka' }, 'another part of the shop'],
  [{ event: 'OrderEaten' }, 'there is no event OrderEaten to consume; there are'],
  [{ event: 'SigningKeyPublished' }, 'there is no event SigningKeyPublished to consume'],
  [{ path: '/v1/orders' }, '/v1/orders belongs to order'],
  [{ path: '/v1/mailings' }, '/v1/mailings belongs to notification'],
  [{ path: '/v2/reviews' }, 'is no path of a service'],
])('%j is refused, and nothing is written', (more, reason) => {
  const before = everything()
  expect(() => newService(newcomer(more))).toThrow(UsageError)
  expect(() => newService(newcomer(more))).toThrow(reason)
  expect(everything()).toEqual(before)
})
