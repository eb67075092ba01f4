import { pause } from '../async.ts'
import { type IncomingMessage, MessageRefused } from '../broker/bus.ts'
import { PartitionLost, type Revocable } from '../consumer/effects.ts'
import type { Message } from '../event/envelope.ts'

/** An event on its way to something that is no topic, with the message that brought it. */
export interface Forwarded {
  event: Message
  message: IncomingMessage
}

/**
 * Hands events on. Returns for each: undefined, it is there; {@link MessageRefused}, it is never taken; any other error,
 * not now. Throws when nothing is taken now. Of a key it never gets two at once; it gets none to see whether the receiver is there.
 */
export type Forward = (events: readonly Forwarded[]) => Promise<readonly (Error | undefined)[]>

/** Hears how the receiver is: with the reason while it takes nothing, without one when it takes something again. */
export type TellAway = (reason?: unknown) => void

/** Pauses while the receiver takes nothing, in ms. */
const awayMs = { first: 250, longest: 10_000 }

/**
 * Hands events on in the order of each key, and returns those that are refused for good. What follows one of these in its key
 * is not handed on. Waits while the receiver is away or full, for as long as it takes; throws {@link PartitionLost} when the
 * partition moves meanwhile.
 */
export async function deliver(
  forward: Forward,
  events: readonly Forwarded[],
  partition: Revocable,
  tellAway: TellAway,
): Promise<Map<Forwarded, Error>> {
  const refused = new Map<Forwarded, Error>()
  const stopped = new Set<string>()
  let left = events
  while (left.length > 0) {
    if (partition.revoked.aborted) throw new PartitionLost('the partition moved between two events of a key')
    const { wave, later } = firstOfEachKey(left)
    for (const [one, error] of await untilTaken(forward, wave, partition, tellAway)) {
      refused.set(one, error)
      stopped.add(one.event.key)
    }
    left = later.filter(({ event }) => !stopped.has(event.key))
  }
  return refused
}

/**
 * A receiver may take the second of two that are sent together and not the first, such as a queue that was full in between.
 * So the next of a key is sent when the one before it is there.
 */
function firstOfEachKey(events: readonly Forwarded[]) {
  const keys = new Set<string>()
  const wave: Forwarded[] = []
  const later: Forwarded[] = []
  for (const one of events) {
    if (keys.has(one.event.key)) later.push(one)
    else wave.push(one)
    keys.add(one.event.key)
  }
  return { wave, later }
}

/** Sends until each is there, or refused for good; returns the latter. */
async function untilTaken(
  forward: Forward,
  wave: readonly Forwarded[],
  partition: Revocable,
  tellAway: TellAway,
): Promise<[Forwarded, Error][]> {
  const refused: [Forwarded, Error][] = []
  let left = wave
  for (let pauseMs = awayMs.first; ; pauseMs = Math.min(awayMs.longest, 2 * pauseMs)) {
    const results = await forward(left).catch((error): Error[] => left.map(() => asError(error)))
    if (results.length !== left.length) throw new Error(`of ${left.length} events ${results.length} have a result`)
    for (const [i, one] of left.entries()) {
      const error = results[i]
      if (error instanceof MessageRefused) refused.push([one, error])
    }
    const again = left.filter((_, i) => results[i] !== undefined && !(results[i] instanceof MessageRefused))
    if (again.length < left.length) {
      pauseMs = awayMs.first
      tellAway()
    }
    if (again.length === 0) return refused
    tellAway(results.find((error) => error !== undefined && !(error instanceof MessageRefused)))
    await pause(pauseMs, partition.revoked)
    if (partition.revoked.aborted) throw new PartitionLost('the partition moved while the receiver was away')
    left = again
  }
}

const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)))
