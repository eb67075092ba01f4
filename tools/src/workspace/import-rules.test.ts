import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, posix } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import { repository, runCommand } from '@shopstream/testing'

/** What lint, with the house's settings, says of a file at this place; empty when it finds nothing. */
async function lint(file: string, text: string): Promise<string> {
  const house = mkdtempSync(join(tmpdir(), 'shopstream-lint-'))
  try {
    const settings = JSON.parse(readFileSync(join(repository, 'biome.json'), 'utf8'))
    const alone = { ...settings, vcs: { enabled: false }, linter: { rules: { preset: 'none' } } }
    writeFileSync(join(house, 'biome.json'), JSON.stringify(alone))
    cpSync(join(repository, 'tools/lint'), join(house, 'tools/lint'), { recursive: true })
    mkdirSync(join(house, dirname(file)), { recursive: true })
    writeFileSync(join(house, file), `${text}\n`)
    const biome = join(repository, 'node_modules', '.bin', 'biome')
    await runCommand(biome, ['lint', file], { cwd: house })
    return ''
  } catch (error) {
    return (error as Error).message.replaceAll(/\s+/g, ' ')
  } finally {
    rmSync(house, { recursive: true })
  }
}

const order = 'services/order/src/placing/x.ts'
const orderTest = 'services/order/src/placing/x.test.ts'

describe('the rules of the house bite', () => {
  test.each([
    [order, 'kafkajs', 'use @shopstream/messaging'],
    [order, 'kafkajs/src/network/connection.js', 'use @shopstream/messaging'],
    [order, '@platformatic/kafka', 'use @shopstream/messaging'],
    [orderTest, 'kafkajs', 'use @shopstream/messaging'],
    ['libs/http/src/x.ts', 'kafkajs', 'use @shopstream/messaging'],
    ['libs/testing/src/x.ts', 'kafkajs', 'use @shopstream/messaging'],
    ['tools/src/x.ts', 'kafkajs', 'use @shopstream/messaging'],
    [order, 'avsc', 'use @shopstream/events'],
    [order, 'avsc/lib/types.js', 'use @shopstream/events'],
    ['libs/messaging/src/x.ts', 'avsc', 'use @shopstream/events'],
    [order, 'pg', 'use @shopstream/database'],
    [order, 'pg/lib/client.js', 'use @shopstream/database'],
    [orderTest, 'pg', 'use @shopstream/database'],
    ['libs/messaging/src/x.ts', 'pg', 'use @shopstream/database'],
    [order, '@shopstream/inventory-service', 'services speak through topics'],
    [order, '@shopstream/inventory-service/src/app.ts', 'services speak through topics'],
    [order, '../../../inventory/src/stock/queries.ts', 'services speak through topics'],
    [order, '../../../inventory/dist/main.js', 'services speak through topics'],
    [order, './../../../inventory/src/app.ts', 'services speak through topics'],
    [orderTest, '../../../inventory/src/app.ts', 'services speak through topics'],
    ['libs/http/src/x.ts', '@shopstream/order-service', 'services speak through topics'],
    ['libs/http/src/x.ts', '../../../services/order/src/app.ts', 'services speak through topics'],
    [order, '../../../../libs/database/src/session.ts', 'libraries through their index'],
    [order, '../../../../node_modules/pg/lib/index.js', 'libraries through their index'],
    [order, '../../../../tools/src/commands/generate.ts', 'libraries through their index'],
    [order, '@shopstream/tools', "workspace's tools"],
    ['libs/http/src/x.ts', '@shopstream/tools', "workspace's tools"],
    [order, '@shopstream/testing', 'For tests alone'],
    [order, '@shopstream/local-servers', 'For tests alone'],
    [order, '@shopstream/local-servers', 'For tests alone'],
    ['libs/http/src/x.ts', '@shopstream/testing', 'For tests alone'],
  ])('%s may not import %s', async (file, imported, message) => {
    expect(await lint(file, `import '${imported}'`)).toContain(message)
  })

  test.each([
    "import type { Kafka } from 'kafkajs'\nexport type Port = Kafka",
    "export * from 'kafkajs'",
    "export { Kafka } from 'kafkajs'",
    "export const port = await import('kafkajs')",
    'export const port = await import(`kafkajs`)',
    "export const port = await import(\n  // the client\n  'kafkajs'\n)",
    "export type Port = import('kafkajs').Kafka",
    "export type Port = typeof import('kafkajs')",
    "const require = createRequire(import.meta.url)\nexport const port = require('kafkajs')",
    "export const port = createRequire(import.meta.url)('kafkajs')",
  ])('however it is written: %s', async (text) => {
    expect(await lint(order, text)).toContain('use @shopstream/messaging')
  })
})

test.each([
  'export const port = await import(`\u0024{name}js`)',
  "export const port = await import('kafka' + 'js')",
  "const name = 'kafkajs'\nexport const port = await import(name)",
])('nobody imports what no rule can see: %s', async (text) => {
  expect(await lint(order, text)).toContain('computed import')
})

describe('what the rules leave open', () => {
  test.each([
    ['libs/messaging/src/x.ts', 'kafkajs'],
    ['libs/messaging/src/x.ts', 'kafkajs/src/network/connection.js'],
    ['libs/events/src/x.ts', 'avsc'],
    ['libs/events/src/x.ts', '../../../schemas/registry.lock.json'],
    ['libs/database/src/x.ts', 'pg'],
    ['libs/database/src/x.ts', 'pg/lib/client.js'],
    [order, '@shopstream/messaging'],
    [order, '../life-cycle.ts'],
    [orderTest, '@shopstream/testing'],
    ['services/order/src/testing.ts', '@shopstream/testing'],
    ['libs/http/src/x.test.ts', '@shopstream/testing'],
    ['tools/src/x.ts', '@shopstream/local-servers'],
    ['tools/src/bench/plain/x.ts', 'pg'],
    ['tools/src/operations/services.ts', '../../../services/gateway/src/services.ts'],
  ])('%s may import %s', async (file, imported) => {
    expect(await lint(file, `import '${imported}'`)).toBe('')
  })
})

/** A file or folder that imports another one beside it in the same folder. */
interface Arrow {
  folder: string
  from: string
  to: string
  files: string
}

function arrowOf(file: string, imported: string): Arrow | undefined {
  const target = posix.normalize(posix.join(posix.dirname(file), imported))
  const [from, to] = [file.split('/'), target.split('/')]
  const level = from.findIndex((name, i) => name !== to[i])
  const [first, second] = [from[level], to[level]]
  if (first === undefined || second === undefined) return undefined
  return { folder: from.slice(0, level).join('/'), from: first, to: second, files: `${file} -> ${target}` }
}

/** The arrows that remain when what imports nothing of its folder, or is imported by nothing, is taken away again and again. */
function circles(arrows: readonly Arrow[]): Arrow[] {
  const importing = new Set(arrows.map(({ from }) => from))
  const imported = new Set(arrows.map(({ to }) => to))
  const left = arrows.filter(({ from, to }) => importing.has(to) && imported.has(from))
  return left.length === arrows.length ? [...arrows] : circles(left)
}

/** Every import of a file beside or below, in the packages' code; tests may look wherever they like. */
function arrowsOf(files: readonly string[], read: (file: string) => string): Arrow[] {
  return files.flatMap((file) =>
    [...read(file).matchAll(/from '(\.{1,2}\/[^']+)'/g)].flatMap(([, imported]) => arrowOf(file, imported ?? '') ?? []),
  )
}

test('a circle of folders is found, types included', () => {
  const texts: Record<string, string> = {
    'a/src/one/x.ts': "import type { Y } from '../two/y.ts'",
    'a/src/two/y.ts': "import { z } from './z.ts'\nexport { w } from '../three.ts'",
    'a/src/two/z.ts': '',
    'a/src/three.ts': "import { x } from './one/x.ts'",
  }
  const arrows = arrowsOf(Object.keys(texts), (file) => texts[file] ?? '')
  expect(circles(arrows.filter(({ folder }) => folder === 'a/src'))).toHaveLength(3)
  expect(circles(arrows.filter(({ folder }) => folder === 'a/src/two'))).toEqual([])
})

test('in every folder imports run one way: no file or folder imports what imports it', () => {
  const files = globSync('{libs,services,tools}/**/*.ts', {
    cwd: repository,
    exclude: (name) => name === 'node_modules' || name === 'dist' || name === 'testing',
  }).filter((file) => !/(\.test|\/testing)\.ts$/.test(file))
  expect(files.length).toBeGreaterThan(300)
  const arrows = arrowsOf(files, (file) => readFileSync(join(repository, file), 'utf8'))
  const found = [...Map.groupBy(arrows, ({ folder }) => folder).values()].flatMap(circles)
  expect(found.map(({ files }) => files)).toEqual([])
})
