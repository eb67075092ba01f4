import { pause } from '../../async.ts'
import { type PartitionPosition, type Place, placeOf, type ReadOptions, type Unreadable } from '../bus.ts'
import { firstTimestamp } from './entries.ts'
import {
  BrokerSaid,
  type Carrier,
  createLeaders,
  type Leaders,
  leaderNotAvailable,
  unknownPartition,
} from './leaders.ts'
import type { DecodingLimits } from './log-record.ts'
import { toMessage } from './messages.ts'
import {
  type BrokerAddress,
  type FetchedPartition,
  type FetchPlace,
  fetchRequest,
  type Landmark,
  offsetsRequest,
  topicIdsRequest,
} from './protocol.ts'
import { type DecodedRecords, decodeRecords } from './records.ts'
import { UnfinishedBatches } from './unfinished-batches.ts'

/** What brokers keep, looked at without a consumer group; names of topics as they are on the wire. */
export interface Log {
  /** Start, end and stable end of each partition of these topics. Throws when a broker cannot be asked. */
  bounds(topics: readonly string[]): Promise<Omit<PartitionPosition, 'done'>[]>
  /**
   * Which of these topics are missing (by their name), and which of their partitions have no leader (by `topic/partition`),
   * with what the brokers say of it. What is known for up to 5 s is not asked for again, unless `fresh`.
   */
  troubles(topics: readonly string[], fresh?: boolean): Promise<Map<string, Error>>
  /** Ids by topic; a recreated topic has another id. Missing topics are left out. */
  topicIds(topics: readonly string[]): Promise<ReadonlyMap<string, string>>
  /** Age in seconds of the message at an offset, by the head of its batch; 0 where there is none. */
  ageAt(place: Place & { offset: bigint }): Promise<number>
  /** By partition, the offset of the first message written at `time` or later; the end where there is none. */
  offsetsAt(topic: string, time: Date): Promise<Map<number, bigint>>
  /** See `Bus.read`. */
  read(options: ReadOptions): Promise<void>
  /** Throws when no broker answers. */
  check(): Promise<void>
  close(): Promise<void>
}

/** Reading ends after so long without any answer, in ms. */
const readingPatience = 15_000
const answerBytes = { whole: 1_048_576, partition: 524_288 }
const offsetOutOfRange = 1

interface Parts {
  leaders: Leaders
  carrier: Carrier
}

export function createLog(brokers: readonly BrokerAddress[], carrier: Carrier, limits: DecodingLimits): Log {
  const leaders = createLeaders(brokers, carrier)
  const parts = { leaders, carrier }
  /** When what stands at an offset was written does not change: a partition that stands still is asked for once. */
  const heads = new Map<string, { offset: bigint; timestamp: Date | undefined }>()
  const bounds = (topics: readonly string[]) => boundsOf(parts, topics)

  async function offsetsAt(topic: string, time: Date): Promise<Map<number, bigint>> {
    const found = (await bounds([topic])).map(
      async (one) => [one.partition, await offsetAt(parts, one, one.start, one.end, time)] as const,
    )
    return new Map(await Promise.all(found))
  }

  return {
    bounds,
    offsetsAt,
    async troubles(topics, fresh = false) {
      if (fresh) leaders.forget()
      const metadata = await leaders.metadataOf(topics)
      const found = metadata.topics.flatMap(({ topic, errorCode, partitions }) => [
        ...(partitions.length === 0 ? [[topic, errorCode || unknownPartition] as const] : []),
        ...partitions
          .filter(({ leader }) => leader < 0)
          .map((one) => [placeOf({ topic, ...one }), one.errorCode || leaderNotAvailable] as const),
      ])
      return new Map(found.map(([what, code]) => [what, new BrokerSaid(what, carrier.nameOf(code))]))
    },
    topicIds: (topics) => leaders.askAny(topicIdsRequest(topics)),
    async ageAt(place) {
      const kept = heads.get(placeOf(place))
      const head = kept?.offset === place.offset ? kept : await headAt(parts, place)
      const timestamp = head?.timestamp
      if (head) heads.set(placeOf(place), { offset: place.offset, timestamp })
      return timestamp ? Math.max(0, (Date.now() - timestamp.getTime()) / 1_000) : 0
    },
    async read(options) {
      const ranges = await rangesOf(options, bounds, offsetsAt)
      await readRanges(ranges, options, {
        limits,
        unfinished: new UnfinishedBatches(),
        nameOf: carrier.nameOf,
        leadersOf: async (topics) =>
          new Map((await leaders.ledPartitions(topics)).map((one) => [placeOf(one), one.leader])),
        fetch: (...args) => fetchFrom(parts, ...args),
        async keptFrom({ topic, partition, next, end }) {
          const found = (await bounds([topic])).find((one) => one.partition === partition)
          if (!found || (next >= found.start && next <= found.end)) return next
          if (end !== undefined && end > found.end)
            throw new HandlingFailed('', { cause: new Error(`${topic}/${partition} was made anew while it was read`) })
          return found.start
        },
        forget: () => leaders.forget(),
      })
    },
    async check() {
      leaders.forget([])
      await leaders.metadataOf([])
    },
    close: () => carrier.close(),
  }
}

async function fetchFrom(
  { leaders, carrier }: Parts,
  topics: readonly string[],
  leader: number,
  places: FetchPlace[],
  maxWaitMs: number,
) {
  const request = fetchRequest({ places, maxWaitMs, maxBytes: answerBytes.whole })
  return (await carrier.send(await leaders.addressOf(topics, leader), request)).partitions
}

/** The head of the batch that holds an offset, or of the next batch. Nothing of the partition's answer is unpacked. */
async function headAt({ leaders, carrier }: Parts, { topic, partition, offset }: Place & { offset: bigint }) {
  const led = (await leaders.ledPartitions([topic])).find((one) => one.partition === partition)
  if (!led) throw new BrokerSaid(`${topic}/${partition}`, carrier.nameOf(unknownPartition))
  const request = fetchRequest({
    places: [{ topic, partition, offset, maxBytes: 1 }],
    maxWaitMs: 0,
    maxBytes: 1,
    uncommitted: true,
  })
  const [answer] = (await carrier.send(await leaders.addressOf([topic], led.leader), request)).partitions
  if (!answer || answer.errorCode === offsetOutOfRange) return undefined
  if (answer.errorCode !== 0) {
    leaders.forget()
    throw new BrokerSaid(placeOf(answer), carrier.nameOf(answer.errorCode))
  }
  return firstTimestamp(answer.records)
}

/** Start, end and stable end of each partition of these topics. */
async function boundsOf({ leaders }: Parts, topics: readonly string[]): Promise<Omit<PartitionPosition, 'done'>[]> {
  if (topics.length === 0) return []
  const ask = async (landmark: Landmark) => {
    const answers = await leaders.askLeaders(topics, (places) => offsetsRequest(places, landmark))
    return new Map(answers.map((answer) => [placeOf(answer), answer]))
  }
  // The end is asked for last: otherwise messages written meanwhile could make another offset lie beyond it.
  const [starts, stableEnds] = await Promise.all([ask('start'), ask('stable-end')])
  const ends = await ask('end')
  return [...ends].map(([key, { topic, partition, offset }]) => ({
    topic,
    partition,
    start: starts.get(key)?.offset ?? 0n,
    end: offset,
    stableEnd: stableEnds.get(key)?.offset ?? offset,
  }))
}

/**
 * Binary search over heads of batches: a broker that is asked for a time unpacks what it looks at, whatever its size.
 */
async function offsetAt(parts: Parts, place: Place, from: bigint, end: bigint, time: Date): Promise<bigint> {
  let low = from
  let high = end
  while (low < high) {
    const middle = (low + high) / 2n
    const head = await headAt(parts, { ...place, offset: middle })
    if (head?.timestamp && head.timestamp < time) low = head.lastOffset + 1n
    else high = middle
  }
  return low
}

/** What is still to be read of a partition. */
interface Range extends Place {
  next: bigint
  /** Where reading ends; undefined: it does not. */
  end: bigint | undefined
  /** When something of it came last, by `performance.now()`: who waits longest comes first. */
  servedAt: number
}

async function rangesOf(
  { topics, from, partitions, toEnd }: ReadOptions,
  bounds: Log['bounds'],
  offsetsAt: Log['offsetsAt'],
): Promise<Range[]> {
  const wanted = partitions && new Map(partitions.map((one) => [placeOf(one), one]))
  const found = (await bounds(topics)).filter((one) => !wanted || wanted.has(placeOf(one)))
  const starts =
    from instanceof Date
      ? new Map(await Promise.all(topics.map(async (topic) => [topic, await offsetsAt(topic, from)] as const)))
      : undefined
  return found.map(({ topic, partition, start, end, stableEnd }) => {
    const general = from === 'end' ? end : (starts?.get(topic)?.get(partition) ?? start)
    return {
      topic,
      partition,
      next: wanted?.get(placeOf({ topic, partition }))?.from ?? general,
      end: toEnd ? stableEnd : undefined,
      servedAt: 0,
    }
  })
}

interface ReadingParts {
  limits: DecodingLimits
  unfinished: UnfinishedBatches
  nameOf(errorCode: number): string
  leadersOf(topics: readonly string[]): Promise<Map<string, number>>
  fetch(topics: readonly string[], leader: number, places: FetchPlace[], maxWaitMs: number): Promise<FetchedPartition[]>
  /** Where reading goes on when what stood at an offset has been deleted. */
  keptFrom(range: Range): Promise<bigint>
  forget(): void
}

async function readRanges(ranges: Range[], options: ReadOptions, parts: ReadingParts): Promise<void> {
  const isOpen = ({ next, end }: Range) => end === undefined || next < end
  let answered = performance.now()
  for (;;) {
    const open = ranges.filter(isOpen)
    if (open.length === 0 || options.signal?.aborted) return
    try {
      const problems = await readOnce(open, options, parts)
      if (problems.length < open.length) answered = performance.now()
      else throw new BrokerSaid('reading', problems.join('; '))
      if (problems.length > 0) parts.forget()
    } catch (error) {
      if (error instanceof HandlingFailed) throw error.cause
      if (performance.now() - answered > readingPatience) throw error
      parts.forget()
      await pause(200, options.signal)
    }
  }
}

/** Ends the reading without a retry, as a handler's error does. The caller gets its cause. */
class HandlingFailed extends Error {}

/** One answer of each leader. Returns what was said against partitions. */
async function readOnce(ranges: Range[], options: ReadOptions, parts: ReadingParts): Promise<string[]> {
  const open = ranges.toSorted((one, other) => one.servedAt - other.servedAt)
  const topics = [...new Set(open.map(({ topic }) => topic))]
  const leaders = await parts.leadersOf(topics)
  // A handler that is slow, and partitions that have come to their end, must not make the others wait.
  const maxWaitMs = options.toEnd ? 0 : 100
  const answers = await Promise.all(
    [...Map.groupBy(open, (range) => leaders.get(placeOf(range)) ?? -1)].map(([leader, ofLeader]) => {
      const places = ofLeader.map(({ topic, partition, next }) => ({
        topic,
        partition,
        offset: next,
        maxBytes: answerBytes.partition,
      }))
      return parts.fetch(topics, leader, places, maxWaitMs)
    }),
  )
  const fetched = new Map(answers.flat().map((answer) => [placeOf(answer), answer]))
  const problems: string[] = []
  const budget = { left: parts.limits.batchBytes }
  for (const range of open) {
    const place = placeOf(range)
    const answer = fetched.get(place)
    if (!answer || options.signal?.aborted) continue
    const { errorCode, records, aborted } = answer
    if (errorCode === offsetOutOfRange) range.next = await parts.keptFrom(range)
    else if (errorCode !== 0) problems.push(`${place}: ${parts.nameOf(errorCode)}`)
    else {
      const known = { of: parts.unfinished, place }
      await takeIn(range, options, decodeRecords(records, range.next, aborted, parts.limits, budget, known))
    }
  }
  // Compaction can have taken all that there was up to the end; an answer that is full leaves partitions out as well.
  if (options.toEnd && problems.length === 0 && [...fetched.values()].every(({ records }) => records.length === 0))
    for (const range of open) endReached(range, fetched.get(placeOf(range)))
  return problems
}

function endReached(range: Range, answer: FetchedPartition | undefined): void {
  if (answer && range.end !== undefined && answer.lastStableOffset >= range.end) range.next = range.end
}

async function takeIn(
  range: Range,
  { handle, unreadable: tell }: ReadOptions,
  { records, next, unreadable }: DecodedRecords,
): Promise<void> {
  const { topic, partition } = range
  const messages = records.map((record) => toMessage({ topic, partition }, record))
  const wanted = messages.filter(({ offset }) => range.end === undefined || offset < range.end)
  try {
    if (wanted.length > 0) await handle(wanted)
    if (unreadable && (range.end === undefined || unreadable.firstOffset < range.end)) {
      if (!tell) throw unreadableError({ topic, partition, ...unreadable })
      await tell({ topic, partition, ...unreadable })
    }
  } catch (cause) {
    throw new HandlingFailed('a handler failed', { cause })
  }
  if (unreadable) range.next = unreadable.lastOffset + 1n
  else if (next !== undefined) range.next = next
  if (unreadable || next !== undefined) range.servedAt = performance.now()
}

/** For readers that cannot go on without it. */
const unreadableError = ({ topic, partition, firstOffset, lastOffset, reason }: Unreadable) =>
  new Error(`${topic}/${partition} cannot be read from ${firstOffset} to ${lastOffset}: ${reason}`)
