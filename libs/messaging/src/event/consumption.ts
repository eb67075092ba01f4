import type { Transaction } from '@shopstream/database'
import { type EventName, topicOf } from '@shopstream/events'
import type { FieldOf, Message } from './envelope.ts'

/**
 * Handles a chunk of messages, those of each partition in their order, inside the transaction that also records that they
 * took effect. It locks, decides in memory, and writes sets. When it throws, nothing of the chunk has happened; the
 * messages then come in smaller parts, and one that fails alone is parked.
 *
 * Messages of compacted topics can come again and late: ignore a `sequence` that is not higher than the one known.
 */
export type Handler<M = Message> = (tx: Transaction, messages: M[]) => Promise<void>

/** The events of a row of `consumes.ts`, each with the fields of its payload that the handler uses. */
export type Uses = { readonly [N in EventName]?: readonly FieldOf<N>[] }

/** The messages of such a row, of which the payload holds nothing but the declared fields. */
export type MessageOf<U extends Uses> = {
  [N in keyof U & EventName]: Message<N, NonNullable<U[N]>[number] & FieldOf<N>>
}[keyof U & EventName]

/** Which messages go first when both kinds wait for the same process. */
export type Lane = 'urgent' | 'bulk'

/** What happens to a message whose handler fails for the message's sake: it is parked with what follows of its key, and tried again. */
export interface FailurePolicy {
  /** How often it is tried in all before it is dead. */
  attempts: number
  /** Pause before the second attempt, in ms; doubled after each. */
  backoffMs: number
  maxBackoffMs: number
  /** Random part of a pause, in either direction: 0 is none, 1 is from nothing to twice the computed pause. */
  jitter: number
  /** Whether a dead message goes on blocking later messages of its key until a person decides. */
  whenDead: 'block' | 'pass'
  /** `bulk`: what can wait while urgent messages are there for the same process, such as an import of the catalogue. */
  lane: Lane
  /** Age in seconds of the oldest message not handled yet, from which on readiness is degraded and the alert fires. */
  backlogSeconds: number
}

const defaultPolicy: FailurePolicy = {
  attempts: 8,
  backoffMs: 500,
  maxBackoffMs: 60_000,
  jitter: 0.2,
  whenDead: 'block',
  lane: 'urgent',
  backlogSeconds: 300,
}

/** For messages whose type is no event that the service consumes: they do not hold back others of their key. */
export const foreignPolicy: FailurePolicy = { ...defaultPolicy, whenDead: 'pass' }

/** A row of a service's `consumes.ts`. */
export interface Consumption {
  readonly events: readonly EventName[]
  /** By event, the fields of its payload that the handler uses: what a change of the schema must keep for this service. */
  readonly uses: Readonly<Partial<Record<EventName, readonly string[]>>>
  readonly handle: Handler
  readonly policy: FailurePolicy
}

/**
 * A row of `consumes.ts`: these events go to this handler, which uses these fields of their payloads. A handler that
 * uses a field which is not declared does not compile.
 */
export function on<const U extends Uses>(
  uses: U & Record<Exclude<keyof U, EventName>, never>,
  handle: Handler<MessageOf<U>>,
  policy?: Partial<FailurePolicy>,
): Consumption {
  return {
    events: Object.keys(uses) as EventName[],
    uses,
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
