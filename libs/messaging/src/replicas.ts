import { type Database, sql } from '@shopstream/database'
import { type EventName, topicOf } from '@shopstream/events'
import type { Logger } from '@shopstream/observability'
import { pause } from './async.ts'
import { type Bus, type IncomingMessage, type PartitionPosition, placeOf } from './bus.ts'
import type { Consumption } from './consumption.ts'
import { compactedTopics, typeOf } from './envelope.ts'

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
 */
export interface Replicas {
  readonly areFilled: boolean
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
  /** Topics of which the group has passed messages of events that are missing. */
  let passed = new Set<string>()
  /** By topic, where it ended when it was first looked at. */
  const targets = new Map<string, PartitionPosition[]>()
  let isReading = false

  async function note(filled: readonly Kept[]): Promise<void> {
    await sql`
      insert into replica_filled (topic, event)
      select * from unnest(${filled.map(({ topic }) => topic)}::text[], ${filled.map(({ event }) => event)}::text[])
      on conflict do nothing`.execute(database.query)
    missing = missing?.filter((one) => !filled.includes(one))
    if (missing?.length === 0)
      await sql`insert into replicas_filled select where not exists (select from replicas_filled)`.execute(
        database.query,
      )
  }

  /** The group is behind these events and does not come to them again. */
  async function readAgain(wanted: readonly Kept[], consumer: AgainConsumer): Promise<void> {
    isReading = true
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
        unreadable: ({ topic, partition, reason }) =>
          logger.warn({ topic, partition, reason }, 'what cannot be read is left out of a replica'),
      })
      if (!stop.aborted) await note(wanted)
    } catch (error) {
      logger.warn({ err: error, topics }, 'a replica cannot be filled now')
      await pause(1_000, stop)
    } finally {
      isReading = false
    }
  }

  return {
    get areFilled() {
      return missing?.length === 0
    },
    check() {
      if (missing?.length === 0) return
      const topics = new Set((missing ?? kept).map(({ topic }) => topic))
      throw new Error(`still reading ${[...topics].join(', ')}, of which it keeps replicas`)
    },
    async look() {
      if (missing) return
      const { rows } = await sql<{ topic: string; event: string }>`select topic, event from replica_filled`.execute(
        database.query,
      )
      passed = new Set(rows.map(({ topic }) => topic))
      missing = kept.filter((one) => !rows.some(({ topic, event }) => topic === one.topic && event === one.event))
    },
    async reached(positions, consumer) {
      if (!missing || missing.length === 0) return
      for (const [topic, ofTopic] of Map.groupBy(positions, (position) => position.topic))
        if (!targets.has(topic)) targets.set(topic, ofTopic)
      const added = missing.filter(({ topic }) => passed.has(topic))
      if (added.length > 0 && !isReading) void readAgain(added, consumer)
      const filled = missing.filter(({ topic }) => !passed.has(topic) && hasReached(positions, targets.get(topic)))
      if (filled.length > 0) await note(filled)
    },
  }
}

function hasReached(positions: readonly PartitionPosition[], target: readonly PartitionPosition[] = []): boolean {
  const done = new Map(positions.map((position) => [placeOf(position), position.done]))
  // What a transaction hides that somebody has left open does not count.
  return target.length > 0 && target.every((one) => (done.get(placeOf(one)) ?? 0n) >= one.stableEnd)
}
