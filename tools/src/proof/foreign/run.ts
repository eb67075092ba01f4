import { writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { registry, topics } from '@shopstream/events'
import type { KafkaClient, Place } from '@shopstream/messaging/operations'
import { cpuOf, memoryOf, treeOf } from '../../bench/measure.ts'
import { createRandom } from '../chaos/random.ts'
import { assess, type Oddities, type Played, type Report } from './assess.ts'
import { orderTopics, placeObstacles, stepOverAll } from './obstacles.ts'
import { inviteBuyers, placeOrders } from './orders.ts'
import { type OwnShop, openOwnShop } from './own-shop.ts'
import { findPython, startProducer } from './python.ts'

export interface RunOptions {
  seed: string
  minutes: number
  orders: number
  /** Messages that the producer writes in a second. */
  rate: number
  client: KafkaClient
  /** Holds the shop and its logs. */
  folder: string
  say(line: string): void
  signal: AbortSignal
}

/** Share of the producer's time, five minutes by default, without anything unreadable. */
const readableShare = 0.6
const baselineMs = 60_000
/** The first orders find cold code; they count for nothing. */
const warmUpMs = 10_000
/** How long a transaction stays open, and what cannot be read stands; in a short run a third of its second part. */
const standingMs = 30_000
const buyers = 10

/** Runs a shop beside a producer in another language. Throws when either does not start or cannot be asked. */
export async function runForeign(options: RunOptions): Promise<Report> {
  const { say, signal } = options
  const python = await findPython(say)
  const own = await openOwnShop(options)
  const memory = watchMemory()
  try {
    say(`the shop is ready: ${own.shop.gatewayUrl}`)
    const played = await play(options, own, python)
    signal.throwIfAborted()
    writeFileSync(join(options.folder, 'orders.json'), JSON.stringify({ ...played, ends: endsOf(played) }, null, 2))
    say('every order was followed to its end; waiting for rest')
    const { seed, minutes, client } = options
    return { seed, minutes, client, ...(await assess(own, played)), megabytes: memory.most }
  } finally {
    memory.stop()
    await own.close()
  }
}

async function play(options: RunOptions, { shop, reach }: OwnShop, python: string): Promise<Played> {
  const { seed, minutes, orders, rate, say, signal } = options
  const lastingMs = minutes * 60_000
  const invited = await inviteBuyers(shop, buyers)
  const cores: Record<string, Record<string, number>> = {}
  const during = async (phaseMs: number, name: string, until?: Promise<unknown>) => {
    say(`${name}: ${Math.round(phaseMs / 1_000)} s`)
    const before = cpuOf(treeOf(process.pid))
    const begun = performance.now()
    const placing = { count: Math.round((orders * phaseMs) / lastingMs), lastingMs: phaseMs, signal }
    const placed = await placeOrders(shop, invited, { ...placing, ...(until && { until }) })
    cores[name] = coresUsed(before, cpuOf(treeOf(process.pid)), performance.now() - begun)
    return placed
  }
  await Promise.all(await during(Math.min(warmUpMs, lastingMs / 6), 'warming up'))
  const baseline = await Promise.all(await during(Math.min(baselineMs, lastingMs / 2), 'orders alone'))
  const plan = {
    seed,
    seconds: lastingMs / 1_000,
    perSecond: rate,
    topics: topics.map(({ name, partitions, events }) => ({ name, partitions, events })),
    schemas: registry.map(({ id }) => id),
  }
  const writing = startProducer<Omit<Oddities, 'transactions'>>(python, reach.brokers, 'oddities', plan)
  const transacting = startProducer<Oddities['transactions']>(python, reach.brokers, 'transactions', plan)
  try {
    const readable = await during(lastingMs * readableShare, 'orders beside readable oddities')
    const restMs = lastingMs * (1 - readableShare)
    const obstructing = obstruct({ ...options, reach, python, standMs: Math.min(standingMs, restMs / 3) })
    obstructing.catch(() => {}) // awaited below
    const unreadable = await during(
      restMs,
      'orders beside bombs, undecodable batches and an open transaction',
      obstructing,
    )
    return {
      cores,
      baseline,
      oddities: { ...(await writing.ended), transactions: await transacting.ended },
      ...(await obstructing),
      readable: await Promise.all(readable),
      unreadable: await Promise.all(unreadable),
    }
  } finally {
    writing.stop()
    transacting.stop()
  }
}

/** When each partition's obstacle had gone. */
const endsOf = ({ steppedOver, transactionEnded }: Played) => Object.fromEntries([...steppedOver, ...transactionEnded])

/** Beside the parts' cores: how many processes of this machine wanted one, in the last minute on average. */
export const machineLoad = 'load of the machine'

/** CPU that each part used, in cores, and what this machine was asked for in the last minute. */
function coresUsed(before: Record<string, number>, after: Record<string, number>, lastedMs: number) {
  const used = Object.entries(after).map(([part, seconds]): [string, number] => [
    part,
    Math.round((100_000 * (seconds - (before[part] ?? 0))) / lastedMs) / 100,
  ])
  return { ...Object.fromEntries(used), [machineLoad]: Math.round(loadavg()[0] as number) }
}

interface Obstructing extends Pick<RunOptions, 'seed' | 'say' | 'signal'> {
  reach: OwnShop['reach']
  python: string
  standMs: number
}

/** Obstacles in two partitions of the orders' topics, a transaction in a third; takes all of them away in the end. */
async function obstruct({ seed, say, signal, reach, python, standMs }: Obstructing) {
  const [one, other, third] = chosenPartitions(seed)
  const inOrderTopics = (partition: number): Place[] => orderTopics.map((topic) => ({ topic, partition }))
  const places = [...inOrderTopics(one), ...inOrderTopics(other)]
  const plan = { places: inOrderTopics(third), seconds: standMs / 1_000 }
  const holding = startProducer<{ endedAt: number }>(python, reach.brokers, 'hold', plan)
  try {
    const [obstacles] = await Promise.all([placeObstacles(python, reach.brokers, places), holding.begun])
    say(`partitions ${one} and ${other} hold what nobody can read, ${third} an open transaction`)
    await delay(standMs, undefined, { signal })
    const steppedOver = await stepOverAll(reach, obstacles, signal)
    say('all of it was stepped over')
    return { obstacles, steppedOver, transactionEnded: new Map([[third, (await holding.ended).endedAt]]) }
  } finally {
    holding.stop()
  }
}

function chosenPartitions(seed: string): [number, number, number] {
  const random = createRandom(`${seed} partitions`)
  const left = [0, 1, 2, 3, 4, 5]
  const taken = () => left.splice(Math.floor(random.next() * left.length), 1)[0] as number
  return [taken(), taken(), taken()]
}

/** The most that each part of the shop, and this process, had in memory at a time; looked at every 5 s, in MB. */
function watchMemory() {
  const most: Record<string, number> = {}
  const timer = setInterval(() => {
    for (const [part, megabytes] of Object.entries(memoryOf(treeOf(process.pid))))
      most[part] = Math.max(most[part] ?? 0, megabytes)
  }, 5_000)
  return { most, stop: () => clearInterval(timer) }
}
