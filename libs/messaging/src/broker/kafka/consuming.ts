import { Counter, Gauge, type Logger, type Registry } from '@shopstream/observability'
import { pause } from '../../async.ts'
import type { Consumer } from '../bus.ts'
import type { Pulse } from './pulse.ts'

/**
 * What a consumer holds of each broker's messages at the most, in bytes as they are on the wire (and one batch of records,
 * if that is larger). Nothing more is asked for until it has been handled.
 */
export const maxBytesInFlight = 8_388_608
/** Of them, of one partition: a batch of the size that topics take by default. */
export const maxBytesOfPartition = 1_048_588

/** Pauses before a consumer is built anew, in ms: doubled while it breaks again and again. */
const rebuildPause = { first: 1_000, longest: 10_000 }
/** One that has worked for so long, in ms, has not been built in vain; longer than it takes to see that one hangs (30 s). */
const settledAfter = 40_000
/** So often in a row is a consumer built anew before readiness fails. */
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
 * How often, in ms, topics are asked whether they are those of before, and for how long all that is given of one that is not
 * is read from its start: the members of a group find out one after the other, and what one has passed over is another's then.
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
   * Joins the group, calls `working` with each answer, and returns when told to stop. Throws when it breaks. Of topics of which
   * `startsOver` is true as it is given partitions, it reads those from the start, wherever the group has come to.
   */
  run(working: () => void, stop: AbortSignal, startsOver: StartsOver): Promise<void>
  /** Whether this is what brokers say while they start or move partitions: no fault of ours, and needs no stack. */
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
  meters?.fetched() // one that never gets an answer is as bad as one that gets none any more
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
        if (pulse.isThere()) inARow += 1 // without a broker none can work
        reason = error instanceof Error ? error.message : String(error)
        if (isPassing(error)) logger.info({ group, reason }, 'the consumer is built anew')
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
    async close() {
      stopping.abort()
      await running
    },
  }
}

/**
 * A group's place in a topic is a number, which means nothing in another topic of that name: with three events handled, one
 * that was made anew was read from its fourth on, and nobody knew. Who reads it again from its start has what was handled in
 * the inbox. A process that ends between the two, within {@link anew}'s seconds, leaves the place that it had come to.
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
    /** Aborted when a topic was made anew from now on. */
    change: () => changed.signal,
    startsOver: (topic: string) =>
      performance.now() - (since.get(topic) ?? Number.NEGATIVE_INFINITY) < anew.startOverFor,
  }
}
