import { type Database, isUnavailable, type Transaction, tookTooLong } from '@shopstream/database'
import {
  Counter,
  childOf,
  Gauge,
  type Logger,
  parseTraceparent,
  type Registry,
  runInTrace,
} from '@shopstream/observability'
import { pause } from '../async.ts'
import {
  type AssignedPartition,
  type Bus,
  type Consumer,
  type IncomingBatch,
  type IncomingMessage,
  type Place,
  placeOf,
  type Unreadable,
} from '../broker/bus.ts'
import { crashPoint } from '../crash-points.ts'
import { type Consumption, type FailurePolicy, foreignPolicy, type Lane, topicsOf } from '../event/consumption.ts'
import {
  compactedTopics,
  MalformedMessage,
  type Message,
  readMessage,
  typeOf,
  unreadableIdOf,
} from '../event/envelope.ts'
import { forgotten, isAhead, recordInInbox } from '../inbox/inbox.ts'
import { learnMissing } from '../parked/learned-schemas.ts'
import { backoffOf, blockedKeys, describe, keyOf, type Parking, park } from '../parked/parked.ts'
import type { BlockedPartitions } from './blocked-partitions.ts'
import { createGate } from './lanes.ts'
import type { AgainConsumer } from './replicas.ts'
import { lookAgain, type MetUnreadable, meetUnreadable } from './unreadable.ts'

export interface ConsumerOptions {
  database: Database<unknown>
  bus: Bus
  group: string
  consumes: readonly Consumption[]
  consumptions: ReadonlyMap<string, Consumption>
  logger: Logger
  metrics: Registry
  blocked: BlockedPartitions
}

export interface RunningConsumer extends Consumer {
  /** When the first message of this partition that is being handled was written; undefined where none is. */
  oldestInHand(place: Place): Date | undefined
  /** See {@link AgainConsumer}. */
  handleAgain: AgainConsumer['handleAgain']
}

/** Messages of one transaction at the most. Measured: 20.9k messages/s against 0.7k with a transaction for each. */
const chunkSize = 200
/** Chunks, or parts of them, in hand at once, each with a connection of the pool's. */
const chunksAtOnce = 4
const maxBackoffMs = 5_000
/** So often, in ms, is asked whether somebody has said that what cannot be read may be stepped over. */
const decisionPauseMs = 2_000
/** The longest pause in ms until what cannot be read is fetched again: the topic may have forgotten it, or been made anew. */
const maxUnreadablePauseMs = 60_000
/** So often may a chunk run into the database's time limits (5 s without a statement, 15 s in one) before it is to blame. */
const slowLimit = 2

/** What handling a chunk needs to know of its partition. */
type Revocable = Pick<AssignedPartition, 'revoked'>

/** Messages that wait for their turn. */
interface Chunk {
  messages: IncomingMessage[]
  partition: Revocable
  /** For whoever has the turn to tell what came of it together with others. */
  together: PromiseWithResolvers<Together>
}

type Together = 'done' | 'failed' | 'untried'

/** That a producer's clock is ahead is told so often at the most. */
const tellAheadEveryMs = 600_000

/** A message that concerns this service: read, or with the reason why it could not be. */
interface Item {
  message: IncomingMessage
  event?: Message
  consumption?: Consumption
  problem?: unknown
  policy: FailurePolicy
}

/**
 * Consumes the topics of a service's rows: a chunk is one transaction that holds the inbox rows and all effects, and
 * its offsets are done after the commit. Trouble of the database is waited out; a message that fails by itself is
 * parked with its key while the partition moves on. Nothing a handler throws can end the consumer.
 *
 * Urgent chunks go before bulk ones. A client may ask a broker for more only when all that it sent last is handled (KafkaJS), so
 * a bulk partition gives the rest of its batch back after one chunk, to be fetched again: an urgent message that arrives
 * meanwhile waits for the chunks in hand, one of each bulk partition at the most, and not for megabytes.
 */
export function startConsumer(options: ConsumerOptions): RunningConsumer {
  const { database, bus, group, consumes, consumptions, logger, blocked } = options
  const count = createCounter(options.metrics)
  const inFlight = createBytesGauge(options.metrics)
  const gate = createGate<Chunk | undefined>(chunksAtOnce, asOne)
  const hasBothLanes = new Set(consumes.map(({ policy }) => policy.lane)).size > 1
  /** By partition, how often the handling that began at an offset has run into a time limit of the database. */
  const slow = new Map<string, { offset: bigint; times: number }>()
  let tellAheadFrom = Number.NEGATIVE_INFINITY
  /** By partition, when the first message that is in hand was written. */
  const held = new Map<string, Date>()

  async function handleBatch(batch: IncomingBatch, partition: AssignedPartition): Promise<void> {
    const bytes = sizeOf(batch)
    inFlight.inc(bytes)
    try {
      if (!(await handleChunks(batch, partition))) return
      if (batch.unreadable) await standBefore(batch.unreadable, partition)
      else partition.done(batch.next) // behind what no consumer sees
    } finally {
      held.delete(placeOf(partition))
      inFlight.dec(bytes)
    }
  }

  /** False when the rest comes again, or is another's. */
  async function handleChunks(batch: IncomingBatch, partition: AssignedPartition): Promise<boolean> {
    for (let start = 0; start < batch.messages.length; start += chunkSize) {
      const chunk = batch.messages.slice(start, start + chunkSize)
      const lanes = lanesOf(chunk)
      const lane = lanes.has('urgent') ? 'urgent' : 'bulk'
      if (chunk[0]?.timestamp) held.set(placeOf(partition), chunk[0].timestamp)
      try {
        await handleChunk(chunk, lane, partition)
      } catch (error) {
        if (error instanceof PartitionLost) return false
        if (!(error instanceof StandsStill)) throw error
        standStill(chunk, error, partition)
        return false
      }
      crashPoint('chunk-committed')
      const isLast = start + chunkSize >= batch.messages.length
      partition.done((chunk.at(-1) as IncomingMessage).offset + 1n)
      crashPoint('offset-resolved')
      blocked.free(partition)
      if (lane === 'bulk' && lanes.has('bulk') && hasBothLanes && !isLast) return false
    }
    return true
  }

  /** What came before the message is done; it and all after it come again after a while. */
  function standStill(chunk: IncomingMessage[], { item, cause }: StandsStill, partition: AssignedPartition): void {
    const before = chunk[chunk.indexOf(item.message) - 1]
    if (before) partition.done(before.offset + 1n)
    const { attempts, pauseMs } = blocked.failed(item.message, cause, (count) => backoffOf(count, item.policy))
    const { topic, offset } = item.message
    logger.error(
      {
        err: cause,
        topic,
        partition: partition.partition,
        offset: String(offset),
        type: typeOf(item.message.headers),
        attempts,
        pauseMs,
      },
      'a partition stands still until this message is handled',
    )
    holdBack(partition, pauseMs)
  }

  /**
   * Nothing of the partition is handled until a person has said that this may be stepped over. It is kept in the database,
   * where that person finds it, bytes and all.
   */
  async function standBefore(found: Unreadable, partition: AssignedPartition): Promise<void> {
    const { topic, firstOffset, lastOffset, reason } = found
    const noted = await meetUnreadable(database, found).catch((error) => {
      logger.warn({ err: error }, 'what cannot be read could not be noted')
      return undefined
    })
    const where = {
      topic,
      partition: partition.partition,
      firstOffset: String(firstOffset),
      lastOffset: String(lastOffset),
    }
    if (noted?.isSteppedOver) {
      logger.warn(where, 'what cannot be read is stepped over, as somebody has decided')
      partition.done(lastOffset + 1n)
      blocked.free(partition)
      return
    }
    const problem = new Error(`offsets ${firstOffset} to ${lastOffset} cannot be read: ${reason}`)
    const { attempts, pauseMs } = blocked.failed(
      { topic, partition: partition.partition, offset: firstOffset },
      problem,
      (times) => Math.min(maxUnreadablePauseMs, decisionPauseMs * 2 ** Math.min(times - 1, 10)),
    )
    if (attempts === 1)
      logger.error({ ...where, reason }, 'a partition stands still: what comes next in it cannot be read')
    partition.pause()
    void awaitDecision(noted?.met, pauseMs, partition)
  }

  /**
   * Lets a partition go on when what it stands before may be stepped over, and after `ms` milliseconds at the latest. Only
   * then is it fetched and unpacked again: up to 16 MiB every two seconds had each service collect garbage all the time.
   */
  async function awaitDecision(
    met: MetUnreadable | undefined,
    ms: number,
    partition: AssignedPartition,
  ): Promise<void> {
    const until = performance.now() + ms
    while (performance.now() < until && !partition.revoked.aborted) {
      await pause(decisionPauseMs, partition.revoked)
      if (!met || partition.revoked.aborted) break
      const isSteppedOver = await lookAgain(database, met).catch((error) => {
        logger.warn({ err: error }, 'whether somebody has decided cannot be looked up now')
        return false
      })
      if (isSteppedOver !== false) break
    }
    partition.resume()
  }

  /** As bulk: urgent chunks go first. */
  async function handleAgain(messages: IncomingMessage[], revoked: AbortSignal): Promise<void> {
    for (let start = 0; start < messages.length; start += chunkSize)
      await handleChunk(messages.slice(start, start + chunkSize), 'bulk', { revoked })
  }

  async function inTurn<R>(lane: Lane, work: () => Promise<R>): Promise<R> {
    const turn = await gate.enter(lane, undefined)
    try {
      return await work()
    } finally {
      turn?.leave()
    }
  }

  async function handleChunk(messages: IncomingMessage[], lane: Lane, partition: Revocable): Promise<void> {
    const chunk = { messages, partition, together: Promise.withResolvers<Together>() }
    const tried = await tryWithOthers(chunk, lane)
    if (tried === 'done') return
    const { items, failure } = tried
    if (failure === undefined) return
    const { topic, partition: number } = messages[0] as IncomingMessage
    logger.warn(
      { err: failure, topic, partition: number, messages: items.length },
      'a chunk failed; its messages come in smaller parts',
    )
    await handleInParts(items, failure, lane, partition)
  }

  /**
   * Chunks of several partitions that wait for a turn take effect in one transaction, which costs as much for six as for one.
   * What fails together is tried alone, so nothing is parked or stands still for another's sake; also where its partition has
   * moved meanwhile: what computes for so long that it loses its partition would never be tried alone, and never be parked.
   */
  async function tryWithOthers(chunk: Chunk, lane: Lane) {
    const turn = await gate.enter(lane, chunk)
    if (!turn) {
      const outcome = await chunk.together.promise
      return outcome === 'done' ? outcome : inTurn(lane, () => tryAlone(chunk, outcome))
    }
    try {
      const chunks = turn.pieces.filter((one) => one !== undefined)
      const outcome = chunks.length > 1 ? await takeEffect(chunks) : 'untried'
      for (const { together } of chunks) together.resolve(outcome)
      return outcome === 'done' ? outcome : await tryAlone(chunk, outcome)
    } finally {
      turn.leave()
    }
  }

  /** One attempt, which fails for whatever reason; none where one of the partitions has moved. */
  async function takeEffect(chunks: readonly Chunk[]): Promise<Together> {
    try {
      if (chunks.some(({ partition }) => partition.revoked.aborted)) return 'untried'
      crashPoint('chunk-received')
      const items = await readAll(chunks.flatMap(({ messages }) => messages))
      if (items.length > 0) await handleOnce(items)
      return 'done'
    } catch (error) {
      logger.debug({ err: error, chunks: chunks.length }, 'chunks failed together; each is tried alone')
      return 'failed'
    }
  }

  async function tryAlone(
    { messages, partition }: Chunk,
    before: Together,
  ): Promise<{ items: Item[]; failure: unknown }> {
    if (before === 'untried' && partition.revoked.aborted)
      throw new PartitionLost('the partition moved while it waited for its turn')
    crashPoint('chunk-received')
    const items = await readAll(messages)
    return { items, failure: await failureOf(items, partition) }
  }

  /** What they fail with when they are handled together. Whatever was thrown, `undefined` included, becomes an error. */
  async function failureOf(items: readonly Item[], partition: Revocable): Promise<unknown> {
    try {
      if (items.length > 0) await handleItems(items, partition)
      return undefined
    } catch (error) {
      if (error instanceof PartitionLost) throw error
      return error ?? new Error('the handler threw nothing')
    }
  }

  /**
   * Handles in order what failed together: half as many at once after each failure, down to one, which is parked, and twice
   * as many after each success. One bad message of 200 costs some 20 transactions in place of 200, and 200 bad ones no more
   * than two each, between which others get their turn. What takes too long costs seconds each time: that is found one by one,
   * and parked although the partition has gone to another member meanwhile, which would lose it in the same way.
   */
  async function handleInParts(
    items: readonly Item[],
    failure: unknown,
    lane: Lane,
    partition: Revocable,
  ): Promise<void> {
    const parked: Item[] = []
    let most = isUnavailable(failure) ? 1 : Math.ceil(items.length / 2)
    try {
      for (let at = 0, size = most; at < items.length; ) {
        const part = items.slice(at, at + Math.min(size, most))
        if (most > 1 && partition.revoked.aborted) throw new PartitionLost('the partition moved between two parts')
        const problem = await inTurn(lane, () => failureOf(part, partition))
        if (isUnavailable(problem)) most = 1
        if (problem !== undefined && part.length > 1) {
          size = Math.ceil(part.length / 2)
          continue
        }
        const [item] = part
        if (problem !== undefined && item) parked.push(await inTurn(lane, () => parkOne(item, problem, partition)))
        at += part.length
        size = problem === undefined ? 2 * part.length : 1
      }
    } finally {
      tellFailed(parked)
    }
  }

  async function parkOne(item: Item, problem: unknown, assigned: Revocable): Promise<Item> {
    if (mayBlock(item.policy, problem)) throw new StandsStill(item, problem)
    const failed = { ...item, problem }
    try {
      await handleItems([failed], assigned)
    } catch (refused) {
      if (refused instanceof PartitionLost) throw refused
      // Something of the message cannot even be stored: its bytes alone are kept, so that the partition moves on.
      const { topic, partition, offset } = item.message
      logger.error(
        { err: refused, topic, partition, offset: String(offset) },
        'a message is parked without key and headers',
      )
      const message = { ...item.message, key: null, headers: {} }
      await handleItems([{ message, policy: item.policy, problem: new MalformedMessage(String(refused)) }], assigned)
    }
    return failed
  }

  /** One transaction, retried for as long as the database is unavailable and the partition is this member's. */
  async function handleItems(items: readonly Item[], partition: Revocable): Promise<void> {
    for (let backoff = 100; ; backoff = Math.min(maxBackoffMs, backoff * 2)) {
      let begun = Number.POSITIVE_INFINITY
      try {
        await handleOnce(items, () => {
          begun = performance.now()
        })
        return
      } catch (error) {
        if (!isUnavailable(error) || isTooSlow(error, performance.now() - begun, items)) throw error
        logger.warn({ err: error }, 'the database is unavailable; the chunk is tried again')
        await pause(backoff)
        if (partition.revoked.aborted)
          throw new PartitionLost('the partition moved while the database was unavailable', { cause: error })
      }
    }
  }

  async function handleOnce(items: readonly Item[], begins = () => {}): Promise<void> {
    const { handled, parked } = await database.transaction((tx) => {
      begins()
      return handleTogether(tx, items)
    })
    count(handled, 'handled')
    count(parked, 'parked')
    tellDead(parked)
    tellAhead(items)
  }

  /** One line for a chunk: whoever writes what a handler refuses may write much of it. */
  function tellFailed(parked: readonly Item[]): void {
    const [first] = parked
    if (!first) return
    const { topic, partition, offset } = first.message
    const where = { topic, partition, offset: String(offset), type: first.event?.type, messages: parked.length }
    logger.error({ err: first.problem, ...where }, 'messages failed and are parked; this is the first of them')
  }

  /** One line for a chunk: a foreign producer may write many. */
  function tellDead(parked: readonly Item[]): void {
    const dead = parked.filter(({ problem }) => problem instanceof MalformedMessage)
    const [first] = dead
    if (!first) return
    const { topic, partition, offset } = first.message
    const where = { topic, partition, offset: String(offset), messages: dead.length }
    logger.warn({ ...where, reason: describe(first.problem) }, 'messages that can never be read are parked as dead')
  }

  /** It harms nothing here, but whoever wrote it should know. */
  function tellAhead(items: readonly Item[]): void {
    const now = Date.now()
    const ahead = items.find(({ event }) => event && isAhead(event.id, now))
    if (!ahead || performance.now() < tellAheadFrom) return
    tellAheadFrom = performance.now() + tellAheadEveryMs
    const { topic, partition, offset, headers } = ahead.message
    const source = headers.ce_source?.toString()
    logger.warn(
      { topic, partition, offset: String(offset), source },
      'an event was made by a clock that is more than a day ahead of this one',
    )
  }

  /**
   * Whether the work itself is what takes too long. Counted by offset and beyond a rebalance: a handler that computes for
   * longer than the session lasts has lost its partition each time, and would block it for ever.
   */
  function isTooSlow(error: unknown, lastedMs: number, items: readonly Item[]): boolean {
    const [first] = items
    if (!first || !tookTooLong(error, lastedMs) || items.every(({ problem }) => problem !== undefined)) return false
    const { topic, partition, offset } = first.message
    const place = placeOf({ topic, partition })
    const before = slow.get(place)
    const times = before?.offset === offset ? before.times + 1 : 1
    slow.set(place, { offset, times })
    return times >= slowLimit
  }

  /** What is new takes effect or is parked, in order. */
  async function handleTogether(tx: Transaction, items: readonly Item[]): Promise<{ handled: Item[]; parked: Item[] }> {
    const fresh = await withoutRepeats(tx, items)
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
      if (!waits && mayBlock(policy, problem)) throw problem
      parked.push(item)
      if (message.key !== null) waiting.add(keyOf(message))
      const untried = waits && !(problem instanceof MalformedMessage)
      parkings.push({ message, policy, error: untried ? undefined : problem })
    }
    // Parked and handled messages have no key in common that matters: an earlier one of a parked key was handled before it.
    await handleRuns(tx, handled)
    if (handled.length > 0) crashPoint('effects-written')
    await park(tx, group, parkings)
    return { handled, parked }
  }

  /** None where all is what others write that is no event of ours: that can wait, but is quickly done with. */
  function lanesOf(chunk: readonly IncomingMessage[]): Set<Lane | undefined> {
    return new Set(chunk.map(({ headers }) => consumptions.get(typeOf(headers) ?? '')?.policy.lane))
  }

  function concernsUs(headers: IncomingMessage['headers']): boolean {
    const type = typeOf(headers)
    return type === undefined || consumptions.has(type)
  }

  const consumer = bus.consume({ group, topics: topicsOf(consumes), handle: handleBatch })
  return { ...consumer, oldestInHand: (place) => held.get(placeOf(place)), handleAgain }

  /** Looks for a newer writer's schema among those that have arrived; a message whose schema has not is parked. */
  async function readAll(all: readonly IncomingMessage[]): Promise<Item[]> {
    const messages = all.filter(({ headers }) => concernsUs(headers))
    const items = messages.flatMap(toItem)
    const problems = items.map(({ problem }) => problem)
    const hasLearned = await learnMissing(database.query, problems, logger).catch((error) => {
      logger.warn({ err: error }, 'schemas cannot be looked up now')
      return false
    })
    return hasLearned ? messages.flatMap(toItem) : items
  }

  function toItem(message: IncomingMessage): Item[] {
    const consumption = consumptions.get(typeOf(message.headers) ?? '')
    const compacted = compactedTopics.has(message.topic)
    if (message.value === null && compacted) return [] // a tombstone: compaction forgets the key, replicas are told by an event
    const policy = consumption?.policy ?? foreignPolicy
    try {
      if (message.problem !== undefined) throw new MalformedMessage(message.problem)
      if (!consumption) throw new MalformedMessage('header ce_type is missing')
      return [{ message, event: readMessage(message), consumption, policy }]
    } catch (problem) {
      return [{ message, problem, policy }]
    }
  }
}

/** Whether a message that failed with this keeps its partition from moving on. */
const mayBlock = (policy: FailurePolicy, problem: unknown) =>
  policy.onFailure === 'block' && !(problem instanceof MalformedMessage)

/** A message failed that must not be skipped. */
class StandsStill extends Error {
  readonly item: Item

  constructor(item: Item, cause: unknown) {
    super('a message failed that must not be skipped', { cause })
    this.item = item
  }
}

/** The partition is not this member's any more; what is left of the batch belongs to another. */
class PartitionLost extends Error {}

/**
 * Drops what took effect before: by event id on topics that delete, within the transaction. One of which nobody can know
 * whether it did is given a problem. Compacted topics need no inbox, their handlers ignore old sequences. A message without a
 * readable id is known by its offset where it is parked.
 */
async function withoutRepeats(tx: Transaction, items: readonly Item[]): Promise<Item[]> {
  const needInbox = items.filter(({ message }) => !compactedTopics.has(message.topic))
  const identified = needInbox.flatMap((item) => {
    const id = inboxIdOf(item)
    return id === undefined ? [] : [{ id, message: item.message }]
  })
  const recorded = await recordInInbox(tx, identified)
  return items.flatMap((item) => {
    const id = inboxIdOf(item)
    if (id === undefined || compactedTopics.has(item.message.topic)) return [item]
    if (recorded.forgotten.has(id)) return [{ ...item, problem: new MalformedMessage(forgotten) }]
    return recorded.fresh.delete(id) ? [item] : [] // once, if it stands twice in the chunk
  })
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

async function handleRuns(tx: Transaction, items: readonly Item[]): Promise<void> {
  for (const { handle, events } of consecutive(items)) {
    const only = events.length === 1 ? events[0]?.traceparent : undefined
    await runInTrace(childOf(parseTraceparent(only)), () => handle(tx, events))
  }
}

/** How many of the chunks that wait are handled as one: what is tried again in parts goes alone. */
function asOne(waiting: readonly (Chunk | undefined)[]): number {
  let messages = 0
  const end = waiting.findIndex((chunk) => {
    messages += chunk?.messages.length ?? Number.POSITIVE_INFINITY
    return messages > chunkSize
  })
  return Math.max(1, end === -1 ? waiting.length : end)
}

/** The partition gives nothing for `ms` milliseconds. */
function holdBack(partition: AssignedPartition, ms: number): void {
  partition.pause()
  setTimeout(() => partition.resume(), ms).unref()
}

/** Bytes of keys, values and headers. */
function sizeOf({ messages }: IncomingBatch): number {
  const ofHeaders = (headers: IncomingMessage['headers']) =>
    Object.entries(headers).reduce((sum, [name, value]) => sum + name.length + (value?.length ?? 0), 0)
  return messages.reduce(
    (sum, { key, value, headers }) => sum + (key?.length ?? 0) + (value?.length ?? 0) + ofHeaders(headers),
    0,
  )
}

function createBytesGauge(registry: Registry): Gauge {
  return new Gauge({
    name: 'shopstream_consumer_bytes_in_flight',
    help: 'Bytes of messages that were fetched and are not handled yet.',
    registers: [registry],
  })
}

function createCounter(registry: Registry) {
  const events = new Counter({
    name: 'shopstream_events_consumed_total',
    help: 'Events by what became of them: handled, or parked.',
    labelNames: ['topic', 'type', 'outcome'],
    registers: [registry],
  })
  return (items: readonly Item[], outcome: 'handled' | 'parked') => {
    for (const { message, event } of items)
      events.inc({ topic: message.topic, type: event?.type ?? 'unreadable', outcome })
  }
}
