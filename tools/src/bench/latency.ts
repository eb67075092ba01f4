/** How long an order takes from its request until it is decided, at rest and under load, beside what it is made of. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { openSession } from '@shopstream/database'
import { topicOf } from '@shopstream/events'
import { openKafkaBus } from '@shopstream/messaging'
import { createLogger } from '@shopstream/observability'
import { eventually, freePort } from '@shopstream/testing'
import type { ServiceName } from '../local/services.ts'
import { findPlace, type Reach, reach } from '../operations/shop-access.ts'
import { during, findMaximum, generate, isMissing, openCounter, type RunningArm } from './arm.ts'
import { article } from './arm-article.ts'
import { openShop, ours, type RunningShop, startInstance } from './arm-ours.ts'
import type { Say } from './measure.ts'
import { compared, inTurns, type Result, spreadOf } from './results.ts'

const rounds = 3
const perRound = 60
/** At rest: some ten orders a second. */
const betweenMs = 50
const customers = 128

/** With a prefix of its own. */
const topic = topicOf('StockLevelChanged')

/**
 * The least that an order at rest needs: two hops of HTTP, three commits, two hops through Kafka; each alone, in ms.
 */
async function sumOfParts(running: RunningShop, say: Say): Promise<number> {
  const { shop, tokens, skus } = running
  const http = await times(() => ask(`${shop.gatewayUrl}/v1/products/${skus[0]}`, { token: tokens[0] as string }))
  const session = await openSession(shop.postgres.url, 'bench', {})
  await session.query('create table if not exists bench_mark (at timestamptz not null)')
  const commit = await times(() => session.query('insert into bench_mark values (now())'))
  await session.close()
  const hop = await kafkaHop(shop)
  say(
    `parts alone: ${http.toFixed(2)} ms through the gateway, ${commit.toFixed(2)} a commit, ${hop.toFixed(2)} through Kafka`,
  )
  return http + 3 * commit + 2 * hop
}

/** From publishing until a consumer has it, by the client that the shop uses. */
async function kafkaHop(shop: RunningShop['shop']): Promise<number> {
  const logger = createLogger({ service: 'bench', level: 'warn', format: 'pretty' })
  const bus = await openKafkaBus({ brokers: shop.kafka.brokers, topicPrefix: 'bench.', clientId: 'bench', logger })
  const publisher = bus.publisher('bench')
  try {
    await bus.ensureTopics([topic])
    let arrived = () => {}
    const handle: Parameters<typeof bus.consume>[0]['handle'] = async ({ next }, partition) => {
      partition.done(next)
      arrived()
    }
    const consumer = bus.consume({ group: 'bench', topics: [topic.name], handle })
    const message = { topic: topic.name, partition: 0, key: 'a', value: Buffer.from('a'), headers: {} }
    const hop = await times(async () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      arrived = resolve
      await publisher.publish([message])
      await promise
    })
    await consumer.close()
    return hop
  } finally {
    await publisher.close()
    await bus.close()
  }
}

/** The median in ms of some runs, after some to warm up. */
async function times(work: () => Promise<unknown>): Promise<number> {
  const figures: number[] = []
  for (let n = 0; n < 120; n++) {
    const begun = performance.now()
    await work()
    if (n >= 20) figures.push(performance.now() - begun)
  }
  return spreadOf(figures).median
}

async function ask(url: string, { token, body, headers }: { token: string; body?: string; headers?: object }) {
  const answer = await fetch(url, {
    method: body === undefined ? 'GET' : 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body }),
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${text}`)
  return JSON.parse(text)
}

/**
 * Median of some orders, one at a time with pauses, at each of `urls` in its turn. `headers` make the answer wait;
 * without them it polls.
 */
async function decidedAfter(
  { plan }: RunningArm,
  headers?: object,
  { urls = [plan.url], orders = perRound } = {},
): Promise<number> {
  const figures: number[] = []
  for (let n = 0; n < orders; n++) {
    const { token, body = '' } = plan.clients[n % plan.clients.length] as (typeof plan.clients)[number]
    const url = urls[n % urls.length] as string
    const begun = performance.now()
    let order = await ask(url, { token, body, headers: { 'idempotency-key': randomUUID(), ...headers } })
    while (order.status === 'pending') {
      await delay(1)
      order = await ask(`${url}/${order.id}`, { token })
    }
    if (order.status === 'rejected') throw new Error(`order ${order.id} was rejected`)
    figures.push(performance.now() - begun)
    await delay(betweenMs)
  }
  return spreadOf(figures).median
}

const waiting = { prefer: 'wait=30' }

/** The mails of a load go out after its orders are decided: beside them an order took 80 ms, and 22 once they had gone. */
async function untilAtRest({ shop }: RunningShop): Promise<void> {
  const mails = openCounter(
    shop.databaseUrl('notification'),
    `select count(*)::int as n from notification where state in ('queued', 'awaiting-recipient')`,
  )
  try {
    await eventually('all mails to be sent', async () => (await mails.count()) === 0, {
      timeoutMs: 300_000,
      everyMs: 500,
    })
  } finally {
    await mails.close()
  }
}

/** At rest beside the sum of the parts; under half of the most that the shop does, its 99th percentile beside the same. */
export async function latency(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const running = await openShop(customers)
  try {
    const [atRest, underLoad, parts]: [number[], number[], number[]] = [[], [], []]
    await decidedAfter(running, waiting)
    const { perSecond: most } = await findMaximum(running, 8, say)
    for (let round = 1; round <= rounds; round++) {
      await untilAtRest(running)
      parts.push(await sumOfParts(running, say))
      atRest.push(await decidedAfter(running, waiting))
      const load = await generate({ ...running.plan, headers: waiting, perSecond: most / 2, seconds })
      underLoad.push(load.milliseconds.p99)
      say(
        `round ${round}: at rest ${atRest.at(-1)?.toFixed(1)} ms; at ${(most / 2).toFixed(0)} orders a second half within ${load.milliseconds.p50.toFixed(0)}, 99 % within ${load.milliseconds.p99.toFixed(0)} ms`,
      )
    }
    const reference = { name: 'sum of its parts', figures: parts }
    const common = { unit: 'ms', reference, lessIsBetter: true }
    return [
      compared({ ...common, name: 'latency-rest', goal: 0.5, ours: atRest }),
      compared({ ...common, name: 'latency-load', goal: 0.1, ours: underLoad }),
    ]
  } finally {
    await running.stop()
  }
}

/** At rest, beside the article's stack. */
export async function articleLatency(say: Say): Promise<Result[]> {
  if (isMissing(article, say)) return []
  const [mine, its]: [number[], number[]] = [[], []]
  for (const [arm, figures, headers] of [
    [ours, mine, waiting],
    [article, its, undefined],
  ] as const) {
    await during(arm, 16, say, async (running) => {
      await decidedAfter(running, headers)
      for (let round = 1; round <= rounds; round++) figures.push(await decidedAfter(running, headers))
    })
    say(`${arm.name}: decided after ${figures.map((figure) => figure.toFixed(1)).join(', ')} ms`)
  }
  const reference = { name: article.name, figures: its }
  return [compared({ name: 'article-latency', unit: 'ms', goal: 1, ours: mine, reference, lessIsBetter: true })]
}

/** At rest with two instances of every service, where orders alternate between the gateways, beside one of each. */
export async function latencyTwo(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const running = await openShop(customers)
  const held = await reach(findPlace({ SHOPSTREAM_HOME: running.shop.home }))
  const { url } = running.plan
  const decided = (...urls: string[]) => decidedByAll(running, held, { urls, orders: 2 * seconds })
  try {
    const turns = await inTurns(
      say,
      {
        ours: () => withSeconds(running, (second) => decided(url, second)),
        reference: () => decided(url),
      },
      'ms',
    )
    const reference = { name: 'one instance', figures: turns.reference }
    return [compared({ name: 'latency-two', unit: 'ms', goal: 0.9, ours: turns.ours, reference, lessIsBetter: true })]
  } finally {
    await held.close()
    await running.stop()
  }
}

/** As {@link decidedAfter}, once each group has a member for each gateway, and those that are new have warmed up. */
async function decidedByAll(
  running: RunningShop,
  { bus }: Reach,
  { urls, orders }: { urls: string[]; orders: number },
): Promise<number> {
  const areThere = async () =>
    (await Promise.all(consuming.map((group) => bus.members(group)))).every((members) => members === urls.length)
  await eventually(`${urls.length} members of each group`, areThere, { timeoutMs: 60_000, everyMs: 100 })
  const clients = running.plan.clients.slice(0, 8)
  for (const url of urls) await generate({ url, clients, headers: waiting, seconds: 2 })
  return decidedAfter(running, waiting, { urls, orders })
}

/** They have a group each for the events of orders. */
const consuming = ['order', 'inventory', 'notification'] as const

/**
 * Adds a second instance of each service, and a gateway that leads to these. Throws unless each consuming one has
 * handled events: then its group has shared the partitions.
 */
async function withSeconds({ shop }: RunningShop, work: (url: string) => Promise<number>): Promise<number> {
  const undo: (() => Promise<void>)[] = []
  const begin = async (name: ServiceName, env?: Record<string, string>) => {
    const instance = await startInstance(shop, name, env)
    undo.push(instance.stop)
    return instance.url
  }
  try {
    const names = ['user', ...consuming] as const
    const urls = new Map(await Promise.all(names.map(async (name) => [name, await begin(name)] as const)))
    const env = Object.fromEntries([...urls].map(([name, url]) => [`${name.toUpperCase()}_URL`, url]))
    const gateway = await begin('gateway', { ...env, METRICS_PORT: String(await freePort()) })
    await eventually('all to be ready', async () => (await fetch(`${gateway}/readyz`)).ok)
    const figure = await work(`${gateway}/v1/orders`)
    for (const name of consuming) await mustHaveConsumed(`${urls.get(name)}/metrics`)
    return figure
  } finally {
    await Promise.all(undo.map((stop) => stop()))
  }
}

async function mustHaveConsumed(metrics: string): Promise<void> {
  const text = await (await fetch(metrics)).text()
  const hasHandled = /^shopstream_events_consumed_total\{.*outcome="handled".*\} [1-9]/m.test(text)
  if (!hasHandled) throw new Error(`the instance of ${metrics} has handled no event`)
}
