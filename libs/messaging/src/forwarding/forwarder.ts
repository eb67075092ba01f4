import { type Database, isUnavailable } from '@shopstream/database'
import type { EventName } from '@shopstream/events'
import type { Logger } from '@shopstream/observability'
import { pause, withTimeLimit } from '../async.ts'
import type { AssignedPartition, Bus, Consumer, IncomingBatch, IncomingMessage } from '../broker/bus.ts'
import { lagOf, MessageRefused, NotNow, placeOf } from '../broker/bus.ts'
import type { BlockedPartitions } from '../consumer/blocked-partitions.ts'
import { PartitionLost } from '../consumer/effects.ts'
import { type Item, readAll } from '../consumer/items.ts'
import { standBefore } from '../consumer/standing-partition.ts'
import { crashPoint } from '../crash-points.ts'
import { byEvent, type Consumption, type FailurePolicy, foreignPolicy, on, topicsOf } from '../event/consumption.ts'
import { MalformedMessage, readMessage } from '../event/envelope.ts'
import { blockedKeys, blocksAny, keyOf, type Parking, park, parkedBy } from '../parked/parked.ts'
import { type ParkedHandling, type Retrier, readParked, startRetrier } from '../parked/retrier.ts'
import { type Absence, createAbsence } from './absence.ts'
import { deliver, type Forward, type Forwarded } from './deliver.ts'

/** What became of events that a bridge has handled; `skipped` is what the receiver is not to get, `dead` can never be read. */
export type ForwardOutcome = 'forwarded' | 'skipped' | 'parked' | 'dead'

/** Hears what a forwarder does. */
export interface ForwardMeters {
  count(type: string, outcome: ForwardOutcome, events: number): void
  /** Of a topic: messages that are not handled yet, and the age in seconds of the oldest; undefined while it is not known. */
  behind(topic: string, messages: number, seconds: number | undefined): void
}

export interface ForwarderOptions {
  /** Small letters, digits and hyphens. */
  bridge: string
  /** The service that it runs in, whose database parks what is refused. */
  service: string
  events: readonly EventName[]
  forward: Forward
  /** Whether the receiver is not to get what this message brought: it is not handed to `forward`, and counts as skipped. */
  skips?(message: IncomingMessage): boolean
  policy?: Partial<FailurePolicy> | undefined
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any>
  bus: Bus
  blocked: BlockedPartitions
  logger: Logger
  meters: ForwardMeters
}

export interface Forwarder {
  /** Since when the receiver takes nothing, and why; undefined: it takes what comes. */
  away(): { since: Date; reason: string } | undefined
  /** Finishes what is in hand; what the receiver has not taken by then is handed on again after the next start. */
  close(): Promise<void>
}

/** The consumer group of a bridge. */
export const bridgeGroup = (service: string, bridge: string) => `${service}-${bridge}`

/** Messages that are read and handed on together. */
const chunkSize = 500
/** How often the distance to the end of the topics is measured, in ms. */
const measureMs = 5_000
/**
 * For so long a parked message may be on its way, in ms: its row is locked meanwhile, and Postgres ends a transaction that says
 * nothing for 5 s. One that arrives later is handed on again.
 */
const retryMs = 4_000

/** What batches share. */
interface Forwarding extends ForwarderOptions {
  consumptions: ReadonlyMap<string, Consumption>
  policy: FailurePolicy
  absence: Absence
}

/**
 * Hands the events of topics on to a receiver of another kind, by a consumer group of its own: in the order of each key, at
 * least once. Their offsets are done once the receiver has confirmed them. While it is away or full its partitions wait, and
 * Kafka keeps what comes; what it refuses for good is parked with its key, as {@link parkedBy} names it, and tried again.
 */
export function startForwarder(options: ForwarderOptions): Forwarder {
  const { service, bridge, bus, events, logger } = options
  const group = bridgeGroup(service, bridge)
  const row: Consumption = { ...on({}, async () => {}, options.policy), events } // no handler: they are handed on
  const forwarding: Forwarding = {
    ...options,
    blocked: ofBridge(bridge, options.blocked),
    consumptions: byEvent([row]),
    policy: row.policy,
    absence: createAbsence(logger),
  }
  const topics = topicsOf([row])
  const consumer = bus.consume({
    group,
    topics,
    handle: (batch, partition) => handleBatch(forwarding, batch, partition),
  })
  const retrier: Retrier = startRetrier({ ...options, group: service, handling: handlingOf(forwarding, topics) })
  const stopping = new AbortController()
  const measuring = measure(forwarding, { group, topics, consumer }, stopping.signal)
  return {
    away: forwarding.absence.now,
    async close() {
      stopping.abort()
      await Promise.all([consumer.close(), retrier.close(), measuring])
    },
  }
}

async function handleBatch(forwarding: Forwarding, batch: IncomingBatch, partition: AssignedPartition): Promise<void> {
  const { blocked, absence } = forwarding
  try {
    for (let start = 0; start < batch.messages.length; start += chunkSize) {
      const chunk = batch.messages.slice(start, start + chunkSize)
      await whileDatabaseIsAway(forwarding, partition, () => handleChunk(forwarding, chunk, partition))
      crashPoint('chunk-committed')
      partition.done((chunk.at(-1) as IncomingMessage).offset + 1n)
      blocked.free(partition)
    }
    if (batch.unreadable) await standBefore(forwarding, batch.unreadable, partition)
    else partition.done(batch.next)
  } catch (error) {
    if (!(error instanceof PartitionLost)) throw error
    absence.leave(placeOf(partition))
  }
}

/** Hands on again what was handed on before the database went away: at least once. */
async function whileDatabaseIsAway(
  { logger }: Forwarding,
  partition: AssignedPartition,
  work: () => Promise<void>,
): Promise<void> {
  for (let backoff = 100; ; backoff = Math.min(5_000, backoff * 2)) {
    try {
      return await work()
    } catch (error) {
      if (!isUnavailable(error)) throw error
      logger.warn({ err: error }, 'the database is unavailable; events are handed on again')
      await pause(backoff)
      if (partition.revoked.aborted)
        throw new PartitionLost('the partition moved while the database was unavailable', { cause: error })
    }
  }
}

async function handleChunk(
  forwarding: Forwarding,
  chunk: readonly IncomingMessage[],
  partition: AssignedPartition,
): Promise<void> {
  const { bridge, service, database, forward, skips, absence } = forwarding
  const items = await readAll(forwarding, chunk)
  if (items.length === 0) return
  const stopped = await stoppedKeys(forwarding, items)
  const { ready, unready } = sortedOut(items, stopped)
  const wanted = skips ? ready.filter(({ message }) => !skips(message)) : ready
  const refused = await deliver(forward, wanted, partition, (reason) => absence.tell(placeOf(partition), reason))
  const failed = new Map([...unready, ...[...refused].map(([{ message }, error]) => [message, error] as const)])
  const parkings = failed.size + stopped.size > 0 ? withFollowers(items, failed, stopped, forwarding.policy) : []
  crashPoint('effects-written')
  if (parkings.length > 0) {
    const named = parkings.map((one) => ({ ...one, message: parkable(bridge, one.message) }))
    await database.transaction((tx) => park(tx, service, named))
  }
  countAll(forwarding, items, parkings)
}

/** As it is parked. */
const parkable = <M extends { topic: string }>(bridge: string, message: M): M => ({
  ...message,
  topic: parkedBy(bridge, message.topic),
})

/** The keys, as {@link keyOf} gives them, of which something is parked. */
async function stoppedKeys({ bridge, database }: Forwarding, items: readonly Item[]): Promise<ReadonlySet<string>> {
  const topics = new Set(items.map(({ message }) => parkedBy(bridge, message.topic)))
  if (!(await blocksAny(database.query, [...topics]))) return new Set() // most of the time, and without a thousand texts
  const parked = await blockedKeys(
    database.query,
    items.map(({ message: { topic, key } }) => ({ topic: parkedBy(bridge, topic), key })),
  )
  if (parked.size === 0) return parked
  return new Set(
    items
      .map(({ message }) => message)
      .filter((message) => parked.has(keyOf(parkable(bridge, message))))
      .map(keyOf),
  )
}

/** What can be handed on: neither unreadable, nor behind what is parked or unreadable of its key. */
function sortedOut(items: readonly Item[], stopped: ReadonlySet<string>) {
  const waits = new Set(stopped)
  const ready: Forwarded[] = []
  const unready = new Map<IncomingMessage, unknown>()
  for (const { message, event, problem } of items) {
    if (problem !== undefined) unready.set(message, problem)
    // What can never be read tells nothing of its key; what a missing schema keeps does.
    if (problem !== undefined && !(problem instanceof MalformedMessage)) waits.add(keyOf(message))
    if (event && problem === undefined && (waits.size === 0 || !waits.has(keyOf(message))))
      ready.push({ event, message })
  }
  return { ready, unready }
}

/** What is parked: what failed, and what comes behind it in its key; each in its order. */
function withFollowers(
  items: readonly Item[],
  failed: ReadonlyMap<IncomingMessage, unknown>,
  stopped: ReadonlySet<string>,
  policy: FailurePolicy,
): Parking[] {
  const waits = new Set(stopped)
  return items.flatMap(({ message }) => {
    const problem = failed.get(message)
    const isBehind = waits.has(keyOf(message)) && !(problem instanceof MalformedMessage)
    if (problem === undefined && !isBehind) return []
    if (!(problem instanceof MalformedMessage)) waits.add(keyOf(message))
    if (problem instanceof MalformedMessage) return [{ message, policy: foreignPolicy, error: problem }]
    return [{ message, policy, error: isBehind ? undefined : problem }]
  })
}

function countAll({ meters, skips }: Forwarding, items: readonly Item[], parkings: readonly Parking[]): void {
  const parked = new Map(parkings.map(({ message, error }) => [message, error]))
  const counts = {
    forwarded: new Map<string, number>(),
    skipped: new Map<string, number>(),
    parked: new Map<string, number>(),
    dead: new Map<string, number>(),
  }
  for (const { message, event } of items) {
    const outcome = !parked.has(message)
      ? skips?.(message)
        ? 'skipped'
        : 'forwarded'
      : parked.get(message) instanceof MalformedMessage
        ? 'dead'
        : 'parked'
    const type = event?.type ?? 'unreadable'
    counts[outcome].set(type, (counts[outcome].get(type) ?? 0) + 1)
  }
  for (const [outcome, ofTypes] of Object.entries(counts))
    for (const [type, events] of ofTypes) meters.count(type, outcome as ForwardOutcome, events)
}

/** Tries what this bridge has parked again, one at a time. */
function handlingOf(forwarding: Forwarding, topics: readonly string[]): ParkedHandling {
  const { bridge, forward, skips, logger, meters, policy, absence } = forwarding
  const skipped = new WeakSet<object>()
  return {
    scope: { topics: topics.map((topic) => parkedBy(bridge, topic)) },
    policyOf: (message) => (isMalformed(message) ? foreignPolicy : policy),
    async handle(tx, message) {
      const event = await readParked(tx, message, logger)
      if (skips?.(message)) {
        skipped.add(message)
        return { message, event, outcome: 'handled' }
      }
      const forwarded = withTimeLimit(forward([{ event, message }]), retryMs, 'the receiver')
      const [error] = await forwarded.catch((thrown) => [thrown])
      if (error !== undefined && !(error instanceof MessageRefused)) {
        absence.tell('parked', error)
        throw new NotNow('the receiver is away', { cause: error })
      }
      absence.tell('parked')
      if (error) throw error
      return { message, event, outcome: 'handled' }
    },
    meters: {
      count: (tried) => {
        for (const { event, message } of tried)
          meters.count(event?.type ?? 'unreadable', skipped.has(message) ? 'skipped' : 'forwarded', 1)
      },
      failedAgain: () => {}, // its row says it
    },
  }
}

/** What can never be read holds back nothing of its key. */
function isMalformed(message: IncomingMessage): boolean {
  try {
    readMessage(message)
    return false
  } catch (error) {
    return error instanceof MalformedMessage
  }
}

/** Measures how far the group is behind, and whether the receiver is there while nothing is to be handed on, until stopped. */
async function measure(
  forwarding: Forwarding,
  { group, topics, consumer }: { group: string; topics: string[]; consumer: Consumer },
  stop: AbortSignal,
): Promise<void> {
  const { bus, meters, logger, forward, absence } = forwarding
  while (!stop.aborted) {
    // A receiver that is away is known before the first event comes.
    await forward([]).then(
      () => absence.tell('probe'),
      (error) => absence.tell('probe', error),
    )
    tellBroken(consumer, absence)
    try {
      const positions = await bus.positions(group, topics)
      const ages = await bus.agesOf(positions)
      for (const [topic, messages] of lagOf(positions)) meters.behind(topic, messages, ages.get(topic))
    } catch (error) {
      logger.debug({ err: error }, 'how far the bridge is behind cannot be measured now')
    }
    await pause(measureMs, stop)
  }
}

/** Who reads for the bridge may be what is away. One that works again after Kafka was away fails its check for 40 s more. */
function tellBroken(consumer: Consumer, absence: Absence): void {
  try {
    if (!consumer.isWorking()) consumer.check()
    absence.tell('consumer')
  } catch (error) {
    absence.tell('consumer', error)
  }
}

/** The same partition may stand still for one bridge, and not for another. */
const ofBridge = (bridge: string, blocked: BlockedPartitions): BlockedPartitions => ({
  ...blocked,
  failed: (place, ...rest) => blocked.failed({ ...place, topic: parkedBy(bridge, place.topic) }, ...rest),
  free: ({ topic, partition }) => blocked.free({ topic: parkedBy(bridge, topic), partition }),
})
