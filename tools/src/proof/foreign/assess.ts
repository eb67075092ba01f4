import { sql } from '@shopstream/database'
import { ordersOf, staffToken } from '../../local/client.ts'
import { readGroups } from '../../operations/groups.ts'
import { owners, type Reach } from '../../operations/shop-access.ts'
import { allMet, type Met, placeInWords, stretchesOf } from '../../operations/unreadable-stretches.ts'
import { unreadableRecords } from '../../operations/verify/checks.ts'
import { verify } from '../../operations/verify.ts'
import { waitForRest } from './at-rest.ts'
import { type Delays, delaysOf, judgeDelays, judgeReleased, type Line } from './judge.ts'
import { missingOf, type Obstacle } from './obstacles.ts'
import type { Order } from './orders.ts'
import type { OwnShop } from './own-shop.ts'

/** What the producer wrote, by kind; what the broker refused, by reason. */
export interface Oddities {
  written: Record<string, number>
  refused: Record<string, number>
  transactions: Record<string, number>
}

/** What came of the phases of a run. */
export interface Played {
  /** Orders before the producer began, beside what can be read, and beside what can not. */
  baseline: Order[]
  readable: Order[]
  unreadable: Order[]
  oddities: Oddities
  /** By phase and part, CPU in cores. */
  cores: Record<string, Record<string, number>>
  obstacles: Obstacle[]
  /** By partition, when the last group that decides orders could go on, in ms since 1970. */
  steppedOver: ReadonlyMap<number, number>
  /** By partition, when its transaction had ended. */
  transactionEnded: ReadonlyMap<number, number>
}

export interface Report {
  seed: string
  minutes: number
  client: string
  /** In ms, from the post to the decision; beside what cannot be read: of the other partitions. */
  delays: Record<'alone' | 'beside readable' | 'beside unreadable', Delays>
  foreign: Oddities
  /** What groups could not read: where, why, and which of them. */
  unreadable: { place: string; reason: string; groups: string[] }[]
  /** By service, messages that ended parked. */
  parked: Record<string, number>
  /** By phase and part, CPU in cores: where the machine's are used up, orders are late for want of them. */
  cores: Record<string, Record<string, number>>
  /** The most that each part had in memory, in MB. */
  megabytes: Record<string, number>
  proof: Line[]
}

/** Waits for rest, asks the shop for what it holds, and judges each line of the proof. */
export async function assess(
  own: OwnShop,
  played: Played,
): Promise<Omit<Report, 'seed' | 'minutes' | 'client' | 'megabytes'>> {
  const { reach } = own
  const unrest = await waitForRest(reach).then(
    () => [],
    (error: Error) => [error.message],
  )
  const { met, notAsked } = await allMet(reach)
  return {
    delays: {
      alone: delaysOf(played.baseline),
      'beside readable': delaysOf(played.readable),
      'beside unreadable': delaysOf(elsewhere(played)),
    },
    foreign: played.oddities,
    unreadable: stretchesOf(met).map((stretch) => ({
      place: placeInWords(stretch),
      reason: stretch.reason,
      groups: stretch.met.map(({ service }) => service),
    })),
    parked: await parkedOf(reach),
    cores: played.cores,
    proof: [
      ...judgeOrders(played),
      await judgeListed(played, met, notAsked),
      { claim: 'no process ended', told: `${own.restarts().length} were started again`, against: own.restarts() },
      await judgeLost(own, played),
      await judgeVerified(reach, unrest, played),
    ],
  }
}

/** Orders of the partitions that nothing stood in. */
const elsewhere = ({ unreadable, steppedOver, transactionEnded }: Played) =>
  unreadable.filter(({ partition }) => !steppedOver.has(partition) && !transactionEnded.has(partition))

function judgeOrders(played: Played): Line[] {
  const { baseline, readable, unreadable, steppedOver, transactionEnded } = played
  const usual = delaysOf(baseline)
  return [
    judgeDelays('readable oddities delay no order by more than a second', readable, usual),
    judgeDelays(
      'bombs, undecodable batches and an open transaction delay only their partitions',
      elsewhere(played),
      usual,
    ),
    judgeReleased('after the step-over, the orders of its partitions are decided within 5 s', unreadable, steppedOver),
    judgeReleased("after the transaction's end, those of its partition are", unreadable, transactionEnded),
  ]
}

async function judgeListed({ obstacles }: Played, met: readonly Met[], notAsked: readonly string[]): Promise<Line> {
  const missing = missingOf(met, obstacles, await readGroups())
  const others = met.filter(
    (one) => !obstacles.some(({ topic, partition }) => one.topic === topic && one.partition === partition),
  )
  const against = [
    ...notAsked,
    ...missing,
    ...others.map((one) => `${one.service}: ${placeInWords(one)}, ${one.reason}`),
  ]
  const told = `${stretchesOf(met).length} places by each group that reads them, and nothing else`
  return { claim: 'everything that could not be read is listed with its reason', told, against }
}

/** Each order that was accepted is there, and decided. */
async function judgeLost({ shop }: OwnShop, { baseline, readable, unreadable }: Played): Promise<Line> {
  const placed = [...baseline, ...readable, ...unreadable]
  const held = new Map((await ordersOf(shop, await staffToken(shop))).map(({ id, status }) => [id, status]))
  const against = placed.flatMap(({ id, status, decidedAt }) => {
    if (id === undefined) return [`an order was not accepted: ${status}`]
    if (!held.has(id)) return [`order ${id} was accepted and is not there`]
    return decidedAt === undefined || held.get(id) === 'pending' ? [`order ${id} is ${held.get(id)}`] : []
  })
  return {
    claim: 'no order is lost',
    told: `${placed.length - against.length} of ${placed.length} are there and decided`,
    against,
  }
}

/** All that verify finds is about what the producer wrote. */
async function judgeVerified(reach: Reach, unrest: readonly string[], { obstacles }: Played): Promise<Line> {
  const { checks, rows } = await verify(reach, { settleMs: 10_000 })
  const isForeign = (check: string, message: string) =>
    /foreign|a key of bytes|an empty key|of no key/.test(message) ||
    (check === unreadableRecords && obstacles.some(({ topic, partition }) => message.includes(`${topic}/${partition}`)))
  const findings = checks.flatMap(({ name, findings }) => findings.map(({ message }) => ({ name, message })))
  const against = findings.filter(({ name, message }) => !isForeign(name, message))
  const hidden = checks.filter(({ more }) => more).map(({ name }) => `${name}: more findings than verify keeps`)
  return {
    claim: 'verify finds nothing but what the producer wrote',
    told: `${rows} rows, ${findings.length} findings, ${findings.length - against.length} of them about the producer's`,
    against: [...unrest, ...hidden, ...against.map(({ name, message }) => `${name}: ${message}`)],
  }
}

async function parkedOf({ databases }: Reach): Promise<Record<string, number>> {
  const perOwner = owners.map(async (owner): Promise<[string, number]> => {
    const { rows } = await sql<{ count: bigint }>`select count(*) from parked_message`.execute(databases[owner].query)
    return [owner, Number(rows[0]?.count)]
  })
  return Object.fromEntries(await Promise.all(perOwner))
}
