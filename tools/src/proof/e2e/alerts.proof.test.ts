/** A shop with a real Prometheus and Alertmanager: what is broken fires one alert, and its repair ends it. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import { createClient } from '@redis/client'
import { newEventId } from '@shopstream/events'
import { encodeBatch, openForeignProducer } from '@shopstream/messaging/testing'
import { eventually, repository } from '@shopstream/testing'
import { type Customer, call, order, persistently, register, staffToken, stock } from '../../local/client.ts'
import { companions } from '../../local/companions.ts'
import { play } from '../../local/demo/scenes.ts'
import { isOnPath } from '../../local/on-path.ts'
import { serviceNames } from '../../local/services.ts'
import { nodeFlags, type Shop } from '../../local/shop.ts'
import { runningShop } from '../../local/state-folder.ts'
import { type SupervisedService, supervise } from '../../local/supervisor.ts'
import { dashboards } from '../../workspace/monitoring/grafana.ts'
import { metricsAddresses, printPrometheus } from '../../workspace/monitoring/prometheus.ts'
import { questions } from '../../workspace/monitoring/questions.ts'
import { startMonitoring } from './monitoring-under-test.ts'
import { openShop } from './shop-under-test.ts'

const missing = ['prometheus', 'prometheus-alertmanager'].filter((name) => !isOnPath(name))
const prove = (name: string, run: () => Promise<void>) =>
  missing.length > 0
    ? test.skip(
        `${name}: skipped, this machine lacks ${missing.join(' and ')}: apt-get install ${missing.join(' ')}`,
        run,
      )
    : test(name, run, 240_000)
const lacksRedis = await companions.redis.whyNot(process.env)
const proveBridges: typeof prove = lacksRedis
  ? (name, run) => test.skip(`${name}: skipped, this machine ${lacksRedis}`, run)
  : prove
const patience = { timeoutMs: 90_000, everyMs: 250 }

let opened: Awaited<ReturnType<typeof openShop>>
let monitoring: Awaited<ReturnType<typeof startMonitoring>>
let shop: Shop
let inventory: SupervisedService
let staff: string
let customer: Customer
let sku: string

beforeAll(async () => {
  if (missing.length > 0) return
  opened = await openShop({
    only: serviceNames.filter((name) => name !== 'inventory'),
    with: lacksRedis ? [] : ['redis'],
  })
  shop = opened.shop
  inventory = startInventory()
  await eventually(
    'the shop to be ready',
    async () => (await call(shop, 'GET', '/readyz')).body.status === 'ok',
    patience,
  )
  monitoring = await startMonitoring(opened.home, (alertmanager) =>
    printPrometheus({ targets: metricsAddresses(shop.ports), alertmanager }),
  )
  // Prometheus begins some 5 s after it is ready; what happened before is no increase.
  const measured = async () => (await monitoring.ask('query', { query: 'sum(up)' })).data.result[0]?.value[1]
  await eventually(
    'every service to be measured',
    async () => (await measured()) === String(serviceNames.length),
    patience,
  )
  staff = await staffToken(shop)
  customer = await register(shop)
  sku = await stock(shop, staff, 1_000)
}, 240_000)

afterAll(async () => {
  await monitoring?.stop()
  await inventory?.stop(8_000)
  await shop?.stop()
  opened?.forget()
}, 60_000)

/** By itself, so that it can be stopped and started. */
function startInventory(): SupervisedService {
  const env = parseEnv(readFileSync(join(opened.home, 'env', 'inventory.env'), 'utf8'))
  return supervise({
    name: 'inventory',
    command: process.execPath,
    args: [...nodeFlags, 'services/inventory/src/main.ts'],
    cwd: repository,
    env: { PATH: process.env.PATH, ...env, LOG_FORMAT: 'json', SHOPSTREAM_STACK_PID: String(process.pid) },
    pidFile: join(opened.home, 'inventory-alone.pid'),
    readyUrl: `http://127.0.0.1:${env.PORT}/readyz`,
    onLine: (line) => opened.tell(`inventory ${line}`),
    onEvent: opened.tell,
    onGivenUp: opened.tell,
  })
}

const place = async () => (await order(shop, customer.token, sku)).body.id as string
const confirmed = (id: string) =>
  eventually(
    `${id} to be confirmed`,
    async () =>
      (await persistently(shop, 'GET', `/v1/orders/${id}`, { token: customer.token })).body.status === 'confirmed',
    patience,
  )

/** Waits until these are on, held back or not. */
const on = (...names: string[]) =>
  eventually(
    `${names} to be on`,
    async () => {
      const firing = await monitoring.firing()
      if (names.every((name) => firing.includes(name))) return true
      throw new Error(`on are ${firing.join()}`)
    },
    patience,
  )

const inWords = (from: number) =>
  monitoring.told.slice(from).map(({ receiver, alertname, status }) => `${receiver} ${alertname} ${status}`)

const servicesOf = (from: number) =>
  [...new Set(monitoring.told.slice(from).flatMap(({ services }) => services))].toSorted()

/** Waits until somebody was told this. */
const told = (line: string, from: number) =>
  eventually(
    `"${line}"`,
    async () => {
      if (inWords(from).includes(line)) return true
      throw new Error(`told was ${inWords(from)}; on are ${await monitoring.firing()}`)
    },
    patience,
  )

/**
 * Waits until somebody was told that it is over; this and that it had begun is all that they were told. It may begin twice: once more
 * when the same is said of another service some seconds later, which thirty times slower are one message.
 */
async function isOver(alert: string, from: number): Promise<void> {
  await told(`${alert} resolved`, from)
  const lines = inWords(from)
  expect([...new Set(lines)]).toEqual([`${alert} firing`, `${alert} resolved`])
  expect(lines.length).toBeLessThanOrEqual(3)
}

/** As another program says it. */
const pointsOf = (userId: string) =>
  JSON.stringify({
    specversion: '1.0',
    id: newEventId(),
    type: 'PointsAwarded',
    source: '/loyalty',
    subject: userId,
    data: { userId, points: 10, total: 0, reason: 'a day', awardedAt: new Date().toISOString() },
  })

/** Into the stream that the bridge of infra/bridges/redis.yaml reads. */
async function bringIn(body: string): Promise<void> {
  const client = createClient({ url: shop.companionUrls.REDIS_URL as string })
  await client.connect()
  await client.xAdd('shop:inbound', '*', { cloudevent: body })
  await client.close()
}

prove('in a shop in which a day was played, each query of the dashboards and of docs/metrics.md has data', async () => {
  const begun = Date.now() / 1_000
  const running = runningShop(opened.home)
  if (!running) throw new Error('the shop does not run')
  const silence = jest.spyOn(process.stdout, 'write').mockReturnValue(true)
  for (const _ of ['a day', 'another']) {
    await play(running)
    await call(shop, 'GET', '/v1/notifications', { token: customer.token })
    await call(shop, 'GET', '/v1/bridges', { token: staff })
    if (!lacksRedis) await bringIn(pointsOf(customer.id))
  }
  silence.mockRestore()
  const hasData = async (expr: string) => {
    const query = expr.replaceAll('$__rate_interval', '5s').replaceAll('$__range', '1m')
    const range = { query, start: String(begun), end: String(Date.now() / 1_000), step: '1' }
    const { error, data } = await monitoring.ask('query_range', range)
    if (error) throw new Error(`${error}: ${query}`)
    return data.result.some(({ values }: { values: [number, string][] }) => values.some(([, value]) => value !== 'NaN'))
  }
  const shown = dashboards.filter(({ name }) => name !== 'bridge' || !lacksRedis)
  const panels = shown.flatMap(({ name, rows }) =>
    rows.flatMap((row) =>
      row.panels.flatMap(({ title, queries }) => queries.map(({ expr }) => [`${name}: ${title}`, expr])),
    ),
  )
  const empty: string[] = []
  const asked = questions.filter(([, query]) => !query.includes('_bridge_') || !lacksRedis)
  for (const [where = '', expr = ''] of [...panels, ...asked])
    if (!(await eventually(where, () => hasData(expr), { timeoutMs: 5_000, everyMs: 1_000 }).catch(() => false)))
      empty.push(where)
  expect(empty).toEqual([])
  expect(
    (
      await monitoring.ask('query_exemplars', {
        query: 'http_request_duration_seconds_bucket',
        start: String(begun),
        end: String(Date.now() / 1_000),
      })
    ).data.length,
  ).toBeGreaterThan(0)
  expect(inWords(0)).toEqual([])
})

prove('inventory is stopped: ServiceAway and nothing else is told; it ends when it is started', async () => {
  const from = monitoring.told.length
  await inventory.stop(8_000)
  const waiting = await place()
  await on('ServiceAway', 'OrdersWaiting')
  await told('page ServiceAway firing', from)
  inventory = startInventory()
  await confirmed(waiting)
  await isOver('page ServiceAway', from)
  expect(servicesOf(from)).toEqual(['inventory'])
})

prove(
  'Kafka is killed: KafkaAway and nothing else is told, whatever follows from it; it ends when Kafka is started',
  async () => {
    const from = monitoring.told.length
    await shop.kafka.kill()
    const waiting = await place()
    await on('KafkaAway', 'ConsumerNotFetching', 'OutboxLate', 'OrdersWaiting')
    await told('page KafkaAway firing', from)
    await shop.kafka.restart()
    await confirmed(waiting)
    await isOver('page KafkaAway', from)
  },
)

prove('Postgres is killed: DatabaseAway of each service is told, and nothing else', async () => {
  const from = monitoring.told.length
  await shop.postgres.kill()
  await on('DatabaseAway')
  await told('page DatabaseAway firing', from)
  await shop.postgres.restart()
  await isOver('page DatabaseAway', from)
  const busy = [...(lacksRedis ? [] : ['bridge']), 'inventory', 'notification', 'order', 'user']
  expect(servicesOf(from)).toEqual(busy)
})

proveBridges(
  'Redis is killed: BridgeBrokerAway of each bridge is told, and not what waits; it ends when Redis is started',
  async () => {
    const from = monitoring.told.length
    const redis = shop.companions.get('redis')
    await redis?.kill()
    await confirmed(await place())
    await on('BridgeBrokerAway', 'BridgeBehind')
    await told('page BridgeBrokerAway firing', from)
    await redis?.restart()
    await isOver('page BridgeBrokerAway', from)
    expect(servicesOf(from)).toEqual(['bridge'])
  },
)

prove('a message that nobody can read: DeadLetters is told, and its runbook, to the letter, ends it', async () => {
  const from = monitoring.told.length
  const foreign = openForeignProducer(shop.kafka.brokers)
  const record = { key: 'somebody', value: 'no event', headers: [['ce_type', 'OrderPlaced']] as const }
  await foreign.write(`${shop.topicPrefix}shop.order.v1`, 0, encodeBatch({ records: [record] }))
  await foreign.close()
  await on('DeadLetters')
  await told('ticket DeadLetters firing', from)
  const page = readFileSync(join(repository, 'docs/runbooks/dead-letters.md'), 'utf8')
  const run = (command: string) => {
    expect(page).toContain(command.replace(/(inventory|bridge)\/\d+/, 'inventory/1'))
    const env = { ...process.env, SHOPSTREAM_HOME: opened.home }
    const { status, stdout, stderr } = spawnSync('sh', ['-c', command], { cwd: repository, env, encoding: 'utf8' })
    return { status, out: `${stdout}${stderr}` }
  }
  const listed = await eventually(
    'everybody who read it to have given up',
    () => {
      const ids = run('npm run shop -- dead-letters list').out.match(/^\s+(inventory|bridge)\/\d+/gm) ?? []
      return ids.length === (lacksRedis ? 1 : 2) ? ids : undefined
    },
    { ...patience, everyMs: 1_000 },
  )
  for (const id of listed.map((text) => text.trim())) {
    expect(run(`npm run shop -- dead-letters show ${id}`).out).toContain('OrderPlaced')
    const discarded = run(`npm run shop -- dead-letters discard ${id} --reason 'not one of ours'`)
    expect([discarded.status, discarded.out]).toEqual([0, expect.stringContaining('discarded')])
  }
  expect(run('npm run shop -- dead-letters list').out).toContain('None.')
  await isOver('ticket DeadLetters', from)
  expect(run('npm run shop -- verify').out).toContain('Nothing is wrong.')
})
