import { Counter, Gauge, type Logger, type Registry } from '@shopstream/observability'
import { pause } from '../async.ts'
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

export interface KeepOptions {
  group: string
  logger: Logger
  meters: ConsumerMeters | undefined
  pulse: Pulse
  /** Joins the group, calls `working` with each answer, and returns when told to stop. Throws when it breaks. */
  run(working: () => void, stop: AbortSignal): Promise<void>
  /** Whether this is what brokers say while they start or move partitions: no fault of ours, and needs no stack. */
  isPassing(error: unknown): boolean
}

/** Consumes until it is closed, with a new consumer whenever one breaks; never throws. */
export function keepConsuming({ group, logger, meters, pulse, run, isPassing }: KeepOptions): Consumer {
  const stopping = new AbortController()
  let inARow = 0
  let reason = ''
  /** When the present one began to work, by `performance.now()`. */
  let since: number | undefined
  const isSettled = () => since !== undefined && performance.now() - since > settledAfter
  meters?.fetched() // one that never gets an answer is as bad as one that gets none any more
  const running = (async () => {
    while (!stopping.signal.aborted) {
      since = undefined
      try {
        await run(() => {
          since ??= performance.now()
          meters?.fetched()
        }, stopping.signal)
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
