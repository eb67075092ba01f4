import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import type { ConfigError } from '@shopstream/config'
import { freePort, identify, parseIdentity } from '@shopstream/local-servers'
import { eventually } from '@shopstream/testing'
import { processEnvironment, tracesEnvironment } from './environments.ts'
import { chooseWay, noKafkaMessage } from './kafka.ts'
import { eachLine, prefixer, readableLine } from './log-lines.ts'
import { isMigrating } from './readiness.ts'
import { readSettings, serviceEnvironment, unusedPorts } from './services.ts'
import { choosePorts, defaultPorts, readStackSettings } from './settings.ts'
import { nodeFlags } from './shop.ts'
import { AlreadyRunning, claimant, claimHome, readSecrets, runningShop, writePrivate } from './state-folder.ts'
import { pauseMs, type ServiceLaunch, type SupervisedService, supervise } from './supervisor.ts'

let dir: string
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'shopstream-stack-'))
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

test('a folder belongs to one stack at a time, and to nobody after its death', () => {
  const home = join(dir, 'home')
  const release = claimHome(home)
  expect(() => claimHome(home)).toThrow(AlreadyRunning)
  expect(() => claimHome(home)).toThrow(`(pid ${process.pid})`)
  release()
  expect(claimant(home)).toBeUndefined()
  for (const left of [JSON.stringify({ pid: process.pid, startedAt: 'before the reboot' }), '{"pi']) {
    writeFileSync(join(home, 'stack.pid'), left)
    expect(claimant(home)).toBeUndefined()
    claimHome(home)()
  }
})

test('a running stack is found by its record, a dead one is not', () => {
  const home = join(dir, 'record')
  const release = claimHome(home)
  expect(runningShop(home)).toBeUndefined()
  writePrivate(join(home, 'shop.json'), JSON.stringify({ pid: process.pid, gatewayUrl: 'http://127.0.0.1:8080' }))
  expect(runningShop(home)).toMatchObject({ gatewayUrl: 'http://127.0.0.1:8080' })
  release()
  expect(runningShop(home)).toBeUndefined()
})

test('spans go to the Zipkin of the stack, unless the environment has another place for them', () => {
  const own = { OTEL_TRACES_EXPORTER: 'zipkin', OTEL_EXPORTER_ZIPKIN_ENDPOINT: 'http://127.0.0.1:9411/api/v2/spans' }
  expect(tracesEnvironment({ OTEL_TRACES_EXPORTER: '' }, 9411)).toEqual(own)
  for (const name of ['OTEL_TRACES_EXPORTER', 'OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'])
    expect(tracesEnvironment({ [name]: 'http://127.0.0.1:4318' }, 9411)).toEqual({})
  expect(
    [unusedPorts({}, ['order']), unusedPorts({}, ['order'], ['zipkin'])].map((all) => all.has('ZIPKIN_PORT')),
  ).toEqual([true, false])
})

test('secrets are made once, stay, are complete after an update, and are for their owner alone', () => {
  const home = join(dir, 'secrets')
  claimHome(home)()
  const first = readSecrets(home, ['user'])
  const later = readSecrets(home, ['user', 'order'])
  expect(later).toEqual({ ...first, databasePasswords: { ...first.databasePasswords, order: expect.any(String) } })
  expect(first.keyEncryptionSecret.length).toBeGreaterThanOrEqual(32)
  expect(first.staffPassword.length).toBeGreaterThanOrEqual(12)
  expect(statSync(join(home, 'secrets.json')).mode & 0o777).toBe(0o600)
})

async function busyPort(): Promise<{ port: number; close: () => void }> {
  const server = createServer().listen(0, '127.0.0.1')
  const port = await eventually('the port', () => (server.address() as { port: number } | null)?.port)
  return { port, close: () => server.close() }
}

test('a busy default port moves, a busy explicit one is an error that names it', async () => {
  const { port, close } = await busyPort()
  const other = await freePort()
  try {
    const { explicit } = readStackSettings({
      GATEWAY_PORT: String(port),
      MAIL_UI_PORT: String(other),
      SMTP_PORT: String(port + 1),
    })
    await expect(choosePorts(explicit)).rejects.toThrow(`GATEWAY_PORT is ${port}`)
    expect(await choosePorts(explicit, new Set(['GATEWAY_PORT', 'SMTP_PORT']))).toMatchObject({
      GATEWAY_PORT: port,
      MAIL_UI_PORT: other,
    })
  } finally {
    close()
  }
  const ports = await choosePorts({ USER_PORT: defaultPorts.GATEWAY_PORT }, new Set(['USER_PORT']))
  expect(ports.GATEWAY_PORT).not.toBe(defaultPorts.GATEWAY_PORT)
  expect(new Set(Object.values(ports)).size).toBe(Object.keys(defaultPorts).length)
})

test('everything wrong in the environment is said at once, without its secrets', async () => {
  const env = {
    GATEWAY_PORT: '99999',
    SMTP_PORT: 'x',
    USER_PORT: '7000',
    ORDER_PORT: '7000',
    POSTGRES_URL: 'secret@host',
    STAFF_PASSWORD: 'hunter2',
    STAFF_EMAIL: 'nope',
    LOG_LEVEL: 'loud',
    KAFKA_BROKERS: 'nohost',
    KAFKA_TOPIC_PREFIX: 'a/b',
    ACCESS_TOKEN_SECONDS: 'soon',
    BRIDGES: '[{ name: a, send: [OrderPlacd], to: { redis: { url: REDIS_URL } } }, { name: b }]',
  }
  const { problems } = (await readSettings(env).catch((error: unknown) => error)) as ConfigError
  const named = [
    'GATEWAY_PORT',
    'SMTP_PORT',
    'ORDER_PORT and USER_PORT are both 7000',
    'POSTGRES_URL',
    'STAFF_PASSWORD',
    'STAFF_EMAIL',
    'LOG_LEVEL',
    'KAFKA_BROKERS',
    'KAFKA_TOPIC_PREFIX',
    'ACCESS_TOKEN_SECONDS',
    'or start it beside the shop: --with redis',
    'BRIDGES: bridge a: send.0 must be',
    'BRIDGES: bridge b: says neither',
  ]
  for (const name of named) expect(problems.filter((problem) => problem.includes(name))).toHaveLength(1)
  expect(problems).toHaveLength(named.length)
  expect(problems.join()).not.toMatch(/secret@host|hunter2/)
})

const java = { command: 'java', version: 17, text: '' }
const nothing = { java: undefined, maven: undefined, jars: false, engine: undefined }
test.each([
  ['Java with Maven', { ...nothing, java, maven: '3.9' }, 'java'],
  ['Java with jars that Maven fetched before', { ...nothing, java, jars: true }, 'java'],
  [
    'Java before a container engine',
    { ...nothing, java, maven: '3.9', engine: { version: '29', compose: true } },
    'java',
  ],
  [
    'an old Java and a container engine',
    { ...nothing, java: { ...java, version: 11 }, maven: '3.9', engine: { version: '29', compose: true } },
    'container',
  ],
  ['a container engine without compose', { ...nothing, engine: { version: '29', compose: false } }, undefined],
  ['nothing', nothing, undefined],
])('Kafka by %s', (_, ways, expected) => {
  expect(chooseWay(ways)).toBe(expected)
  if (!expected)
    for (const way of ['Java 17', 'container engine', 'KAFKA_BROKERS']) expect(noKafkaMessage(ways)).toContain(way)
})

test('TLS and users are for a Kafka that runs already', async () => {
  const tls = { KAFKA_TLS: 'true' }
  const refused = (await readSettings(tls).catch((error: unknown) => error)) as ConfigError
  expect(refused.problems).toEqual([
    'KAFKA_TLS is for a Kafka that runs already: name it by KAFKA_BROKERS, or leave KAFKA_TLS out',
  ])
  expect(await readSettings({ ...tls, KAFKA_BROKERS: 'kafka-1:9093' })).toMatchObject({ settings: { KAFKA_TLS: true } })
})

test('a service gets what it needs and no more', () => {
  const around = {
    ports: defaultPorts,
    brokers: ['127.0.0.1:9092'],
    databaseUrl: (service: string) => `postgres://${service}@127.0.0.1/x`,
    smtpUrl: 'smtp://127.0.0.1:1025',
    secrets: {
      postgresPassword: 'p',
      keyEncryptionSecret: 'k',
      staffPassword: 's',
      databasePasswords: {},
      companionPasswords: {},
    },
    settings: readStackSettings({}).settings,
  }
  expect(serviceEnvironment('gateway', around)).not.toHaveProperty('DATABASE_URL')
  expect(serviceEnvironment('order', around)).not.toHaveProperty('KEY_ENCRYPTION_SECRET')
  expect(serviceEnvironment('user', around)).toMatchObject({
    PORT: '8081',
    STAFF_PASSWORD: 's',
    DATABASE_URL: 'postgres://user@127.0.0.1/x',
  })
})

test('a service inherits nothing that was meant for other programs', () => {
  const foreign = {
    PGSSLMODE: 'require',
    PGOPTIONS: '-c default_transaction_read_only=on',
    NODE_OPTIONS: '--inspect',
    NODE_USE_ENV_PROXY: '1',
    npm_config_x: '1',
    PORT: '1',
  }
  const environment = processEnvironment({ ...foreign, KAFKA_CLIENT: 'platformatic' }, { PORT: '8081' })
  expect(environment).toMatchObject({ PORT: '8081', KAFKA_CLIENT: 'platformatic' })
  for (const name of Object.keys(foreign)) if (name !== 'PORT') expect(environment).not.toHaveProperty(name)
  // Whoever names a Postgres says with these how it is reached.
  expect(processEnvironment({ ...foreign, POSTGRES_URL: 'postgres://x' }, {})).toMatchObject({ PGSSLMODE: 'require' })
  // Node reads it as a URL, in which # and % have a meaning.
  expect(existsSync(fileURLToPath(nodeFlags.at(-1) ?? ''))).toBe(true)
})

test('a service that migrates its database is waited for, and one whose database is away is not', () => {
  const state = (start: string, database: string) =>
    JSON.stringify({
      checks: Object.entries({ kafka: 'ok', start, database }).map(([name, status]) => ({ name, status })),
    })
  expect([
    isMigrating(state('failed', 'ok')),
    isMigrating(state('failed', 'failed')),
    isMigrating(state('ok', 'ok')),
    isMigrating('null'),
  ]).toEqual([true, false, false, false])
})

test('log lines become readable, others stay as they are', () => {
  const time = new Date(2026, 0, 2, 3, 4, 5, 6).toISOString()
  const line = JSON.stringify({
    level: 40,
    time,
    msg: 'slow',
    service: 'order',
    ms: 7,
    err: { message: 'late', stack: 'Error: late\n    at x' },
  })
  expect(readableLine(line, false)).toBe('03:04:05.006 WARN  slow ms=7\n    Error: late\n        at x')
  expect(readableLine('{"level": half', false)).toBe('{"level": half')
  expect(prefixer(['user', 'inventory'], false)('user', 'one\ntwo')).toBe('user      | one\nuser      | two')
})

test('lines are cut at line breaks, also when characters come in pieces', async () => {
  const stream = new PassThrough()
  const lines: string[] = []
  eachLine(stream, (line) => void lines.push(line))
  const bytes = Buffer.from('grün\r\nweiß')
  for (const byte of bytes) stream.write(Buffer.from([byte]))
  stream.end()
  await eventually('the last line', () => lines.length === 2)
  expect(lines).toEqual(['grün', 'weiß'])
})

/** A dummy service: says that it is ready on its port, unless told otherwise by its script. */
async function dummy(script: string, more: Partial<ServiceLaunch> = {}) {
  const port = await freePort()
  const seen: { lines: string[]; events: string[]; givenUp: string[] } = { lines: [], events: [], givenUp: [] }
  const launch: ServiceLaunch = {
    name: 'dummy',
    command: process.execPath,
    args: ['-e', script],
    cwd: dir,
    env: { PATH: process.env.PATH, PORT: String(port), SHOPSTREAM_STACK_PID: String(process.pid) },
    pidFile: join(dir, `${port}.pid`),
    readyUrl: `http://127.0.0.1:${port}/readyz`,
    onLine: (line) => void seen.lines.push(line),
    onEvent: (event) => void seen.events.push(event),
    onGivenUp: (reason) => void seen.givenUp.push(reason),
    ...more,
  }
  return { launch, seen, service: supervise(launch) }
}
const serving = `require('http').createServer((q, r) => r.end('ok')).listen(process.env.PORT, '127.0.0.1', () => console.log('up'))`
const isReady = (service: SupervisedService) => eventually('readiness', () => service.ready)

test('a killed service is back within a second, as often as it is killed', async () => {
  const { service, seen, launch } = await dummy(serving)
  await isReady(service)
  for (let round = 1; round <= 6; round += 1) {
    const { pid } = service
    const begun = performance.now()
    service.kill()
    await eventually('a new process', () => service.pid !== undefined && service.pid !== pid)
    expect(performance.now() - begun).toBeLessThan(1_000)
    await isReady(service)
    expect(service.restartCount).toBe(round)
  }
  const record = parseIdentity(readFileSync(launch.pidFile, 'utf8'))
  expect(record?.pid).toBe(service.pid)
  await service.stop(1_000)
  expect([seen.events.length, seen.givenUp, existsSync(launch.pidFile)]).toEqual([6, [], false])
  expect(seen.lines).toHaveLength(7)
})

test('one that keeps dying before it is ready is given up, and its words were passed on', async () => {
  const policy = { deaths: 3, pauseMs: () => 1 }
  const { service, seen } = await dummy(`console.error('PORT is wrong'); process.exit(1)`, { policy })
  await eventually('giving up', () => seen.givenUp.length > 0)
  expect(seen.givenUp[0]).toContain('ended with code 1, 3 times in a row')
  expect([service.givenUp, service.restartCount, service.pid]).toEqual([true, 2, undefined])
  await eventually('its lines', () => seen.lines.length === 3)
  await service.stop(1_000)
})

test.each([
  ['a signal', `process.kill(process.pid, 'SIGKILL')`],
  ['an order to end', `process.exit(0)`],
])('one that is ended by %s before it is ready is never given up', async (_, script) => {
  const pauses: number[] = []
  const pauseMs = (deaths: number) => {
    pauses.push(deaths)
    return 1
  }
  const { service, seen } = await dummy(script, { policy: { deaths: 2, pauseMs } })
  await eventually('its seventh start', () => service.restartCount >= 6)
  expect([seen.givenUp, service.givenUp]).toEqual([[], false])
  expect(pauses.slice(0, 6)).toEqual([1, 2, 3, 4, 5, 6])
  await service.stop(1_000)
})

test('errors of its own count, whatever signals come in between', async () => {
  const script = `const n = 1 + Number(require('fs').existsSync('n') && require('fs').readFileSync('n')); require('fs').writeFileSync('n', String(n)); n % 2 ? process.exit(3) : process.kill(process.pid, 'SIGKILL')`
  const { service, seen } = await dummy(script, { policy: { deaths: 3, pauseMs: () => 1 } })
  await eventually('giving up', () => seen.givenUp.length > 0)
  expect(service.restartCount).toBe(4)
  await service.stop(1_000)
})

test('pauses grow, to an end', () => {
  expect([1, 2, 3, 4, 5, 6, 99].map(pauseMs)).toEqual([100, 300, 900, 2_700, 8_100, 10_000, 10_000])
})

test('whoever else answers on its port does not make it ready', async () => {
  const { port, close } = await busyPort()
  close()
  const stranger = createHttpServer((_, answer) => void answer.end('ok')).listen(port, '127.0.0.1')
  const policy = { deaths: 3, pauseMs: () => 1 }
  const { service, seen } = await dummy(`setTimeout(() => process.exit(1), 100)`, {
    policy,
    readyUrl: `http://127.0.0.1:${port}/readyz`,
    isGenuine: async () => false,
  })
  await eventually('giving up', () => seen.givenUp.length > 0)
  expect([service.ready, service.restartCount]).toEqual([false, 2])
  await service.stop(1_000)
  stranger.closeAllConnections()
  stranger.close()
})

test('one that cannot be started at all is given up, too', async () => {
  const { service, seen } = await dummy('', { command: join(dir, 'missing'), policy: { deaths: 2, pauseMs: () => 1 } })
  await eventually('giving up', () => seen.givenUp.length > 0)
  expect(seen.givenUp[0]).toContain('ENOENT')
  await service.stop(1_000)
})

test('stopping is orderly where possible, and sure where not', async () => {
  const polite = await dummy(`${serving}; process.on('SIGTERM', () => { console.log('bye'); process.exit() })`)
  const deaf = await dummy(`${serving}; process.on('SIGTERM', () => {})`)
  const frozen = await dummy(serving)
  const all = [polite, deaf, frozen]
  await Promise.all(all.map(({ service }) => isReady(service)))
  const pids = all.map(({ service }) => service.pid ?? 0)
  frozen.service.kill('SIGSTOP')
  await Promise.all(all.map(({ service }) => service.stop(300)))
  expect(pids.map((pid) => identify(pid))).toEqual([undefined, undefined, undefined])
  await eventually('its last line', () => polite.seen.lines.includes('bye'))
  expect(all.map(({ seen }) => seen.events)).toEqual([[], [], []])
})

test('a service ends when the stack was killed', async () => {
  // A stack in small: starts a child with the preload, tells its pid, and is killed.
  const preload = pathToFileURL(join(import.meta.dirname, 'die-with-parent.mjs')).href
  const child = `require('child_process').spawn(process.execPath, ['--import', ${JSON.stringify(preload)}, '-e', 'setInterval(() => {}, 1000)'], { detached: true, stdio: 'ignore', env: { SHOPSTREAM_STACK_PID: String(process.pid) } })`
  const parent = spawn(process.execPath, ['-e', `console.log(${child}.pid); setInterval(() => {}, 1000)`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  parent.stdout.setEncoding('utf8').on('data', (text) => (said += text))
  const pid = Number(await eventually('the pid', () => said.trim()))
  parent.kill('SIGKILL')
  await eventually('its end', () => identify(pid) === undefined)
})

test.each(['--help', '--force'])('reset %s forgets nothing', async (option) => {
  const home = join(dir, `kept${option}`)
  mkdirSync(home)
  writePrivate(join(home, 'secrets.json'), '{}')
  const env = { ...process.env, SHOPSTREAM_HOME: home }
  const child = spawn(process.execPath, [join(import.meta.dirname, '../commands/reset.ts'), option], { env })
  const [code] = await once(child, 'exit')
  expect(code).toBe(option === '--help' ? 0 : 2)
  expect(existsSync(join(home, 'secrets.json'))).toBe(true)
})
