import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { holds, isInstalled, listCommands, lock, stampOf, writeStamp } from './bootstrap.mjs'

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

test('every command says what it does', () => {
  const commands = listCommands(join(import.meta.dirname, '..'))
  expect(commands.map(({ name }) => name)).toEqual(expect.arrayContaining(['doctor', 'generate', 'reset', 'start']))
  expect(commands.find(({ name }) => name === 'doctor')?.about).toMatch(/^what the local shop needs/)
})
