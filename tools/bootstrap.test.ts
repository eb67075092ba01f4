import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { holds, isInstalled, listCommands, lock, stampOf, writeStamp } from './bootstrap.mjs'
import { ownEnvironment } from './environment.mjs'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'shopstream-bootstrap-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const packages = {
  '': { name: 'shop' },
  'libs/a': { version: '1.0.0' },
  'node_modules/@shop/a': { link: true, resolved: 'libs/a' },
  'node_modules/pino': { version: '1.2.3' },
  'node_modules/native-mac': { version: '1.0.0', optional: true, os: ['darwin'] },
}
const { 'node_modules/native-mac': _, ...onLinux } = packages

test.each([
  ['all that fits the platform', onLinux, true],
  ['another version', { ...onLinux, 'node_modules/pino': { version: '1.2.4' } }, false],
  ['a package less', { 'node_modules/@shop/a': packages['node_modules/@shop/a'] }, false],
  [
    'a copy that the lock no longer has',
    { ...onLinux, 'node_modules/a/node_modules/pino': { version: '1.0.0' } },
    false,
  ],
  ['a workspace less', { 'node_modules/pino': packages['node_modules/pino'] }, false],
])('node_modules with %s', (_, installed, expected) => {
  expect(holds(packages, installed)).toBe(expected)
})

test('what is installed is stale once the lock file changes, and missing without npm’s list', () => {
  const write = (file: string, value: unknown) => writeFileSync(join(root, file), JSON.stringify(value))
  write('package-lock.json', { packages })
  expect(isInstalled(root)).toBe(false)
  mkdirSync(join(root, 'node_modules'))
  expect(isInstalled(root)).toBe(false) // npm was interrupted
  write('node_modules/.package-lock.json', { packages: onLinux })
  expect(isInstalled(root)).toBe(true)
  const newer = { packages: { ...packages, 'node_modules/pino': { version: '2.0.0' } } }
  write('package-lock.json', newer)
  expect(isInstalled(root)).toBe(false)
  writeStamp(root, JSON.stringify(newer))
  expect(isInstalled(root)).toBe(true)
  expect(stampOf('a')).not.toBe(stampOf('b'))
})

test('what was installed on another platform is installed again, and what another lock asked for is not', () => {
  const write = (file: string, value: unknown) => writeFileSync(join(root, file), JSON.stringify(value))
  write('package-lock.json', { packages })
  mkdirSync(join(root, 'node_modules'))
  write('node_modules/.package-lock.json', { packages: onLinux })
  writeStamp(root, 'another lock')
  const stamp = join(root, 'node_modules/.cache/shopstream/installed')
  const elsewhere = readFileSync(stamp, 'utf8').replace(process.platform, 'elsewhere')
  expect(isInstalled(root)).toBe(true)
  writeFileSync(stamp, elsewhere)
  expect(isInstalled(root)).toBe(false)
})

test('two at once follow one another, and a dead owner is no obstacle', async () => {
  const file = join(root, 'install.lock')
  const order: string[] = []
  const release = await lock(file)
  const second = lock(file).then((unlock) => {
    order.push('second')
    unlock()
  })
  order.push('first')
  release()
  await second
  expect(order).toEqual(['first', 'second'])
  writeFileSync(file, '999999999')
  const unlock = await lock(file)
  unlock()
})

test.each([
  ['', '127.0.0.1,localhost,::1'],
  ['intranet.example', 'intranet.example,127.0.0.1,localhost,::1'],
  ['*', '*'],
])('this machine is asked through no proxy, with NO_PROXY=%s', (set, expected) => {
  const environment = ownEnvironment({ NO_PROXY: set, HTTPS_PROXY: 'http://proxy.example' })
  expect(environment).toEqual({ NO_PROXY: expected, no_proxy: expected, HTTPS_PROXY: 'http://proxy.example' })
  expect(ownEnvironment(environment)).toEqual(environment)
})

test('libpq’s variables reach nobody unless a Postgres is named, nor does a missing folder for temporary files', () => {
  const env = { PGHOST: 'elsewhere', PGSERVICE: 'x', TMPDIR: join(root, 'missing'), LANG: 'C' }
  expect(Object.keys(ownEnvironment(env))).toEqual(['LANG', 'NO_PROXY', 'no_proxy'])
  for (const name of ['POSTGRES_URL', 'ORDER_DATABASE_URL', 'TEST_POSTGRES_URL'])
    expect(ownEnvironment({ ...env, TMPDIR: root, [name]: 'postgres://x' })).toMatchObject({ ...env, TMPDIR: root })
})

test('a checkout has the lines that the code reads, whatever git is told about line breaks', () => {
  const git = (...args: string[]) => execFileSync('git', ['-c', 'core.autocrlf=true', '-C', root, ...args])
  cpSync(join(import.meta.dirname, '../.gitattributes'), join(root, '.gitattributes'))
  writeFileSync(join(root, 'server.properties'), 'a=1\nb=2\n')
  git('init', '--quiet')
  git('add', '.')
  rmSync(join(root, 'server.properties'))
  git('checkout', '--', 'server.properties')
  expect(readFileSync(join(root, 'server.properties'), 'utf8')).toBe('a=1\nb=2\n')
})

test('every command says what it does', () => {
  const commands = listCommands(join(import.meta.dirname, '..'))
  expect(commands.map(({ name }) => name)).toEqual(expect.arrayContaining(['doctor', 'generate', 'reset', 'start']))
  expect(commands.find(({ name }) => name === 'doctor')?.about).toMatch(/^what the local shop needs/)
})
