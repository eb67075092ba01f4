import { isUnavailable, type Transaction, tookTooLong } from '@shopstream/database'
import { pause } from '../async.ts'
import { type AssignedPartition, placeOf } from '../broker/bus.ts'
import { crashPoint } from '../crash-points.ts'
import type { Consumption } from '../event/consumption.ts'
import { compactedTopics, MalformedMessage, type Message, unreadableIdOf } from '../event/envelope.ts'
import type { ConsumptionMeters } from '../event/meters.ts'
import { inTrace } from '../event/tracing.ts'
import { forgotten, isAhead, recordInInbox } from '../inbox/inbox.ts'
import { blockedKeys, describe, keyOf, type Parking, park } from '../parked/parked.ts'
import type { Item, Reading } from './items.ts'

const maxBackoffMs = 5_000
/** A chunk may run into the database's time limits (5 s without a statement, 15 s in one) this often before it is to blame. */
const slowLimit = 2
/** How often, at most, a producer's clock that is ahead is logged, in ms. */
const tellAheadEveryMs = 600_000

/** What handling needs to know of the partition of its messages. */
export type Revocable = Pick<AssignedPartition, 'revoked'>

/** The partition is not this member's any more; what is left of the batch belongs to another. */
export class PartitionLost extends Error {}

/** What transactions of a consumer share. */
export interface Effects extends Reading {
  group: string
  meters: ConsumptionMeters
  /** By partition, how often the handling that began at an offset has run into a time limit of the database. */
  slow: Map<string, { offset: bigint; times: number }>
  /** No clock that is ahead is logged before this time, by performance.now(). */
  tellAheadFrom: number
}

export const effectsOf = (reading: Reading & Pick<Effects, 'group' | 'meters'>): Effects => ({
  ...reading,
  slow: new Map(),
  tellAheadFrom: Number.NEGATIVE_INFINITY,
})

/** What they fail with when they are handled together. Whatever was thrown, `undefined` included, becomes an error. */
export async function failureOf(effects: Effects, items: readonly Item[], partition: Revocable): Promise<unknown> {
  try {
    if (items.length > 0) await handleItems(effects, items, partition)
    return undefined
  } catch (error) {
    if (error instanceof PartitionLost) throw error
    return error ?? new Error('the handler threw nothing')
  }
}

/** One transaction, retried for as long as the database is unavailable and the partition is this member's. */
export async function handleItems(effects: Effects, items: readonly Item[], partition: Revocable): Promise<void> {
  for (let backoff = 100; ; backoff = Math.min(maxBackoffMs, backoff * 2)) {
    let begun = Number.POSITIVE_INFINITY
    try {
      await handleOnce(effects, items, () => {
        begun = performance.now()
      })
      return
    } catch (error) {
      if (!isUnavailable(error) || isTooSlow(effects, error, performance.now() - begun, items)) throw error
      effects.logger.warn({ err: error }, 'the database is unavailable; the chunk is tried again')
      await pause(backoff)
      if (partition.revoked.aborted)
        throw new PartitionLost('the partition moved while the database was unavailable', { cause: error })
    }
  }
}

/** One transaction of inbox rows, effects and parked messages. */
export async function handleOnce(effects: Effects, items: readonly Item[], begins = () => {}): Promise<void> {
  const { handled, repeated, parked } = await effects.database.transaction((tx) => {
    begins()
    return handleTogether(effects, tx, items)
  })
  const { meters } = effects
  meters.count(handled, 'handled')
  meters.count(repeated, 'repeated')
  for (const item of parked) meters.count([item], item.problem instanceof MalformedMessage ? 'dead' : 'parked')
  tellDead(effects, parked)
  tellAhead(effects, items)
}

/** What is new takes effect or is parked, in order. */
async function handleTogether(effects: Effects, tx: Transaction, items: readonly Item[]) {
  const { fresh, repeated } = await withoutRepeats(tx, items)
  crashPoint('inbox-written')
  const readable = fresh.filter(({ problem }) => !(problem instanceof MalformedMessage)) // the others wait for nobody
  const waiting = await blockedKeys(
    tx,
    readable.map(({ message }) => message),
  )
  const handled: Item[] = []
  const parked: Item[] = []
  const parkings: Parking[] = []
  for (const item of fresh) {
    const { message, policy, problem } = item
    const waits = waiting.has(keyOf(message))
    if (!waits && problem === undefined) {
      handled.push(item)
      continue
    }
    parked.push(item)
    if (message.key !== null) waiting.add(keyOf(message))
    const untried = waits && !(problem instanceof MalformedMessage)
    parkings.push({ message, policy, error: untried ? undefined : problem })
  }
  // The order of these two does not matter: an earlier message of a parked key has been handled before that one.
  await handleRuns(effects, tx, handled)
  if (handled.length > 0) crashPoint('effects-written')
  await park(tx, effects.group, parkings)
  return { handled, repeated, parked }
}

/**
 * Whether the work itself takes too long. It is counted by offset and across rebalances: a handler that computes for
 * longer than a session loses its partition each time, and would block it for ever.
 */
function isTooSlow({ slow }: Effects, error: unknown, lastedMs: number, items: readonly Item[]): boolean {
  const [first] = items
  if (!first || !tookTooLong(error, lastedMs) || items.every(({ problem }) => problem !== undefined)) return false
  const { topic, partition, offset } = first.message
  const place = placeOf({ topic, partition })
  const before = slow.get(place)
  const times = before?.offset === offset ? before.times + 1 : 1
  slow.set(place, { offset, times })
  return times >= slowLimit
}

/** One line for a chunk: a foreign producer may write many. */
function tellDead({ logger }: Effects, parked: readonly Item[]): void {
  const dead = parked.filter(({ problem }) => problem instanceof MalformedMessage)
  const [first] = dead
  if (!first) return
  const { topic, partition, offset } = first.message
  const where = { topic, partition, offset: String(offset), messages: dead.length }
  logger.warn({ ...where, reason: describe(first.problem) }, 'messages that can never be read are parked as dead')
}

/** It harms nothing here, but whoever wrote it should know. */
function tellAhead(effects: Effects, items: readonly Item[]): void {
  const now = Date.now()
  const ahead = items.find(({ event }) => event && isAhead(event.id, now))
  if (!ahead || performance.now() < effects.tellAheadFrom) return
  effects.tellAheadFrom = performance.now() + tellAheadEveryMs
  const { topic, partition, offset, headers } = ahead.message
  const source = headers.ce_source?.toString()
  effects.logger.warn(
    { topic, partition, offset: String(offset), source },
    'an event was made by a clock that is more than a day ahead of this one',
  )
}

/**
 * Sets messages apart that took effect before, within the transaction: by event id on topics that delete. A message that the
 * inbox may have forgotten gets a problem. Compacted topics need no inbox, their handlers ignore old sequences. A
 * message without a readable id is recognised by its offset where it is parked.
 */
async function withoutRepeats(tx: Transaction, items: readonly Item[]) {
  const needInbox = items.filter(({ message }) => !compactedTopics.has(message.topic))
  const identified = needInbox.flatMap((item) => {
    const id = inboxIdOf(item)
    return id === undefined ? [] : [{ id, message: item.message }]
  })
  const recorded = await recordInInbox(tx, identified)
  const repeated: Item[] = []
  const fresh = items.flatMap((item) => {
    const id = inboxIdOf(item)
    if (id === undefined || compactedTopics.has(item.message.topic)) return [item]
    if (recorded.forgotten.has(id)) return [{ ...item, problem: new MalformedMessage(forgotten) }]
    if (recorded.fresh.delete(id)) return [item] // once, if it stands twice in the chunk
    repeated.push(item)
    return []
  })
  return { fresh, repeated }
}

const inboxIdOf = ({ message, event }: Item) => (event ? event.id : unreadableIdOf(message))

interface Run {
  handle: Consumption['handle']
  events: Message[]
}

/** Splits into runs of messages that go to the same handler, keeping their order. */
function consecutive(items: readonly Item[]): Run[] {
  const runs: Run[] = []
  for (const { event, consumption } of items) {
    if (!event || !consumption) continue // those were parked
    const last = runs.at(-1)
    if (last?.handle === consumption.handle) last.events.push(event)
    else runs.push({ handle: consumption.handle, events: [event] })
  }
  return runs
}

async function handleRuns({ meters }: Effects, tx: Transaction, items: readonly Item[]): Promise<void> {
  for (const { handle, events } of consecutive(items)) {
    const stop = meters.handling(events[0]?.type ?? '', events.length)
    await inTrace(events, (traced) => handle(tx, traced)).finally(stop)
  }
}
