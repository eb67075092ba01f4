import { createAlarm, pause } from '../../../async.ts'
import { placeOf } from '../../bus.ts'
import { maxBytesInFlight, maxBytesOfPartition } from '../consuming.ts'
import { type BrokerAddress, fetchRequest, offsetsRequest } from '../protocol.ts'
import { type AnswerOptions, cannotBeRead, type Intake, type Lane, placeOfOwned, restMs, takeIn } from './answers.ts'
import { type Cluster, metadataMaxAge } from './cluster.ts'
import type { Connections } from './connections.ts'
import { BrokerError, errors, Unreachable } from './errors.ts'
import type { OwnedPartition } from './partition.ts'

/**
 * How long a broker waits for something to send, in ms. It is short while partitions are left out because their
 * messages are being handled: new messages of these are only asked for after it.
 */
const maxWaitMs = { allAsked: 250, someLeftOut: 25 }
/**
 * How long to wait for handlers before the next request, in ms: most are done by then, and no partition is left out.
 */
const handlersLimit = 10
/** Looks again for something to ask for, in ms, if nobody has told that there is. */
const lookEvery = 250

export interface FetchingOptions extends AnswerOptions {
  cluster: Cluster
  connections: Connections
  partitions: readonly OwnedPartition[]
  /** Whether the partitions can still be this member's. */
  isLeased(): boolean
  answered(): void
  signal: AbortSignal
}

export interface Fetching {
  /** There may be something to ask for again. */
  wake(): void
  /** Resolves when no handler is at work any more. */
  settled(): Promise<void>
}

/** What fetches: the brokers that it asks, and what comes of their answers. */
interface Fetcher extends FetchingOptions, Intake {
  /** By host and port. */
  lanes: Map<string, Lane>
  leadersAlarm: ReturnType<typeof createAlarm>
}

/**
 * Reads partitions until `signal`, from each broker that leads some of them by itself, one request after the other. A
 * partition is asked for when its messages have been handled; what is wrong with one, or with one broker, concerns no other.
 *
 * The library's own stream is not used: it fails for the whole answer when one partition has an error or one batch cannot be
 * decoded, and unpacks without a bound.
 */
export function startFetching(options: FetchingOptions): Fetching {
  const { cluster, signal } = options
  const leadersAlarm = createAlarm(signal)
  const fetcher: Fetcher = {
    ...options,
    lanes: new Map(),
    working: new Set(),
    leadersAlarm,
    leadersHaveMoved() {
      cluster.forgetLeaders()
      leadersAlarm.wake()
    },
  }
  void followLeaders(fetcher)
  return {
    wake: () => wakeLanes(fetcher),
    settled: async () => {
      await Promise.all(fetcher.working)
    },
  }
}

function wakeLanes({ lanes }: Fetcher): void {
  for (const { alarm } of lanes.values()) alarm.wake()
}

async function followLeaders(fetcher: Fetcher): Promise<void> {
  const { cluster, partitions, logger, signal, leadersAlarm } = fetcher
  const topics = [...new Set(partitions.map(({ wireTopic }) => wireTopic))]
  while (!signal.aborted) {
    try {
      const leaders = await cluster.leaders(topics)
      for (const owned of partitions) ledBy(fetcher, owned, leaders.get(placeOfOwned(owned))?.leader)
      wakeLanes(fetcher)
    } catch (error) {
      logger.debug({ err: error }, 'no broker says who leads')
    }
    await pause(restMs, signal)
    await leadersAlarm.wait(metadataMaxAge)
  }
}

/** Each broker that leads for the first time gets a lane. */
function ledBy(fetcher: Fetcher, owned: OwnedPartition, leader: BrokerAddress | undefined): void {
  const { lanes, signal } = fetcher
  owned.leader = leader
  const key = `${leader?.host}:${leader?.port}`
  if (!leader || lanes.has(key)) return
  const lane = { broker: leader, alarm: createAlarm(signal), packed: 0, unpacked: 0, isFull: false }
  lanes.set(key, lane)
  void runLane(fetcher, lane)
}

async function runLane(fetcher: Fetcher, lane: Lane): Promise<void> {
  const { logger, signal } = fetcher
  while (!signal.aborted) {
    const asked = fetcher.isLeased() ? nextOf(fetcher, lane) : []
    if (asked.length === 0) {
      await lane.alarm.wait(lookEvery)
      continue
    }
    for (const owned of asked) owned.asker = lane
    try {
      const handlers = await fetchOnce(fetcher, lane, asked)
      await Promise.race([Promise.all(handlers), pause(handlersLimit, signal)])
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof Unreachable || error instanceof BrokerError)) fetcher.failed(error) // it would come again for ever
      logger.debug({ err: error, broker: lane.broker }, 'a broker sends nothing')
      fetcher.leadersHaveMoved()
      await pause(restMs, signal)
    } finally {
      for (const owned of asked) if (owned.asker === lane) owned.asker = undefined
    }
  }
}

const isSame = (one: BrokerAddress | undefined, other: BrokerAddress) =>
  one?.host === other.host && one.port === other.port
const isLedHere = (owned: OwnedPartition, lane: Lane) => isSame(owned.leader, lane.broker)
const isInHand = ({ inHand }: Fetcher, owned: OwnedPartition) => inHand.has(placeOfOwned(owned))

/** The partition that waits longest comes first: only for the first one do brokers send a batch beyond the limit. */
function nextOf(fetcher: Fetcher, lane: Lane): OwnedPartition[] {
  const isFull = lane.isFull || lane.packed > maxBytesInFlight - maxBytesOfPartition
  if (isFull || lane.unpacked >= fetcher.limits.batchBytes) return []
  const now = performance.now()
  const isFree = (owned: OwnedPartition) => !owned.isPaused && !isInHand(fetcher, owned) && owned.restsUntil <= now
  return fetcher.partitions
    .filter((owned) => isLedHere(owned, lane) && isFree(owned))
    .toSorted((one, other) => one.servedAt - other.servedAt)
}

/** Returns what handlers are doing with the answer. */
async function fetchOnce(fetcher: Fetcher, lane: Lane, asked: readonly OwnedPartition[]): Promise<Promise<void>[]> {
  await findStarts(fetcher, lane, asked)
  const places = asked.flatMap(({ wireTopic, partition, position }) =>
    position === undefined ? [] : [{ topic: wireTopic, partition, offset: position, maxBytes: maxBytesOfPartition }],
  )
  const isSomeLeftOut = fetcher.partitions.some((owned) => isLedHere(owned, lane) && isInHand(fetcher, owned))
  const request = fetchRequest({
    places,
    maxWaitMs: isSomeLeftOut ? maxWaitMs.someLeftOut : maxWaitMs.allAsked,
    maxBytes: maxBytesInFlight - lane.packed,
  })
  const { partitions: answers } = await fetcher.connections.send(lane.broker, request)
  if (fetcher.signal.aborted) return []
  fetcher.answered()
  if (!fetcher.isLeased()) return [] // the process has stood still, and they may be another member's by now
  const offsets = new Map(places.map((place) => [placeOf(place), place.offset]))
  const owners = new Map(asked.map((owned) => [placeOfOwned(owned), owned]))
  return takeIn(
    fetcher,
    lane,
    answers.flatMap((answer) => {
      const owned = owners.get(placeOf(answer))
      // Another broker may have been asked meanwhile, or the handler of an earlier answer may have moved the position.
      return owned?.asker === lane && owned.position === offsets.get(placeOf(answer)) ? [{ ...answer, owned }] : []
    }),
  )
}

/** Asks where the log starts, for partitions whose position is not known yet. */
async function findStarts(fetcher: Fetcher, lane: Lane, asked: readonly OwnedPartition[]): Promise<void> {
  const unknown = asked.filter(({ position }) => position === undefined)
  if (unknown.length === 0) return
  const places = unknown.map(({ wireTopic, partition }) => ({ topic: wireTopic, partition }))
  const found = await fetcher.connections.send(lane.broker, offsetsRequest(places, 'start'))
  const starts = new Map(found.map((one) => [placeOf(one), one]))
  for (const owned of unknown) {
    const start = starts.get(placeOfOwned(owned))
    if (start?.errorCode === errors.none) owned.startAt(start.offset)
    else cannotBeRead(fetcher, owned, start?.errorCode ?? errors.leaderNotAvailable)
  }
}
