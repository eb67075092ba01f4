import type { PartitionPosition, Unreadable } from '@shopstream/messaging/operations'
import { age, plural, secondsSince } from '../../terminal/format.ts'
import type { Reach } from '../shop-access.ts'
import {
  allMet,
  decisionInWords,
  endOf,
  type Met,
  placeInWords,
  type StretchPlace,
  unreadInWords,
} from '../unreadable-stretches.ts'

/** A stretch of a partition that could not be read, or that a group has passed without handling it. */
export interface Gap extends StretchPlace {
  /** It can be read once a transaction has ended. */
  isOpen: boolean
  what: string
}

/** Collects them while topics are read, over several looks. */
export interface Gaps {
  /** Cannot be read. */
  meet(found: Unreadable): void
  /** Where partitions began and ended before they were read, and after. */
  look(before: readonly PartitionPosition[], after: readonly PartitionPosition[]): void
  /** All of them in these topics, with what the services have done about them. */
  found(topics: readonly string[]): Promise<Gap[]>
}

export function findGaps(reach: Reach): Gaps {
  const unread = new Map<string, Unreadable>()
  let hidden: PartitionPosition[] = []
  const starts = new Map<string, bigint>()

  const isKept = ({ topic, partition, lastOffset }: StretchPlace) =>
    (starts.get(`${topic}/${partition}`) ?? 0n) <= lastOffset

  return {
    meet: (found) => void unread.set(endOf(found), { ...found, bytes: Buffer.alloc(0) }),
    look(before, after) {
      for (const { topic, partition, start } of after) starts.set(`${topic}/${partition}`, start)
      const ends = new Map(before.map(({ topic, partition, end }) => [`${topic}/${partition}`, end]))
      // What was there before reading, and still cannot be read: what is written meanwhile is no gap.
      hidden = after.filter(({ topic, partition, stableEnd }) => stableEnd < (ends.get(`${topic}/${partition}`) ?? 0n))
    },
    async found(topics) {
      const { met } = topics.length > 0 ? await allMet(reach) : { met: [] }
      const byEnd = Map.groupBy(
        met.filter((one) => topics.includes(one.topic) && one.state !== 'passed' && one.state !== 'forgotten'),
        endOf,
      )
      const ends = [...new Set([...unread.keys(), ...byEnd.keys()])]
      const stretches = ends.map((end) => stretchGap(unread.get(end), byEnd.get(end) ?? []))
      return [...stretches.filter(isKept), ...(await Promise.all(hidden.map((position) => hiddenGap(reach, position))))]
    },
  }
}

function stretchGap(unread: Unreadable | undefined, met: readonly Met[]): Gap {
  const { topic, partition, firstOffset, lastOffset, reason } = (unread ?? met[0]) as Unreadable | Met
  const place = { topic, partition, firstOffset, lastOffset }
  const who = met.map((one) => `${one.service} ${decisionInWords(one) ?? standsInWords(one)}`)
  const what = unread
    ? unreadInWords({ ...place, reason })
    : `${placeInWords(place)} could not be read by its consumers, and can be read here (KAFKA_BATCH_LIMIT_BYTES)`
  return { ...place, isOpen: false, what: [what, who.join(', ') || 'no service has come to it'].join('; ') }
}

const standsInWords = ({ state, lastMetAt }: Met) =>
  state === 'stands' ? 'stands before it' : `has not looked at it for ${age(secondsSince(lastMetAt))}`

async function hiddenGap(
  { bus }: Reach,
  { topic, partition, end, stableEnd, ...position }: PartitionPosition,
): Promise<Gap> {
  const ages = await bus.agesOf([{ ...position, topic, partition, end, stableEnd, done: stableEnd }])
  return {
    topic,
    partition,
    firstOffset: stableEnd,
    lastOffset: end - 1n,
    isOpen: true,
    what:
      `${topic}/${partition}@${stableEnd}: ${plural(end - stableEnd, 'message')} wait behind a transaction that a producer has ` +
      `left open for ${age(ages.get(topic) ?? 0)}; what is lost in ${topic} cannot be told until it has ended`,
  }
}
