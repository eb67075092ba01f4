import type { Database } from '@shopstream/database'
import { topicOf } from '@shopstream/events'
import type { Logger } from '@shopstream/observability'
import { pause } from '../async.ts'
import { type Bus, type IncomingMessage, type PartitionPosition, type Place, placeOf } from '../broker/bus.ts'
import type { Consumption } from '../event/consumption.ts'
import { compactedTopics, typeOf } from '../event/envelope.ts'
import { type Kept, listNoted, noteAllFilled, noteBegun, noteFilled } from './filled-replicas.ts'
import { listStanding, lookAgain, type MetUnreadable, meetUnreadable } from './unreadable.ts'

export interface ReplicasOptions {
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any>
  consumes: readonly Consumption[]
  bus: Bus
  logger: Logger
  stop: AbortSignal
}

/** Whoever handles messages that the group has passed already. */
export interface AgainConsumer {
  /** Handles messages of one partition in order, as those that the group gets. Throws when it cannot. */
  handleAgain(messages: IncomingMessage[], stop: AbortSignal): Promise<void>
}

/**
 * Whether the replicas hold all that their topics held at the first look, so that a service does not answer from half a
 * replica. Filled replicas are noted in the database: a restarted service serves at once, with or without a broker.
 *
 * An unreadable stretch does not keep a service from being ready: only its partition stops, and reports it. But a
 * replica that lacks the messages in the stretch, or after it, is not noted as filled until somebody has decided to
 * step over it.
 */
export interface Replicas {
  /** Whether all is read that can be. */
  readonly areRead: boolean
  /** Throws with the topics that are still read. */
  check(): void
  /** Looks up what the database has noted. */
  look(): Promise<void>
  /** To be told where the group stands, until they are filled. */
  reached(positions: readonly PartitionPosition[], consumer: AgainConsumer): Promise<void>
}

/** How far the replicas are. */
interface Filling extends Omit<ReplicasOptions, 'consumes'> {
  kept: readonly Kept[]
  /** Undefined: nobody could be asked yet. */
  missing: Kept[] | undefined
  /** Events that the group has passed without handling them. */
  added: Kept[]
  /** By topic, where it ended when it was first looked at. */
  targets: Map<string, PartitionPosition[]>
  isReading: boolean
  /** Events that are read as far as possible: they count as ready until the process ends. */
  read: Set<Kept>
  /** What was left out of topics that were read again, and waits for a decision. */
  leftOut: Map<string, MetUnreadable[]>
  /** By `performance.now()`. */
  began: number
}

export function createReplicas({ consumes, ...options }: ReplicasOptions): Replicas {
  const kept = keptOf(consumes)
  const filling: Filling = {
    ...options,
    kept,
    missing: kept.length === 0 ? [] : undefined,
    added: [],
    targets: new Map(),
    isReading: false,
    read: new Set(),
    leftOut: new Map(),
    began: performance.now(),
  }
  return {
    get areRead() {
      return filling.missing !== undefined && unreadOf(filling, filling.missing).length === 0
    },
    check() {
      const unread = filling.missing ? unreadOf(filling, filling.missing) : kept
      const topics = new Set(unread.map(({ topic }) => topic))
      if (topics.size === 0) return
      throw new Error(`still reading ${[...topics].join(', ')}, of which it keeps replicas`)
    },
    look: () => look(filling),
    reached: (positions, consumer) => reached(filling, positions, consumer),
  }
}

const keptOf = (consumes: readonly Consumption[]): Kept[] =>
  consumes
    .flatMap(({ events }) => events.map((event) => ({ topic: topicOf(event).name, event })))
    .filter(({ topic }) => compactedTopics.has(topic))

const unreadOf = ({ read }: Filling, some: readonly Kept[]) => some.filter((one) => !read.has(one))

/** Sorts what is kept by what the database has noted of it, and notes what begins to be filled. */
async function look(filling: Filling): Promise<void> {
  const { database, kept } = filling
  if (filling.missing) return
  const rows = await listNoted(database)
  const isOneOf = (known: typeof rows, one: Kept) =>
    known.some(({ topic, event }) => topic === one.topic && event === one.event)
  const filled = rows.filter(({ isFilled }) => isFilled)
  const unfilled = kept.filter((one) => !isOneOf(filled, one))
  const added = unfilled.filter((one) => !isOneOf(rows, one) && rows.some(({ topic }) => topic === one.topic))
  filling.added = added
  await noteBegun(
    database,
    unfilled.filter((one) => !added.includes(one)),
  )
  filling.missing = unfilled
}

/** Notes what is filled by now, and has events read again that the group has passed. */
async function reached(
  filling: Filling,
  positions: readonly PartitionPosition[],
  consumer: AgainConsumer,
): Promise<void> {
  const { database, targets, read, began } = filling
  if (!filling.missing || filling.missing.length === 0) return
  for (const [topic, ofTopic] of Map.groupBy(positions, (position) => position.topic))
    if (!targets.has(topic)) targets.set(topic, ofTopic)
  const again = filling.missing.filter((one) => filling.added.includes(one))
  const unread = unreadOf(filling, again)
  if (unread.length > 0 && !filling.isReading) void readAgain(filling, unread, consumer)
  const standing = await listStanding(database.query, (performance.now() - began) / 1_000)
  const ofGroup = filling.missing.filter((one) => !filling.added.includes(one))
  const filled = ofGroup.filter(({ topic }) => hasReached(positions, targets.get(topic), []))
  for (const one of again) if (read.has(one) && (await isDecided(filling, one.topic))) filled.push(one)
  await note(filling, filled)
  for (const one of ofGroup) if (hasReached(positions, targets.get(one.topic), standing)) read.add(one)
}

/** Reads events that the group has passed and does not come to again. */
async function readAgain(filling: Filling, wanted: readonly Kept[], consumer: AgainConsumer): Promise<void> {
  const { database, bus, logger, stop } = filling
  filling.isReading = true
  const undecided: MetUnreadable[] = []
  const events = new Set<string | undefined>(wanted.map(({ event }) => event))
  const topics = [...new Set(wanted.map(({ topic }) => topic))]
  logger.info({ topics, events: [...events] }, 'events are read that the version before did not consume')
  try {
    await bus.read({
      topics,
      toEnd: true,
      signal: stop,
      handle: (messages) =>
        consumer.handleAgain(
          messages.filter(({ headers }) => events.has(typeOf(headers))),
          stop,
        ),
      async unreadable(found) {
        const { met, isSteppedOver } = await meetUnreadable(database, found)
        if (isSteppedOver) return
        const { topic, partition, firstOffset, reason } = found
        logger.warn(
          { topic, partition, offset: String(firstOffset), reason },
          'what cannot be read is left out of a replica, which is not noted as filled before that is stepped over',
        )
        undecided.push(met)
      },
    })
    if (stop.aborted) return
    const leftOut = Map.groupBy(undecided, ({ topic }) => topic)
    filling.leftOut = leftOut
    await note(
      filling,
      wanted.filter(({ topic }) => !leftOut.has(topic)),
    )
    for (const one of wanted) filling.read.add(one)
  } catch (error) {
    logger.warn({ err: error, topics }, 'a replica cannot be filled now')
    await pause(1_000, stop)
  } finally {
    filling.isReading = false
  }
}

/** Whether somebody has decided about all that was left out of a topic. */
async function isDecided({ database, leftOut }: Filling, topic: string): Promise<boolean> {
  const verdicts = (leftOut.get(topic) ?? []).map((met) => lookAgain(database, met))
  return (await Promise.all(verdicts)).every((isSteppedOver) => isSteppedOver === true)
}

async function note(filling: Filling, filled: readonly Kept[]): Promise<void> {
  const { database } = filling
  if (filled.length === 0) return
  await noteFilled(database, filled)
  filling.missing = filling.missing?.filter((one) => !filled.includes(one))
  if (filling.missing?.length === 0) await noteAllFilled(database)
}

/** @param standing unreadable stretches that partitions stand before: those partitions can come no further. */
function hasReached(
  positions: readonly PartitionPosition[],
  target: readonly PartitionPosition[] = [],
  standing: readonly (Place & { lastOffset: bigint })[],
): boolean {
  const reached = new Map(positions.map((position) => [placeOf(position), position.done]))
  const mustStop = (place: Place, done: bigint) =>
    standing.some((one) => placeOf(one) === placeOf(place) && done <= one.lastOffset)
  return (
    target.length > 0 &&
    target.every((one) => {
      const done = reached.get(placeOf(one)) ?? 0n
      return done >= one.stableEnd || mustStop(one, done) // what a transaction hides that somebody has left open does not count
    })
  )
}
