import { randomUUID } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createDatabase, createServiceDatabase, sql } from '@shopstream/database'
import {
  answers,
  eventually,
  freePort,
  identify,
  isAlive,
  isFree,
  kafkaSettings,
  parseIdentity,
  removePostgres,
  repository,
  startKafka,
  startPostgres,
  startProcess,
  stopLeftover,
  stopLeftoverKafka,
  stopLeftoverPostgres,
  writeIdentity,
} from '@shopstream/local-servers'
import { kafkaEnvironment, removeAbandonedRuns } from './jest/backend.ts'
import { testLogger } from './test-logger.ts'

let dir: string
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'shopstream-servers-'))
  chmodSync(dir, 0o711)
  Object.assign(process.env, foreign)
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

/** A name with everything that some format, shell or URL reads otherwise. */
const odd = `ü #%41?'" ,;$(x)\\u0041&!=`
/** The shell of somebody who has other things in mind. */
const foreign = { LC_ALL: 'C', JAVA_TOOL_OPTIONS: '-Xmx1k', PGSSLMODE: 'require' }

const logger = testLogger()

test('in any folder, Postgres keeps its data over an orderly restart and a kill -9, and takes no wrong password', async () => {
  const postgres = await startPostgres({ dir: join(dir, odd, 'postgres'), password: 'a secret' })
  try {
    const url = await createServiceDatabase(postgres.url, { name: 'keeper', password: 'of data' })
    const query = async (address: string, text: string) => {
      const database = createDatabase({ url: address, poolSize: 1, applicationName: 'test', logger })
      try {
        return (await sql.raw(text).execute(database.query)).rows
      } finally {
        await database.close()
      }
    }
    await query(url, `create table kept as select 'ünïcode' as word`)
    const before = postgres.pid
    await postgres.restart()
    expect(postgres.pid).not.toBe(before)
    await postgres.kill()
    expect(postgres.running).toBe(false)
    await postgres.restart()
    expect(await query(url, 'select word from kept')).toEqual([{ word: 'ünïcode' }])
    await expect(query(url.replace('of%20data', 'wrong'), 'select 1')).rejects.toThrow('password authentication failed')
  } finally {
    await postgres.stop()
  }
  expect(await answers(postgres.port)).toBe(false)
})

test('in any folder, Kafka starts again after an orderly stop and after a kill -9, and its stop leaves nothing', async () => {
  const place = join(dir, odd, 'kafka')
  const kafka = await startKafka({ dir: place })
  const data = () => readFileSync(join(place, 'data/meta.properties'), 'utf8')
  const cluster = /cluster.id=.*/.exec(data())?.[0]
  try {
    await kafka.restart()
    await kafka.kill()
    expect(await answers(kafka.port)).toBe(false)
    await kafka.restart()
    expect(await answers(kafka.port)).toBe(true)
    expect(data()).toContain(cluster)
  } finally {
    await kafka.stop()
  }
  expect(kafka.pid).toBeUndefined()
  expect(await answers(kafka.port)).toBe(false)
  expect(existsSync(join(place, 'kafka.pid'))).toBe(false)
  expect([readdirSync(dir), readdirSync(place).sort()]).toEqual([
    [odd],
    ['data', 'format.properties', 'kafka.log', 'kafka.log.1', 'server.properties'],
  ])
}, 90_000)

test('servers of an owner that was killed are stopped by what they left in their folder', async () => {
  const owned = mkdtempSync(join(dir, 'base-'))
  const run = join(owned, 'shopstream-test-dead')
  mkdirSync(run, { mode: 0o711 })
  chmodSync(owned, 0o711)
  writeFileSync(join(run, 'owner.json'), JSON.stringify({ pid: process.pid, startedAt: 'long ago' }))
  const postgres = await startPostgres({ dir: join(run, 'postgres'), password: 'x', durable: false })
  const living = join(owned, 'shopstream-test-living')
  mkdirSync(living)
  writeIdentity(join(living, 'owner.json'), process.pid)
  await removeAbandonedRuns(owned)
  expect(await answers(postgres.port)).toBe(false)
  expect(readdirSync(owned)).toEqual(['shopstream-test-living'])
})

const asRoot = process.getuid?.() === 0 ? test : test.skip
asRoot('as root, where its user cannot reach the folder, the data go elsewhere and stay there', async () => {
  const hidden = join(dir, 'hidden')
  mkdirSync(hidden, { mode: 0o700 })
  const place = join(hidden, 'postgres')
  const said: string[] = []
  const options = { dir: place, password: 'x', durable: false, progress: (line: string) => void said.push(line) }
  try {
    const postgres = await startPostgres(options)
    await postgres.stop()
    const elsewhere = readFileSync(join(place, 'location'), 'utf8')
    expect(said.join()).toContain(elsewhere)
    expect(statSync(elsewhere).mode & 0o077).toBe(0)
    const again = await startPostgres(options)
    await again.stop()
    expect(readFileSync(join(place, 'location'), 'utf8')).toBe(elsewhere)
    removePostgres(place)
    expect([existsSync(place), existsSync(elsewhere)]).toEqual([false, false])
  } finally {
    removePostgres(place)
  }
})

const sleeper = (script: string, ready = /up/) => ({
  name: 'sleeper',
  command: process.execPath,
  args: ['-e', script],
  port: 1,
  logFile: join(dir, `${randomUUID()}.log`),
  pidFile: join(dir, `${randomUUID()}.pid`),
  ready,
  readyLimitMs: 10_000,
  stopSignal: 'SIGTERM' as const,
  stopLimitMs: 100,
})

test('a server that ignores its stop signal is killed, and whoever keeps its archive is told', async () => {
  const told: boolean[] = []
  const launch = sleeper(`process.on('SIGTERM', () => {}); console.log('up'); setInterval(() => {}, 1000)`)
  const stubborn = await startProcess({ ...launch, stopped: (orderly) => void told.push(orderly) })
  const { pid = 0 } = stubborn
  await stubborn.stop()
  expect(identify(pid)).toBeUndefined()
  expect(told).toEqual([false])
})

test('a server that dies tells why; one that dies later is reported once', async () => {
  await expect(startProcess(sleeper(`console.log('the port is taken'); process.exit(3)`))).rejects.toThrow(
    /sleeper ended with code 3[\s\S]*the port is taken/,
  )
  const ends: string[] = []
  const launch = sleeper(`console.log('up'); setInterval(() => {}, 1000)`)
  const victim = await startProcess({ ...launch, onUnexpectedEnd: (how) => void ends.push(how) })
  process.kill(victim.pid ?? 0, 'SIGKILL')
  await eventually('the report', () => ends.length > 0)
  await victim.restart()
  await victim.stop()
  expect(ends).toEqual(['was ended by SIGKILL'])
})

test('a server that is killed from outside before it is ready is started again', async () => {
  const mark = join(dir, 'killed')
  const script = `require('fs').appendFileSync(${JSON.stringify(mark)}, '.')
    if (require('fs').readFileSync(${JSON.stringify(mark)}).length < 3) process.kill(process.pid, 'SIGKILL')
    console.log('up'); setInterval(() => {}, 1000)`
  const server = await startProcess(sleeper(script))
  await server.stop()
  expect(readFileSync(mark, 'utf8')).toBe('...')
  const broken = sleeper(`process.kill(process.pid, 'SIGABRT')`)
  await expect(startProcess(broken)).rejects.toThrow('sleeper was ended by SIGABRT')
})

test('a start can be given up', async () => {
  const abort = new AbortController()
  const launch = sleeper('setInterval(() => {}, 1000)')
  const starting = startProcess({ ...launch, signal: abort.signal })
  const { pid = 0 } = await eventually('its record', () => parseIdentity(readFileSync(launch.pidFile, 'utf8')))
  abort.abort(new Error('no longer wanted'))
  await expect(starting).rejects.toThrow('no longer wanted')
  expect(identify(pid)).toBeUndefined()
})

test('only the very process counts as alive, not another one with its number', async () => {
  const me = identify(process.pid)
  expect(me && isAlive(me)).toBe(true)
  expect(isAlive({ pid: process.pid, startedAt: 'at another time' })).toBe(false)
  const file = join(dir, 'reused.pid')
  writeFileSync(file, JSON.stringify({ pid: process.pid, startedAt: 'at another time' }))
  expect(await stopLeftover(file)).toBeUndefined() // or this test would have ended here
  expect(existsSync(file)).toBe(false)
  writeFileSync(file, '{"pid":')
  expect(await stopLeftover(file)).toBeUndefined()
  expect(await stopLeftoverKafka(dir)).toBe(false)
  expect(await stopLeftoverPostgres(dir)).toBe(false)
})

test('a port that is listened on is not free, and another one is given instead', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  const port = await eventually('the port', () => (server.address() as { port: number } | null)?.port)
  expect(await isFree(port)).toBe(false)
  const [one, two] = await Promise.all([freePort(port), freePort(port)])
  expect(new Set([one, two, port]).size).toBe(3)
  await new Promise((resolve) => server.close(resolve))
})

test('docker-compose.yml gives Kafka the settings of infra/kafka', () => {
  const compose = readFileSync(join(repository, 'docker-compose.yml'), 'utf8').replaceAll(
    /\$\{[A-Z_]+:-([^}]*)\}/g,
    '$1',
  )
  const lines = Object.entries(kafkaEnvironment(kafkaSettings())).map(([name, value]) => `${name}: "${value}"`)
  expect(lines.filter((line) => !compose.includes(line))).toEqual([])
})
