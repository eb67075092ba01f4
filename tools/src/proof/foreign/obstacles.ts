import { setTimeout as delay } from 'node:timers/promises'
import zlib from 'node:zlib'
import type { Place } from '@shopstream/messaging/operations'
import { stepOver } from '@shopstream/messaging/operations'
import {
  type BatchParts,
  encodeBatch,
  type ForeignProducer,
  lz4Frame,
  openForeignProducer,
  xerialSnappy,
} from '@shopstream/messaging/testing'
import { type Group, readGroups } from '../../operations/groups.ts'
import type { Reach } from '../../operations/shop-access.ts'
import { allMet, type Met, stretchesOf } from '../../operations/unreadable-stretches.ts'
import { startProducer } from './python.ts'

const orderTopic = 'shop.order.v1'
const reservationTopic = 'shop.reservation.v1'
/** The topics between an order and its decision. */
export const orderTopics = [orderTopic, reservationTopic] as const

interface Bomb extends Place {
  codec: string
  count: number
  bytes: number
}

const mebibyte = 1_048_576
/** More than 16 MiB each when unpacked, and less than the 4 MiB that the broker takes. Snappy packs by 21 at the most. */
const bombs: Omit<Bomb, keyof Place>[] = [
  { codec: 'gzip', count: 1, bytes: 150 * mebibyte },
  { codec: 'zstd', count: 30, bytes: mebibyte },
  { codec: 'lz4', count: 30, bytes: mebibyte },
  { codec: 'snappy', count: 30, bytes: mebibyte },
]

const few = [{ key: 'foreign-batch', value: 'a value' }]
const gzip = (bytes: Buffer) => zlib.gzipSync(bytes)
const followedBy =
  (...tail: number[]) =>
  (bytes: Buffer) =>
    Buffer.concat([bytes, Buffer.from(tail)])

/**
 * Batches that Kafka 4 accepts, as it stops where the records end, but no decoder reads. What Kafka cannot unpack, it
 * refuses.
 */
const undecodable: BatchParts[] = [
  { records: few, codec: 1, compress: gzip, spoil: followedBy(0x1f, 0x8b, 0, 0) }, // begins a second member, and it is none
  { records: few, codec: 3, compress: lz4Frame, spoil: followedBy(9, 9, 9, 9, 9, 9, 9, 9) },
  { records: few, codec: 2, compress: xerialSnappy, spoil: followedBy(0, 0) }, // half of a block's length
  { records: [{ key: 'foreign-batch', value: Buffer.alloc(5_000_000) }], codec: 1, compress: gzip }, // over 4 MiB alone
]

/** Where something was put that nobody can read, and how many of them. */
export interface Obstacle extends Place {
  count: number
}

/** Puts a bomb and an undecodable batch into each of the places. Throws where the broker takes one of them not. */
export async function placeObstacles(
  python: string,
  brokers: readonly string[],
  places: readonly Place[],
): Promise<Obstacle[]> {
  const plan = { bombs: places.map((place, n) => ({ ...place, ...bombs[n % bombs.length] })) }
  const { refused } = await startProducer<{ refused: Record<string, number> }>(python, brokers, 'bombs', plan).ended
  if (Object.keys(refused).length > 0) throw new Error(`the broker refused bombs: ${JSON.stringify(refused)}`)
  const foreign: ForeignProducer = openForeignProducer(brokers)
  try {
    for (const [n, { topic, partition }] of places.entries())
      await foreign.write(topic, partition, encodeBatch(undecodable[n % undecodable.length] as BatchParts))
  } finally {
    await foreign.close()
  }
  return places.map((place) => ({ ...place, count: 2 }))
}

/** Who decides orders; mails may come later. */
const deciders = ['order', 'inventory']
const lookEveryMs = 100
const stepOverLimitMs = 60_000

/**
 * Acts as an operator does on the list: lets each group that stands before an obstacle go on, until every group has
 * passed all of them. Returns, by partition, when the last group that decides orders could go on.
 */
export async function stepOverAll(
  reach: Reach,
  obstacles: readonly Obstacle[],
  signal: AbortSignal,
): Promise<Map<number, number>> {
  const released = new Map<number, number>()
  const groups = await readGroups()
  const giveUpAt = performance.now() + stepOverLimitMs
  while (performance.now() < giveUpAt) {
    const { met } = await allMet(reach)
    for (const one of met.filter(({ state }) => state === 'stands' || state === 'not met')) {
      await stepOverOne(reach, one)
      if (deciders.includes(one.service)) released.set(one.partition, Date.now())
    }
    if (missingOf(met, obstacles, groups).length === 0 && met.every(({ steppedOverAt }) => steppedOverAt)) break
    await delay(lookEveryMs, undefined, { signal })
  }
  return released
}

async function stepOverOne({ databases }: Reach, { service, topic, partition, firstOffset }: Met): Promise<void> {
  const reason = 'what a foreign producer wrote, and nobody can read'
  await stepOver(databases[service].query, { topic, partition, offset: firstOffset, actor: 'npm run foreign', reason })
}

/** What groups should have met and have not listed, in words: each obstacle in each group, with its reason. */
export function missingOf(met: readonly Met[], obstacles: readonly Obstacle[], groups: readonly Group[]): string[] {
  return obstacles.flatMap(({ topic, partition, count }) =>
    groups
      .filter(({ topics }) => topics.includes(topic))
      .flatMap(({ group }) => {
        const there = met.filter(
          (one) => one.service === group && one.topic === topic && one.partition === partition && one.reason !== '',
        )
        const listed = stretchesOf(there).length
        return listed === count ? [] : [`${group} lists ${listed} of ${count} in ${topic}/${partition}`]
      }),
  )
}
