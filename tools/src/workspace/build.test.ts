import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { repository } from '@shopstream/testing'
import { buildService, copyInstalled } from './bundle.ts'

const folder = join(repository, 'services/user')
let out: string

beforeAll(async () => {
  // Below the repository, whence Node finds what stays outside the bundle.
  const cache = join(repository, 'node_modules/.cache')
  mkdirSync(cache, { recursive: true })
  out = join(mkdtempSync(join(cache, 'build-test-')), 'dist')
  await buildService(folder, out)
})

afterAll(() => rmSync(join(out, '..'), { recursive: true, force: true }))

const run = (env: Record<string, string>) =>
  spawnSync(process.execPath, ['--enable-source-maps', 'main.js'], { cwd: out, env, encoding: 'utf8', timeout: 30_000 })

test('a bundle says everything that is wrong with its environment', () => {
  const { status, stderr, stdout } = run({ PORT: 'none' })
  expect(stdout).toBe('')
  expect(stderr).toMatch(/PORT is "none".*DATABASE_URL is missing.*KAFKA_BROKERS is missing.*KEY_ENCRYPTION_SECRET/s)
  expect(status).toBe(1)
})

test('it is one file with a source map, and its migrations are where it looks first', () => {
  expect(readdirSync(out).sort()).toEqual(['main.js', 'main.js.map', 'migrations', 'package.json'])
  const bundle = readFileSync(join(out, 'main.js'), 'utf8')
  const sources = [...bundle.matchAll(/\breadMigrations\("([^"]+)", import\.meta\.url\)/g)].map(([, source]) => source)
  expect(sources.sort()).toEqual(['http', 'messaging', 'signing-key', 'user'])
  for (const source of sources) {
    expect(readdirSync(join(out, 'migrations', source ?? ''))).toContainEqual(expect.stringMatching(/^0001-.*\.sql$/))
  }
})

test('what stays outside is named with its exact version', () => {
  const { dependencies } = JSON.parse(readFileSync(join(out, 'package.json'), 'utf8'))
  expect(Object.keys(dependencies).sort()).toEqual(['@fastify/swagger-ui', '@node-rs/argon2', 'pino-pretty'])
  for (const version of Object.values(dependencies)) expect(version).toMatch(/^\d+\.\d+\.\d+/)
})

test('kafkajs is within, with the deep import that messaging needs', () => {
  const { sources } = JSON.parse(readFileSync(join(out, 'main.js.map'), 'utf8')) as { sources: string[] }
  expect(sources.some((source) => source.endsWith('kafkajs/src/network/requestQueue/index.js'))).toBe(true)
  expect(sources.some((source) => source.includes('libs/testing/'))).toBe(false)
})

test('it has no crash points, whatever its environment says', () => {
  const bundle = readFileSync(join(out, 'main.js'), 'utf8')
  expect(bundle).toMatch(/^var crashAt = (void 0|.*\? void 0 : void 0);$/m)
  expect(bundle).not.toContain('SHOPSTREAM_CRASH_AT')
})

test('the command leaves a bundle with what cannot be bundled, whatever starts it', () => {
  const made = join(out, '../by-command')
  const command = ['tools/bootstrap.mjs', 'build', 'services/user', '--installed', '--out', made]
  const { status, stdout } = spawnSync(process.execPath, command, { cwd: repository, encoding: 'utf8' })
  expect(stdout).toContain('main.js')
  expect(status).toBe(0)
  expect(existsSync(join(made, 'main.js'))).toBe(true)
  expect(readdirSync(join(made, 'node_modules/@node-rs'))).toContain('argon2')
})

test('packages are copied where they are installed, in each version that is needed, and none is missing unseen', () => {
  const root = join(out, '../installed')
  const write = (place: string, version: string, more: object) => {
    mkdirSync(join(root, place), { recursive: true })
    writeFileSync(join(root, place, 'package.json'), JSON.stringify({ version, ...more }))
  }
  write('node_modules/a', '1.0.0', { dependencies: { b: '^2' }, optionalDependencies: { 'only-elsewhere': '1' } })
  write('node_modules/b', '1.0.0', {})
  write('node_modules/a/node_modules/b', '2.0.0', {})
  write('node_modules/c', '1.0.0', { dependencies: { b: '^1' } })
  write('node_modules/d', '1.0.0', { dependencies: { missing: '1' } })
  const copy = join(out, '../copied')
  copyInstalled(copy, ['a', 'c'], root)
  const versionAt = (place: string) => JSON.parse(readFileSync(join(copy, place, 'package.json'), 'utf8')).version
  expect(versionAt('node_modules/b')).toBe('1.0.0')
  expect(versionAt('node_modules/a/node_modules/b')).toBe('2.0.0')
  expect(() => copyInstalled(copy, ['d'], root)).toThrow(/missing.* is not installed/)
})

test('nothing is built from a folder without a service', async () => {
  const nowhere = join(out, '../nothing')
  await expect(buildService(join(repository, 'libs/config'), nowhere)).rejects.toThrow('main.ts')
  expect(existsSync(nowhere)).toBe(false)
})
