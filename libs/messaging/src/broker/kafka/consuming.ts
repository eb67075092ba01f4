import { Counter, Gauge, type Logger, type Registry } from '@shopstream/observability'
import { pause } from '../../async.ts'
import { type Consumer, isNotAdmitted } from '../bus.ts'
import type { Pulse } from './pulse.ts'

/**
 * Most bytes of each broker's messages that a consumer holds, as they are on the wire (one batch of records may be
 * larger). It asks for no more until they have been handled.
 */
export const maxBytesInFlight = 8_388_608
/** The part of one partition: the largest batch that topics accept by default. */
export const maxBytesOfPartition = 1_048_588

/** Pauses before a consumer is built anew, in ms: doubled while it breaks again and again. */
const rebuildPause = { first: 1_000, longest: 10_000 }
/** A new consumer that has worked this long, in ms, is healthy; longer than it takes to notice a hang (30 s). */
const settledAfter = 40_000
/** One that got answers for so long, in ms, works; one that breaks again and again gets one or two. */
const workingAfter = 3_000
/** Number of rebuilds in a row after which readiness fails. */
const rebuildLimit = 3

export interface ConsumerMeters {
  fetched(): void
  rebuilt(): void
}

export function createConsumerMeters(registry: Registry): ConsumerMeters {
  const lastFetch = new Gauge({
    name: 'shopstream_consumer_last_fetch_timestamp_seconds',
    help: 'When the consumer last got an answer from the broker, or began to ask, in seconds since 1970; 0: it consumes nothing.',
    registers: [registry],
  })
  const rebuilt = new Counter({
    name: 'shopstream_consumer_rebuilt_total',
    help: 'Times a consumer that hung or crashed was replaced by a new one.',
    registers: [registry],
  })
  return { fetched: () => lastFetch.setToCurrentTime(), rebuilt: () => rebuilt.inc() }
}

/**
 * How often, in ms, topics are checked for being recreated, and for how long partitions of a recreated topic are read
 * from the start when assigned. Members of a group notice it one after the other, and a partition that one of them has
 * read past may then be assigned to another.
 */
const anew = { askEvery: 3_000, startOverFor: 60_000 }

export interface KeepOptions {
  group: string
  /** Names on the wire. */
  topics: readonly string[]
  /** See `Log`. */
  topicIds(topics: readonly string[]): Promise<ReadonlyMap<string, string>>
  logger: Logger
  meters: ConsumerMeters | undefined
  pulse: Pulse
  /**
   * Joins the group, calls `working` with each answer, and returns when told to stop. Throws when it breaks. If
   * `startsOver` is true for a topic when its partitions are assigned, they are read from the start, whatever offset
   * the group has committed.
   */
  run(working: () => void, stop: AbortSignal, startsOver: StartsOver): Promise<void>
  /** Whether brokers give this error while they start or move partitions: it is not our fault and needs no stack. */
  isPassing(error: unknown): boolean
}

export type StartsOver = (topic: string) => boolean

/** Consumes until it is closed, with a new consumer whenever one breaks; never throws. */
export function keepConsuming(options: KeepOptions): Consumer {
  const { group, logger, meters, pulse, run, isPassing } = options
  const stopping = new AbortController()
  let inARow = 0
  let reason = ''
  /** When the present one began to work, by `performance.now()`. */
  let since: number | undefined
  const topics = watchTopics(options, stopping.signal)
  const isSettled = () => since !== undefined && performance.now() - since > settledAfter
  meters?.fetched() // so that a consumer that never gets an answer is noticed too
  const running = (async () => {
    while (!stopping.signal.aborted) {
      since = undefined
      try {
        const stop = AbortSignal.any([stopping.signal, topics.change()])
        await run(
          () => {
            since ??= performance.now()
            meters?.fetched()
          },
          stop,
          topics.startsOver,
        )
        continue
      } catch (error) {
        meters?.rebuilt()
        if (isSettled()) inARow = 0
        since = undefined
        if (pulse.isThere()) inARow += 1 // without a broker none can work
        reason = error instanceof Error ? error.message : String(error)
        if (isNotAdmitted(error))
          logger.debug({ group, reason }, 'the consumer is built anew') // the pulse tells it
        else if (isPassing(error)) logger.info({ group, reason }, 'the consumer is built anew')
        else logger.warn({ err: error, group }, 'the consumer is built anew')
      }
      await pause(
        Math.min(rebuildPause.longest, rebuildPause.first * 2 ** Math.max(0, inARow - rebuildLimit)),
        stopping.signal,
      )
    }
  })()
  return {
    check() {
      if (inARow >= rebuildLimit && !isSettled() && pulse.isThere())
        throw new Error(`the consumer has been built anew ${inARow} times in a row: ${reason}`)
    },
    isWorking: () => since !== undefined && performance.now() - since > workingAfter,
    async close() {
      stopping.abort()
      await running
    },
  }
}

/**
 * A group's committed offset is a number that means nothing in a recreated topic of the same name: with three events
 * handled, the new topic was read from its fourth event on, and nobody noticed. Reading again from the start is safe:
 * the inbox has what was handled. A process that ends between the two, within {@link anew}'s seconds, leaves the offset
 * that it had reached.
 */
function watchTopics({ group, topics, topicIds, logger }: KeepOptions, signal: AbortSignal) {
  const known = new Map<string, string>()
  const since = new Map<string, number>()
  let changed = new AbortController()
  void (async () => {
    for (; !signal.aborted; await pause(anew.askEvery, signal)) {
      const found = await topicIds(topics).catch(() => new Map<string, string>()) // asked again
      const others = [...found].filter(([topic, id]) => known.has(topic) && known.get(topic) !== id)
      for (const [topic, id] of found) known.set(topic, id)
      if (others.length === 0) continue
      for (const [topic] of others) {
        logger.warn({ group, topic }, 'the topic was made anew; it is read from its start')
        since.set(topic, performance.now())
      }
      changed.abort()
      changed = new AbortController()
    }
  })()
  return {
    /** Aborted when a topic is recreated from now on. */
    change: () => changed.signal,
    startsOver: (topic: string) =>
      performance.now() - (since.get(topic) ?? Number.NEGATIVE_INFINITY) < anew.startOverFor,
  }
}
