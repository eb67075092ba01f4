import { topics } from '@shopstream/events'
import { Counter, Histogram, observeInTrace, parseTraceparent, type Registry } from '@shopstream/observability'
import type { WireHeaders } from '../broker/bus.ts'
import { type Message, typeOf } from './envelope.ts'

const knownTypes = new Set<string>(topics.flatMap(({ events }) => events))

/** The value of a label `type`: headers of others may say anything, and each value is a time series. */
export function typeLabelOf(headers: WireHeaders): string {
  const type = typeOf(headers) ?? ''
  return knownTypes.has(type) ? type : 'unreadable'
}

/**
 * The labels of each of these types of events, for counters to begin at 0: one that begins with its first event is no
 * increase to Prometheus, and that event would not be seen.
 */
export const labelsOf = (types: Iterable<string>) => {
  const wanted = new Set(types)
  return topics.flatMap(({ name: topic, events }) =>
    events.filter((type) => wanted.has(type)).map((type) => ({ topic, type })),
  )
}

/** What became of an event: `repeated` took effect before, `dead` can never be read. */
const outcomes = ['handled', 'repeated', 'parked', 'dead'] as const
export type Outcome = (typeof outcomes)[number]

/** A message, and the event that it is, where it can be read. */
export interface Counted {
  message: { topic: string }
  event?: Message
}

/** What is measured of messages that are handled, at once or after they were parked. */
export interface ConsumptionMeters {
  /** Once what became of them is committed. */
  count(items: readonly Counted[], outcome: Outcome): void
  /** Starts a clock for a handler with so many messages, the first of this type; the returned function stops it. */
  handling(type: string, messages: number): () => void
  failedAgain(labels: { topic: string; type: string; state: string }): void
}

/** `types` are those that this service consumes. */
export function createConsumptionMeters(registry: Registry, types: Iterable<string>): ConsumptionMeters {
  const registers = [registry]
  const consumed = new Counter({
    name: 'shopstream_events_consumed_total',
    help: 'Events by what became of them: handled, repeated (dropped, as it had taken effect before), parked, or dead.',
    labelNames: ['topic', 'type', 'outcome'],
    registers,
  })
  for (const labels of labelsOf(types)) for (const outcome of outcomes) consumed.inc({ ...labels, outcome }, 0)
  const age = new Histogram({
    name: 'shopstream_event_age_seconds',
    help: 'From when an event was decided until what it leads to in this service was committed, by the clocks of the two.',
    labelNames: ['topic', 'type'],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600],
    enableExemplars: true,
    registers,
  })
  const handling = new Histogram({
    name: 'shopstream_event_handling_seconds',
    help: 'What a handler takes for the messages that it gets together, by the type of the first.',
    labelNames: ['type'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15],
    registers,
  })
  const batch = new Histogram({
    name: 'shopstream_event_batch_messages',
    help: 'Messages that a handler gets together.',
    labelNames: ['type'],
    buckets: [1, 2, 5, 10, 20, 50, 100, 200],
    registers,
  })
  const failed = new Counter({
    name: 'shopstream_parked_attempts_failed_total',
    help: 'Failed attempts at parked messages, by what became of them: waiting for another one, or dead.',
    labelNames: ['topic', 'type', 'state'],
    registers,
  })
  return {
    count(items, outcome) {
      const now = Date.now()
      for (const { message, event } of items) {
        const { topic } = message
        const type = event?.type ?? 'unreadable'
        consumed.inc({ topic, type, outcome })
        if (outcome !== 'handled' || !event) continue
        const seconds = Math.max(0, now - event.time.getTime()) / 1_000
        observeInTrace(age, { topic, type }, seconds, parseTraceparent(event.traceparent)?.traceId)
      }
    },
    handling(type, messages) {
      const stop = handling.startTimer({ type })
      batch.observe({ type }, messages)
      return stop
    },
    failedAgain: (labels) => failed.inc(labels),
  }
}
