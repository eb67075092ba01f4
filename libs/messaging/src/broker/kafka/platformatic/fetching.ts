import type { Logger } from '@shopstream/observability'
import { createAlarm, pause } from '../../../async.ts'
import { type IncomingBatch, placeOf } from '../../bus.ts'
import { maxBytesInFlight, maxBytesOfPartition } from '../consuming.ts'
import type { DecodingLimits } from '../log-record.ts'
import { toMessage } from '../messages.ts'
import { type BrokerAddress, type FetchedPartition, fetchRequest, offsetsRequest } from '../protocol.ts'
import { type Budget, decodeRecords } from '../records.ts'
import type { UnfinishedBatches } from '../unfinished-batches.ts'
import type { Cluster } from './cluster.ts'
import { metadataMaxAge } from './cluster.ts'
import type { Connections } from './connections.ts'
import { BrokerError, errors, Unreachable } from './errors.ts'
import type { OwnedPartition } from './partition.ts'

/**
 * How long a broker waits for something to send, in ms. While partitions are left out because their messages are being
 * handled, it is short: what comes for them meanwhile is asked for only when it has passed.
 */
const maxWaitMs = { allAsked: 250, someLeftOut: 25 }
/** So long is waited for handlers before the next request, in ms: most are done by then, and nothing is left out. */
const handlersLimit = 10
/** Before a partition that cannot be read at the time is asked for again, or one whose handler got nowhere, in ms. */
const restMs = 250
/** Looks again for something to ask for, in ms, if nobody has told that there is. */
const lookEvery = 250

export interface FetchingOptions {
  cluster: Cluster
  connections: Connections
  partitions: readonly OwnedPartition[]
  /** Places of partitions that a handler is at work for, also of former generations; shared by them. */
  inHand: Set<string>
  unfinished: UnfinishedBatches
  limits: DecodingLimits
  logger: Logger
  handle(batch: IncomingBatch, partition: OwnedPartition): Promise<void>
  /** Whether the partitions can still be this member's. */
  isLeased(): boolean
  answered(): void
  /** Told when a handler has thrown, which it must not, and of what does not pass by itself. */
  failed(error: unknown): void
  signal: AbortSignal
}

export interface Fetching {
  /** There may be something to ask for again. */
  wake(): void
  /** Resolves when no handler is at work any more. */
  settled(): Promise<void>
}

/** A broker that is asked, and what it has sent that is still in hand, in bytes as they came and unpacked. */
interface Lane {
  broker: BrokerAddress
  alarm: ReturnType<typeof createAlarm>
  packed: number
  unpacked: number
  /** What comes next does not fit beside that: it waits for a handler to end, and all others with it, so that its turn comes. */
  isFull: boolean
}

interface Answer extends FetchedPartition {
  owned: OwnedPartition
}

const placeOfOwned = ({ wireTopic, partition }: OwnedPartition) => placeOf({ topic: wireTopic, partition })
const isSame = (one: BrokerAddress | undefined, other: BrokerAddress) =>
  one?.host === other.host && one.port === other.port

/**
 * Reads partitions until `signal`, from each broker that leads some of them by itself, one request after the other. A
 * partition is asked for when its messages have been handled; what is wrong with one, or with one broker, concerns no other.
 *
 * The library's own stream is not used: it fails for the whole answer when one partition has an error or one batch cannot be
 * decoded, and unpacks without a bound.
 */
export function startFetching(options: FetchingOptions): Fetching {
  const { cluster, connections, partitions, inHand, unfinished, limits, logger, signal } = options
  const lanes = new Map<string, Lane>()
  const working = new Set<Promise<void>>()
  const leadersAlarm = createAlarm(signal)
  const wake = () => {
    for (const { alarm } of lanes.values()) alarm.wake()
  }

  async function followLeaders(): Promise<void> {
    const topics = [...new Set(partitions.map(({ wireTopic }) => wireTopic))]
    while (!signal.aborted) {
      try {
        const leaders = await cluster.leaders(topics)
        for (const owned of partitions) ledBy(owned, leaders.get(placeOfOwned(owned))?.leader)
        wake()
      } catch (error) {
        logger.debug({ err: error }, 'no broker says who leads')
      }
      await pause(restMs, signal)
      await leadersAlarm.wait(metadataMaxAge)
    }
  }

  function ledBy(owned: OwnedPartition, leader: BrokerAddress | undefined): void {
    owned.leader = leader
    const key = `${leader?.host}:${leader?.port}`
    if (!leader || lanes.has(key)) return
    const lane = { broker: leader, alarm: createAlarm(signal), packed: 0, unpacked: 0, isFull: false }
    lanes.set(key, lane)
    void runLane(lane)
  }

  function leadersHaveMoved(): void {
    cluster.forgetLeaders()
    leadersAlarm.wake()
  }

  async function runLane(lane: Lane): Promise<void> {
    while (!signal.aborted) {
      const asked = options.isLeased() ? nextOf(lane) : []
      if (asked.length === 0) {
        await lane.alarm.wait(lookEvery)
        continue
      }
      for (const owned of asked) owned.asker = lane
      try {
        const handlers = await fetchOnce(lane, asked)
        await Promise.race([Promise.all(handlers), pause(handlersLimit, signal)])
      } catch (error) {
        if (signal.aborted) return
        if (!(error instanceof Unreachable || error instanceof BrokerError)) options.failed(error) // it would come again for ever
        logger.debug({ err: error, broker: lane.broker }, 'a broker sends nothing')
        leadersHaveMoved()
        await pause(restMs, signal)
      } finally {
        for (const owned of asked) if (owned.asker === lane) owned.asker = undefined
      }
    }
  }

  const isLedHere = (owned: OwnedPartition, lane: Lane) => isSame(owned.leader, lane.broker)

  /** What waits longest comes first: of what does not fit into an answer, brokers send only the first, whatever its size. */
  function nextOf(lane: Lane): OwnedPartition[] {
    const isFull = lane.isFull || lane.packed > maxBytesInFlight - maxBytesOfPartition
    if (isFull || lane.unpacked >= limits.batchBytes) return []
    const now = performance.now()
    return partitions
      .filter((owned) => isLedHere(owned, lane) && !owned.isPaused && !isInHand(owned) && owned.restsUntil <= now)
      .toSorted((one, other) => one.servedAt - other.servedAt)
  }

  const isInHand = (owned: OwnedPartition) => inHand.has(placeOfOwned(owned))

  /** Returns what handlers are doing with the answer. */
  async function fetchOnce(lane: Lane, asked: readonly OwnedPartition[]): Promise<Promise<void>[]> {
    await findStarts(lane, asked)
    const places = asked.flatMap(({ wireTopic, partition, position }) =>
      position === undefined ? [] : [{ topic: wireTopic, partition, offset: position, maxBytes: maxBytesOfPartition }],
    )
    const isSomeLeftOut = partitions.some((owned) => isLedHere(owned, lane) && isInHand(owned))
    const request = fetchRequest({
      places,
      maxWaitMs: isSomeLeftOut ? maxWaitMs.someLeftOut : maxWaitMs.allAsked,
      maxBytes: maxBytesInFlight - lane.packed,
    })
    const { partitions: answers } = await connections.send(lane.broker, request)
    if (signal.aborted) return []
    options.answered()
    if (!options.isLeased()) return [] // the process has stood still, and they may be another member's by now
    const offsets = new Map(places.map((place) => [placeOf(place), place.offset]))
    const owners = new Map(asked.map((owned) => [placeOfOwned(owned), owned]))
    return takeIn(
      lane,
      answers.flatMap((answer) => {
        const owned = owners.get(placeOf(answer))
        // Another broker may have been asked meanwhile, or the handler of a former answer have moved it.
        return owned?.asker === lane && owned.position === offsets.get(placeOf(answer)) ? [{ ...answer, owned }] : []
      }),
    )
  }

  async function findStarts(lane: Lane, asked: readonly OwnedPartition[]): Promise<void> {
    const unknown = asked.filter(({ position }) => position === undefined)
    if (unknown.length === 0) return
    const places = unknown.map(({ wireTopic, partition }) => ({ topic: wireTopic, partition }))
    const found = await connections.send(lane.broker, offsetsRequest(places, 'start'))
    const starts = new Map(found.map((one) => [placeOf(one), one]))
    for (const owned of unknown) {
      const start = starts.get(placeOfOwned(owned))
      if (start?.errorCode === errors.none) owned.startAt(start.offset)
      else cannotBeRead(owned, start?.errorCode ?? errors.leaderNotAvailable)
    }
  }

  function takeIn(lane: Lane, answers: readonly Answer[]): Promise<void>[] {
    const before = lane.unpacked
    const budget = { left: limits.batchBytes - before, isBegun: before > 0 }
    const handling = answers.flatMap((answer) => {
      const { owned, errorCode, records } = answer
      if (errorCode === errors.none) return records.length > 0 ? giveOut(lane, answer, budget) : []
      if (errorCode === errors.offsetOutOfRange) {
        logger.warn(
          { topic: owned.topic, partition: owned.partition, offset: String(owned.position) },
          'the offset is not in the log any more; reading goes on where it starts',
        )
        owned.position = undefined
      } else cannotBeRead(owned, errorCode)
      return []
    })
    lane.isFull = before > 0 && budget.left <= 0 && handling.length === 0
    return handling
  }

  function cannotBeRead(owned: OwnedPartition, errorCode: number): void {
    const problem = new BrokerError(placeOfOwned(owned), errorCode)
    logger.debug({ err: problem, topic: owned.topic, partition: owned.partition }, 'cannot be read now')
    if (!problem.isPassing) options.failed(problem)
    owned.restsUntil = performance.now() + restMs
    leadersHaveMoved()
  }

  function giveOut(lane: Lane, answer: Answer, budget: Budget): Promise<void>[] {
    const { owned, records: bytes, aborted } = answer
    const from = owned.position ?? 0n
    const before = budget.left
    const {
      records,
      next = from,
      unreadable,
    } = decodeRecords(bytes, from, aborted, limits, budget, {
      of: unfinished,
      place: placeOfOwned(owned),
    })
    if (unreadable || next > from) owned.servedAt = performance.now()
    const messages = records.map((record) => toMessage({ topic: owned.topic, partition: owned.partition }, record))
    if (messages.length === 0 && !unreadable) {
      owned.done(next) // nothing that anybody is to see
      return []
    }
    const place = { topic: owned.topic, partition: owned.partition }
    const batch = { messages, next, ...(unreadable && { unreadable: { ...place, ...unreadable } }) }
    const handling = handOver(lane, owned, batch, { packed: bytes.length, unpacked: before - budget.left })
    working.add(handling)
    void handling.then(() => working.delete(handling))
    return [handling]
  }

  /** Never throws. */
  async function handOver(
    lane: Lane,
    owned: OwnedPartition,
    batch: IncomingBatch,
    size: { packed: number; unpacked: number },
  ): Promise<void> {
    const place = placeOfOwned(owned)
    const from = owned.position
    inHand.add(place)
    lane.packed += size.packed
    lane.unpacked += size.unpacked
    try {
      await options.handle(batch, owned)
    } catch (error) {
      options.failed(error)
    } finally {
      inHand.delete(place)
      lane.packed -= size.packed
      lane.unpacked -= size.unpacked
      lane.isFull = false
      if (owned.position === from) owned.restsUntil = performance.now() + restMs
      lane.alarm.wake()
    }
  }

  void followLeaders()
  return {
    wake,
    settled: async () => {
      await Promise.all(working)
    },
  }
}
