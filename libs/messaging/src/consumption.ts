import type { Transaction } from '@shopstream/database'
import { type EventName, topicOf } from '@shopstream/events'
import type { Message } from './envelope.ts'

/**
 * Handles a chunk of messages of one partition, in their order, inside the transaction that also records that they
 * took effect. It locks, decides in memory, and writes sets. When it throws, nothing of the chunk has happened; the
 * messages then come one at a time, and the one that fails is parked.
 *
 * Messages of compacted topics can come again and late: ignore a `sequence` that is not higher than the one known.
 */
export type Handler<N extends EventName = EventName> = (tx: Transaction, messages: Message<N>[]) => Promise<void>

/** What happens to a message whose handler fails for the message's sake; times in ms. */
export interface FailurePolicy {
  /** How often it is tried in all before it is dead. */
  attempts: number
  /** Pause before the second attempt; doubled after each, with jitter of a fifth. */
  backoffMs: number
  maxBackoffMs: number
  /** Whether a dead message goes on blocking later messages of its key until a person decides. */
  whenDead: 'block' | 'pass'
}

export const defaultPolicy: FailurePolicy = { attempts: 8, backoffMs: 500, maxBackoffMs: 60_000, whenDead: 'block' }

/** A row of a service's `consumes.ts`. */
export interface Consumption {
  readonly events: readonly EventName[]
  readonly handle: Handler
  readonly policy: FailurePolicy
}

/** A row of `consumes.ts`: these events go to this handler. */
export function on<N extends EventName>(
  events: N | readonly N[],
  handle: Handler<N>,
  policy?: Partial<FailurePolicy>,
): Consumption {
  return {
    events: typeof events === 'string' ? [events] : events,
    handle: handle as unknown as Handler,
    policy: { ...defaultPolicy, ...policy },
  }
}

/** The rows of a service by event. Throws when two rows name the same event. */
export function byEvent(rows: readonly Consumption[]): Map<string, Consumption> {
  const pairs = rows.flatMap((row) => row.events.map((event) => [event, row] as const))
  const twice = pairs.find(([event], i) => pairs.findIndex(([other]) => other === event) !== i)
  if (twice) throw new Error(`consumes.ts has two rows for ${twice[0]}`)
  return new Map(pairs)
}

/** Names of the topics that the rows need. */
export function topicsOf(rows: readonly Consumption[]): string[] {
  return [...new Set(rows.flatMap((row) => row.events.map((event) => topicOf(event).name)))]
}
