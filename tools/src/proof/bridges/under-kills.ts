/** Events through a bridge, both ways, while whatever they go through is killed again and again. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { newEventId } from '@shopstream/events'
import { type NewEvent, openKafkaBus } from '@shopstream/messaging'
import { type Bus, type OutgoingMessage, outgoing, readMessage } from '@shopstream/messaging/operations'
import { createLogger } from '@shopstream/observability'
import { eventually } from '@shopstream/testing'
import { exampleEvent } from '@shopstream/testing/contract'
import type { CompanionName } from '../../local/companions.ts'
import type { Shop } from '../../local/shop.ts'
import { createRandom, type Random } from '../chaos/random.ts'
import { openShop } from '../e2e/shop-under-test.ts'
import { type Arrived, brokersUnderProof, type ProvenBroker } from './brokers.ts'

export interface KillsOptions {
  broker: ProvenBroker
  seed: string
  /** Each way. */
  events: number
  home: string
}

/** What was sent, what arrived, and what is wrong with it; all counts are of events. */
export interface KillsResult {
  kills: Record<string, number>
  out: { sent: number; arrived: number; repeated: number }
  in: { sent: number; events: number }
  seconds: number
  wrong: string[]
}

const victims = ['bridge', 'broker', 'kafka', 'postgres'] as const
const killsOfEach = 3
const patience = { timeoutMs: 240_000, everyMs: 250 }
/** Pauses between two kills, in ms. */
const pauseMs = { least: 1_000, most: 3_000 }
/** A share of the events is on its way for about so long, in ms. */
const inHandMs = 200

export async function runUnderKills({ broker, seed, events, home }: KillsOptions): Promise<KillsResult> {
  const begun = performance.now()
  const random = createRandom(seed)
  const under = brokersUnderProof[broker]
  const file = join(home, 'bridges.yaml')
  writeFileSync(file, under.table)
  const { shop } = await openShop({
    home,
    only: ['user', 'bridge'],
    with: [under.companion],
    env: { BRIDGES_FILE: file },
  })
  const url = Object.values(shop.companionUrls)[0] as string
  const logger = createLogger({ service: 'proof', level: 'silent', format: 'json' })
  const bus = await openKafkaBus({ brokers: shop.kafka.brokers, topicPrefix: '', clientId: 'proof', logger })
  const arrived: Arrived[] = []
  const collector = under.collect(url, (event) => arrived.push(event))
  const points: Points[] = []
  const watching = watchPoints(bus, points)
  try {
    await eventually('the bridges to be there', () => shop.services.bridge?.ready, patience)
    const outward = outwardEvents(random, events)
    const inward = inwardBodies(random, events)
    const kills = await sendAndKill(shop, under.companion, random, {
      out: (batch) => publish(bus, batch),
      in: (batch) => persistently(() => under.bring(url, batch)),
      outward,
      inward,
    })
    const ids = new Set(outward.map(({ headers }) => String(headers.ce_id)))
    const outside = () => new Set(arrived.map(({ id }) => id)).size
    const inside = () => new Set(points.map(({ source }) => source)).size
    await Promise.allSettled([
      eventually('all to arrive', () => outside() >= ids.size, patience),
      eventually('all to come in', () => inside() >= inward.length, patience),
    ]) // what is missing is told with all that is wrong
    await delay(1_000) // what comes twice
    return {
      kills,
      out: { sent: ids.size, arrived: arrived.length, repeated: arrived.length - outside() },
      in: { sent: inward.length, events: points.length },
      seconds: Math.round((performance.now() - begun) / 1_000),
      wrong: [...wrongOutside(outward, arrived), ...wrongInside(inward, points)],
    }
  } finally {
    await watching.close()
    await collector.close()
    await bus.close()
    await shop.stop()
  }
}

const keysPer = (events: number) => Math.ceil(events / 12)

/** Events of keys at random, numbered per key. */
function outwardEvents(random: Random, count: number): OutgoingMessage[] {
  const keys = Array.from({ length: keysPer(count) }, () => newEventId())
  const last = new Map<string, bigint>()
  return Array.from({ length: count }, () => {
    const key = random.pick(keys)
    const sequence = (last.get(key) ?? 0n) + 1n
    last.set(key, sequence)
    return outgoing('order', exampleEvent('OrderShipped', key, { orderId: key }, sequence) as NewEvent)
  })
}

/** Bodies of CloudEvents; what a source says of their order stands in `points`, and their id in `reason`. */
function inwardBodies(random: Random, count: number): string[] {
  const users = Array.from({ length: keysPer(count) }, () => newEventId())
  return Array.from({ length: count }, (_, n) => {
    const [userId, id] = [random.pick(users), newEventId()]
    const data = { userId, points: n, total: 0, reason: id, awardedAt: new Date().toISOString() }
    return JSON.stringify({ specversion: '1.0', id, type: 'PointsAwarded', source: '/loyalty', subject: userId, data })
  })
}

async function publish(bus: Bus, batch: readonly OutgoingMessage[]): Promise<void> {
  await persistently(async () => {
    const failed = (await bus.publish(batch)).find(({ error }) => error)
    if (failed) throw failed.error
  })
}

async function persistently(work: () => Promise<void>): Promise<void> {
  await eventually('an attempt that succeeds', () => work().then(() => true), patience)
}

interface Sending {
  outward: readonly OutgoingMessage[]
  inward: readonly string[]
  out(batch: readonly OutgoingMessage[]): Promise<void>
  in(batch: readonly string[]): Promise<void>
}

/**
 * Each victim several times, in the order of the seed, just after a share of the events has set out, so that they are in hand;
 * the next one is killed while the last one comes back, at times.
 */
async function sendAndKill(
  shop: Shop,
  broker: CompanionName,
  random: Random,
  sending: Sending,
): Promise<Record<string, number>> {
  const order = victims
    .flatMap((victim) => Array.from({ length: killsOfEach }, () => ({ victim, at: random.next() })))
    .sort((a, b) => a.at - b.at)
  const share = <T>(all: readonly T[], n: number) =>
    all.slice(Math.floor((n * all.length) / order.length), Math.floor(((n + 1) * all.length) / order.length))
  const kills: Record<string, number> = {}
  const sent = { out: Promise.resolve(), in: Promise.resolve() }
  for (const [n, { victim }] of order.entries()) {
    await delay(random.between(pauseMs.least, pauseMs.most))
    sent.out = sent.out.then(() => sending.out(share(sending.outward, n)))
    sent.in = sent.in.then(() => sending.in(share(sending.inward, n)))
    for (const one of Object.values(sent)) one.catch(() => {}) // told at the end
    await delay(random.between(0, inHandMs))
    await kill(shop, broker, victim)
    kills[victim] = (kills[victim] ?? 0) + 1
  }
  await Promise.all([sent.out, sent.in])
  return kills
}

/** Of a part that runs: nothing is proven by killing what is down. What ends unexpectedly is started again by the shop. */
async function kill(shop: Shop, broker: CompanionName, victim: (typeof victims)[number]): Promise<void> {
  if (victim === 'bridge') {
    await eventually('the bridge to be ready', () => shop.services.bridge?.ready, patience)
    shop.services.bridge?.kill('SIGKILL')
    return
  }
  const server = victim === 'broker' ? shop.companions.get(broker) : shop[victim]
  await eventually(`${victim} to run`, () => server?.pid, patience)
  await server?.kill()
  await server?.restart()
}

/** An event that came in. */
interface Points {
  key: string
  sequence: bigint
  source: string
  n: number
}

function watchPoints(bus: Bus, points: Points[]) {
  return bus.consume({
    group: 'proof-points',
    topics: ['shop.loyalty.v1'],
    async handle(batch, partition) {
      for (const message of batch.messages) {
        const { key, sequence, data } = readMessage(message)
        const { reason, points: n } = data as { reason: string; points: number }
        if (!points.some((one) => one.key === key && one.sequence === sequence && one.source === reason))
          points.push({ key, sequence, source: reason, n }) // the observer may read again
      }
      partition.done(batch.next)
    },
  })
}

function wrongOutside(sent: readonly OutgoingMessage[], arrived: readonly Arrived[]): string[] {
  const known = new Map(sent.map(({ headers }) => [String(headers.ce_id), String(headers.ce_sequence)]))
  const first = new Map<string, Arrived>()
  for (const event of arrived) if (!first.has(event.id)) first.set(event.id, event)
  const last = new Map<string, number>()
  const wrong = [...known.keys()].filter((id) => !first.has(id)).map((id) => `${id} did not arrive`)
  for (const { id, key, sequence } of first.values()) {
    if (!known.has(id)) wrong.push(`${id} arrived and was not sent`)
    if (sequence !== (last.get(key) ?? 0) + 1)
      wrong.push(`${key}: ${sequence} arrived after ${last.get(key) ?? 'nothing'}`)
    last.set(key, sequence)
  }
  return wrong
}

function wrongInside(bodies: readonly string[], points: readonly Points[]): string[] {
  const sent = new Map(bodies.map((body) => [JSON.parse(body).id as string, body]))
  const seen = Map.groupBy(points, ({ source }) => source)
  const missing = [...sent.keys()].filter((id) => !seen.has(id)).map((id) => `${id} did not come in`)
  const twice = [...seen].filter(([, ofSource]) => ofSource.length > 1).map(([id]) => `${id} came in twice`)
  const disorder = [...Map.groupBy(points, ({ key }) => key)].flatMap(([key, ofKey]) => {
    const sorted = ofKey.toSorted((a, b) => Number(a.sequence - b.sequence))
    const gap = sorted.findIndex(({ sequence }, n) => sequence !== BigInt(n + 1))
    const back = sorted.findIndex(({ n }, i) => i > 0 && n < (sorted[i - 1]?.n ?? 0))
    return [
      ...(gap >= 0 ? [`${key}: sequence ${sorted[gap]?.sequence} stands where ${gap + 1} should`] : []),
      ...(back >= 0 ? [`${key}: number ${sorted[back]?.n} comes after ${sorted[back - 1]?.n}`] : []),
    ]
  })
  return [...missing, ...twice, ...disorder]
}
