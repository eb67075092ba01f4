/** The examples' own tests, each against one running shop; one whose toolchain this machine lacks is skipped. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { partitionOf } from '@shopstream/events'
import { cacheFolder, eventually, repository, runCommand } from '@shopstream/testing'
import { type CompanionName, companionNames, companions } from '../../local/companions.ts'
import { virtualEnvironment, withoutOtherTools } from '../../local/python.ts'
import type { Shop } from '../../local/shop.ts'
import { findPlace, reach } from '../../operations/shop-access.ts'
import { verify } from '../../operations/verify.ts'
import { openShop } from './shop-under-test.ts'

interface Example {
  /** What this machine has to have beside Node. */
  needs?: { tool: string; command: [string, ...string[]] }[]
  /** What has to run beside the shop. */
  beside?: CompanionName[]
  /** Installs what the example pins, unless it is there, and returns its test command and where to run it. */
  prepare(folder: string): Promise<{ command: [string, ...string[]]; cwd: string }>
}

const limitMs = 300_000

const python = {
  tool: 'Python 3.10 or later with venv (python3)',
  command: ['python3', '-c', 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))'] as [
    string,
    ...string[],
  ],
}

/** One row per folder of examples/. */
const examples: Record<string, Example> = {
  python: {
    needs: [python],
    prepare: async (cwd) => ({ cwd, command: [await pythonOf(cwd), '-m', 'unittest'] }),
  },
  django: {
    needs: [python],
    prepare: async (cwd) => ({ cwd, command: [await pythonOf(cwd), 'run.py', 'test'] }),
  },
  celery: {
    needs: [python],
    beside: ['rabbitmq', 'redis'],
    prepare: async (cwd) => ({ cwd, command: [await pythonOf(cwd), 'run.py', 'test'] }),
  },
  java: {
    needs: [
      { tool: 'a JDK of 17 or later (javac)', command: ['javac', '--release', '17', '--version'] },
      { tool: 'Maven (mvn)', command: ['mvn', '--version'] },
    ],
    // Maven keeps what it fetches in its own repository.
    prepare: async (cwd) => ({ cwd, command: ['mvn', '-B', '-q', `-Doutput=${cached('java', 'target')}`, 'test'] }),
  },
  node: {
    prepare: async (folder) => ({ cwd: await nodeModules(folder), command: ['npm', 'test'] }),
  },
}

let opened: Awaited<ReturnType<typeof openShop>>
const lackOf = new Map(
  await Promise.all(companionNames.map(async (name) => [name, await companions[name].whyNot(process.env)] as const)),
)
const missing = Object.fromEntries(
  Object.entries(examples).map(([name, { needs = [], beside = [] }]) => [
    name,
    [
      ...needs.filter(({ command }) => !runs(command)).map(({ tool }) => tool),
      ...beside.flatMap((one) => (lackOf.get(one) ? `${companions[one].title} (${lackOf.get(one)})` : [])),
    ],
  ]),
)
const beside = Object.keys(examples).flatMap((name) => (missing[name]?.length ? [] : (examples[name]?.beside ?? [])))
/** Begun together: each waits for its registry. */
const prepared: Record<string, ReturnType<Example['prepare']>> = {}

beforeAll(async () => {
  for (const [name, { prepare }] of Object.entries(examples)) {
    if (missing[name]?.length) continue
    prepared[name] = prepare(join(repository, 'examples', name))
    prepared[name].catch(() => {}) // its own test tells
  }
  opened = await openShop({ with: beside })
}, 180_000)

afterAll(async () => {
  await opened?.shop.stop()
  opened?.forget()
}, 30_000)

test('every folder of examples/ has a row here', () => {
  const entries = readdirSync(join(repository, 'examples'), { withFileTypes: true })
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  expect(Object.keys(examples).toSorted()).toEqual(folders.toSorted())
})

test('the partitions that the examples are held to are those of the shop', () => {
  const { partitions, ofKey } = JSON.parse(readFileSync(join(repository, 'examples/partitions.json'), 'utf8'))
  const ours = Object.keys(ofKey).map((key) => [key, partitionOf(key, partitions)])
  expect(Object.fromEntries(ours)).toEqual(ofKey)
})

for (const name of Object.keys(examples)) {
  const lacks = missing[name] ?? []
  if (lacks.length > 0) test.skip(`examples/${name}: skipped, this machine lacks ${lacks.join(' and ')}`, () => {})
  else
    test(
      `examples/${name}`,
      async () => {
        const {
          command: [program, ...args],
          cwd,
        } = await (prepared[name] as ReturnType<Example['prepare']>)
        await runCommand(program, args, { cwd, env: environment(opened.shop), limitMs }) // throws with its output
      },
      2 * limitMs,
    )
}

const whenCelery = missing.celery?.length ? test.skip : test

whenCelery(
  'what examples/celery has answered by each broker is in the topic, in order and once',
  async () => {
    // By each somebody registers, gets a parcel, another by a task that comes twice, another by a worker that is killed.
    const totals = await eventually('the last answers', async () => {
      const found = await totalsByUser()
      return found.filter((ofUser) => ofUser.at(-1) === 80).length >= 2 ? found : undefined
    })
    expect(totals.filter((ofUser) => Math.max(...ofUser) >= 70)).toEqual([
      [50, 60, 70, 80],
      [50, 60, 70, 80],
    ])
    expect(totals.filter((ofUser) => new Set(ofUser).size < ofUser.length)).toEqual([])
  },
  60_000,
)

test('what the examples have written is no discrepancy: their producers are listed', async () => {
  const hold = await reach(findPlace({ SHOPSTREAM_HOME: opened.home }))
  try {
    const { checks, discrepancies } = await verify(hold, { settleMs: 2_000 })
    expect({ discrepancies, found: checks.flatMap(({ findings }) => findings) }).toEqual({
      discrepancies: 0,
      found: [],
    })
  } finally {
    await hold.close()
  }
}, 60_000)

function runs([program, ...args]: [string, ...string[]]): boolean {
  return spawnSync(program, args, { stdio: 'ignore', timeout: 20_000 }).status === 0
}

/** What users have had in all after each of their awards. */
async function totalsByUser(): Promise<number[][]> {
  const args = ['shop', 'tail', 'shop.loyalty.v1', '--from', 'beginning', '--to-end', '--json']
  const printed = await runCommand(process.execPath, [join(repository, 'tools/bootstrap.mjs'), ...args], {
    env: { ...withoutOtherTools(process.env), SHOPSTREAM_HOME: opened.home },
  })
  const awards: { key: string; data: { total: number } }[] = printed
    .split('\n')
    .flatMap((line) => (line.startsWith('{') ? JSON.parse(line) : []))
  const byUser = Map.groupBy(awards, ({ key }) => key)
  return [...byUser.values()].map((ofUser) => ofUser.map(({ data }) => data.total))
}

/** Where the examples find the shop. */
function environment({ kafka, gatewayUrl, mailUrl, staff, companionUrls }: Shop): NodeJS.ProcessEnv {
  return {
    ...withoutOtherTools(process.env),
    KAFKA_BROKERS: kafka.brokers.join(),
    SCHEMA_REGISTRY_URL: `${gatewayUrl}/schema-registry`,
    GATEWAY_URL: gatewayUrl,
    MAIL_URL: mailUrl,
    STAFF_EMAIL: staff.email,
    STAFF_PASSWORD: staff.password,
    ...companionUrls,
    LOYALTY_STATE: join(opened.home, 'loyalty'),
    PYTHONPYCACHEPREFIX: join(cacheFolder, 'examples', 'bytecode'), // none in the working tree
  }
}

/** A folder that a second run finds again. */
function cached(example: string, what: string): string {
  return join(cacheFolder, 'examples', example, what)
}

/** Fills a cached folder once per content of `pinned`; what an interrupted run has left in it is thrown away. */
async function once(folder: string, pinned: string, fill: () => Promise<unknown>): Promise<void> {
  const stamp = join(folder, 'installed.sha256')
  const wanted = createHash('sha256').update(readFileSync(pinned)).digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  await fill()
  writeFileSync(stamp, wanted)
}

/** A Python with the requirements of an example; returns its path. */
const pythonOf = (example: string) =>
  virtualEnvironment(cached(basename(example), 'python'), join(example, 'requirements.txt'))

/** A copy of a Node example beside its modules, so that nothing is installed into the working tree; returns its folder. */
async function nodeModules(example: string): Promise<string> {
  const folder = cached('node', 'copy')
  const copy = () =>
    cpSync(example, folder, { recursive: true, filter: (file) => !file.includes(`${example}/node_modules`) })
  await once(folder, join(example, 'package-lock.json'), async () => {
    copy()
    await runCommand('npm', ['ci', '--loglevel=error'], { cwd: folder, env: withoutOtherTools(process.env), limitMs })
  })
  copy()
  return folder
}
