import { Counter, Gauge, type Registry } from '@shopstream/observability'
import { type PartitionOffset, type Place, placeOf } from '../broker/bus.ts'
import type { ReadinessCheck } from '../health/readiness.ts'
import { describe } from '../parked/parked.ts'

/** If nothing was heard of a partition for this long after its pause, in ms, it has moved to another instance. */
const forgottenAfterMs = 30_000

interface Blocked {
  topic: string
  partition: number
  offset: bigint
  attempts: number
  since: number
  /** When the message comes again, in ms. */
  until: number
  error: string | null
}

/** The partitions of this instance that stand still, since what comes next in them cannot be read. */
export interface BlockedPartitions {
  /** Counts an attempt; returns how many there were in a row, and how long to wait for the next one. */
  failed(
    place: PartitionOffset,
    error: unknown,
    pauseAfter: (attempts: number) => number,
  ): { attempts: number; pauseMs: number }
  /** The partition has moved on. */
  free(place: Place): void
  readonly check: ReadinessCheck
}

export function createBlockedPartitions(registry: Registry): BlockedPartitions {
  const places = new Map<string, Blocked>()
  const current = () => [...places.values()].filter(({ until }) => performance.now() < until + forgottenAfterMs)
  const attemptsMade = new Counter({
    name: 'shopstream_consumer_blocked_attempts_total',
    help: 'Attempts at what cannot be read and holds up its partition.',
    labelNames: ['topic'],
    registers: [registry],
  })
  new Gauge({
    name: 'shopstream_consumer_blocked_partitions',
    help: 'Partitions that stand still, since what comes next in them cannot be read.',
    registers: [registry],
    collect() {
      this.set(current().length)
    },
  })

  return {
    failed({ topic, partition, offset }, error, pauseAfter) {
      const now = performance.now()
      const place = placeOf({ topic, partition })
      const known = places.get(place)
      const before = known?.offset === offset ? known : { attempts: 0, since: Date.now() }
      const attempts = before.attempts + 1
      const pauseMs = pauseAfter(attempts)
      attemptsMade.inc({ topic })
      places.set(place, {
        topic,
        partition,
        offset,
        attempts,
        since: before.since,
        until: now + pauseMs,
        error: describe(error),
      })
      return { attempts, pauseMs }
    },
    free(place) {
      places.delete(placeOf(place))
    },
    check: {
      name: 'partitions',
      optional: true,
      check() {
        const standing = current().map(
          ({ topic, partition, attempts, since, error }) =>
            `${topic}/${partition} stands still since ${new Date(since).toISOString()} after ${attempts} attempts: ${error}`,
        )
        if (standing.length > 0) throw new Error(standing.join('; '))
      },
    },
  }
}
