import { type Database, sql } from '@shopstream/database'
import { type EventName, topicOf } from '@shopstream/events'
import type { Logger } from '@shopstream/observability'
import { pause } from '../async.ts'
import { type Bus, type IncomingMessage, type PartitionPosition, type Place, placeOf } from '../broker/bus.ts'
import type { Consumption } from '../event/consumption.ts'
import { compactedTopics, typeOf } from '../event/envelope.ts'
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
 * Whether the replicas hold all that their topics held when they were first looked at, so that a service does not answer
 * from half of one. What was filled is noted in the database: a restarted service serves at once, broker or not.
 *
 * What cannot be read keeps no service from being ready: its partition stands alone, and tells. But a replica that lacks
 * what is in it, or behind it, is not noted as filled until somebody has decided that it may be stepped over.
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

/** An event of a compacted topic that the service consumes. */
interface Kept {
  topic: string
  event: EventName
}

export function createReplicas({ database, consumes, bus, logger, stop }: ReplicasOptions): Replicas {
  const kept: Kept[] = consumes
    .flatMap(({ events }) => events.map((event) => ({ topic: topicOf(event).name, event })))
    .filter(({ topic }) => compactedTopics.has(topic))
  /** Undefined: nobody could be asked yet. */
  let missing: Kept[] | undefined = kept.length === 0 ? [] : undefined
  /** Those that the group has passed without taking them. */
  let added: Kept[] = []
  /** By topic, where it ended when it was first looked at. */
  const targets = new Map<string, PartitionPosition[]>()
  let isReading = false
  /** What is read as far as it can be; this service is ready for as long as it lives then. */
  const read = new Set<Kept>()
  /** What was left out of topics that were read again, and waits for a decision. */
  let leftOut = new Map<string, MetUnreadable[]>()

  const isUnread = (one: Kept) => !read.has(one)
  const began = performance.now()

  /** Whether somebody has decided about all that was left out of a topic. */
  async function isDecided(topic: string): Promise<boolean> {
    const verdicts = (leftOut.get(topic) ?? []).map((met) => lookAgain(database, met))
    return (await Promise.all(verdicts)).every((isSteppedOver) => isSteppedOver === true)
  }

  async function note(filled: readonly Kept[]): Promise<void> {
    if (filled.length === 0) return
    await sql`
      with filled as (select * from ${rowsOf(filled)} as one (topic, event)),
      ended as (delete from replica_begun where (topic, event) in (select topic, event from filled))
      insert into replica_filled (topic, event) select topic, event from filled on conflict do nothing`.execute(
      database.query,
    )
    missing = missing?.filter((one) => !filled.includes(one))
    if (missing?.length === 0)
      await sql`insert into replicas_filled select where not exists (select from replicas_filled)`.execute(
        database.query,
      )
  }

  /** The group is behind these events and does not come to them again. */
  async function readAgain(wanted: readonly Kept[], consumer: AgainConsumer): Promise<void> {
    isReading = true
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
      leftOut = Map.groupBy(undecided, ({ topic }) => topic)
      await note(wanted.filter(({ topic }) => !leftOut.has(topic)))
      for (const one of wanted) read.add(one)
    } catch (error) {
      logger.warn({ err: error, topics }, 'a replica cannot be filled now')
      await pause(1_000, stop)
    } finally {
      isReading = false
    }
  }

  return {
    get areRead() {
      return missing !== undefined && !missing.some(isUnread)
    },
    check() {
      const topics = new Set((missing?.filter(isUnread) ?? kept).map(({ topic }) => topic))
      if (topics.size === 0) return
      throw new Error(`still reading ${[...topics].join(', ')}, of which it keeps replicas`)
    },
    async look() {
      if (missing) return
      const { rows } = await sql<{ topic: string; event: string; isFilled: boolean }>`
        select topic, event, true as "isFilled" from replica_filled
        union all select topic, event, false from replica_begun`.execute(database.query)
      const isOneOf = (known: typeof rows, one: Kept) =>
        known.some(({ topic, event }) => topic === one.topic && event === one.event)
      const filled = rows.filter(({ isFilled }) => isFilled)
      const unfilled = kept.filter((one) => !isOneOf(filled, one))
      added = unfilled.filter((one) => !isOneOf(rows, one) && rows.some(({ topic }) => topic === one.topic))
      await sql`
        insert into replica_begun (topic, event)
        select * from ${rowsOf(unfilled.filter((one) => !added.includes(one)))} on conflict do nothing`.execute(
        database.query,
      )
      missing = unfilled
    },
    async reached(positions, consumer) {
      if (!missing || missing.length === 0) return
      for (const [topic, ofTopic] of Map.groupBy(positions, (position) => position.topic))
        if (!targets.has(topic)) targets.set(topic, ofTopic)
      const again = missing.filter((one) => added.includes(one))
      const unread = again.filter(isUnread)
      if (unread.length > 0 && !isReading) void readAgain(unread, consumer)
      const standing = await listStanding(database.query, (performance.now() - began) / 1_000)
      const ofGroup = missing.filter((one) => !added.includes(one))
      const filled = ofGroup.filter(({ topic }) => hasReached(positions, targets.get(topic), []))
      for (const one of again) if (read.has(one) && (await isDecided(one.topic))) filled.push(one)
      await note(filled)
      for (const one of ofGroup) if (hasReached(positions, targets.get(one.topic), standing)) read.add(one)
    },
  }
}

/** SQL: rows of topic and event. */
const rowsOf = (some: readonly Kept[]) =>
  sql`unnest(${some.map(({ topic }) => topic)}::text[], ${some.map(({ event }) => event)}::text[])`

/** @param standing what partitions stand before that cannot be read: they have come as far as they can. */
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
