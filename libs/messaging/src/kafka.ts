/// <reference path="./kafkajs-internals.d.ts" />

import { createHash } from 'node:crypto'
import type { Topic } from '@shopstream/events'
import { Counter, Gauge, type Logger, type Registry } from '@shopstream/observability'
import kafkajs, {
  type Admin,
  type EachBatchPayload,
  type Kafka,
  type Consumer as KafkaConsumer,
  type KafkaMessage,
  type LogEntry,
  type Producer,
} from 'kafkajs'
import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'
import { pause, withTimeLimit } from './async.ts'
import {
  type Bus,
  type Consumer,
  GroupHasMembers,
  type IncomingBatch,
  type IncomingMessage,
  MessageRefused,
  type OutgoingMessage,
  oddKey,
  type PartitionPosition,
} from './bus.ts'
import { ageOfBacklog, offsetsAt, read } from './kafka-read.ts'
import { commitOffsets } from './kafka-rewind.ts'

export interface KafkaOptions {
  brokers: string[]
  /** Put before each topic and group name, so that several deployments can share a cluster. */
  topicPrefix: string
  clientId: string
  logger: Logger
  /** Where its consumers tell how they are; commands have none. */
  metrics?: Registry
}

// KafkaJS 2.2.4 rearms this timer without end, also when nothing waits, with a negative delay that Node 24 makes 1 ms:
// 3.9 CPU seconds a minute for an idle process. It has work only while requests are pending.
const checkWhilePending = RequestQueue.prototype.scheduleCheckPendingRequests
RequestQueue.prototype.scheduleCheckPendingRequests = function (this: { pending: unknown[] }) {
  if (this.pending.length > 0) checkWhilePending.call(this)
}

/** Errors by which a broker says that it will never take a record as it is. A wrong clock (INVALID_TIMESTAMP) is put right some day. */
const refusals = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD', 'POLICY_VIOLATION'])

/**
 * What a consumer holds of each broker's messages at the most, in bytes (and one batch of records, if that is larger).
 * KafkaJS 2.2.4 asks a broker for more only once everything of its last answer has been handled, so a consumer whose
 * database is away stops here: nothing else has to be paused.
 */
export const maxBytesInFlight = 8_388_608
/** Partitions handled side by side: all that an answer can hold. How many work at once is for whoever handles them. */
const partitionsAtOnce = 100

/** A consumer that has fetched nothing for so long, while handling nothing, hangs and is built anew; in ms. */
const stallLimit = 30_000
/**
 * How old a client's idea of who leads which partition may be when it is used, in ms. KafkaJS asks anew when a connection
 * breaks, but not when a broker falls silent (frozen, cut off): with its default of 5 min a frozen broker of three stopped
 * every relay for so long, though its partitions had new leaders after 4 s.
 */
const metadataMaxAge = 5_000
const checkEvery = 2_000
const checkLimit = 7_000

/** The Kafka adapter of {@link Bus}. Connects in the background and stays with it; never throws for an absent broker. */
export function createKafkaBus({ brokers, topicPrefix, clientId, logger, metrics }: KafkaOptions): Bus {
  const kafka = new kafkajs.Kafka({
    clientId,
    brokers,
    connectionTimeout: 3_000,
    requestTimeout: 15_000,
    retry: { initialRetryTime: 100, maxRetryTime: 3_000, retries: 5 },
    logLevel: kafkajs.logLevel.WARN,
    logCreator: () => (entry) => logEntry(logger, entry),
  })
  const wireName = (name: string) => topicPrefix + name
  const ownName = (name: string) => name.slice(topicPrefix.length)
  const closing = new AbortController()
  const admin = connectedOnce(() => kafka.admin())
  const producer = connectedOnce(() =>
    kafka.producer({
      // Every message brings its partition; idempotence drops batches after a leader change (see reliability.md).
      createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
      idempotent: false,
      allowAutoTopicCreation: false,
      metadataMaxAge,
    }),
  )
  const meters = metrics && createMeters(metrics)
  const pulse = watchBroker(admin, logger, closing.signal)

  return {
    async publish(messages) {
      if (messages.length === 0) return []
      const sent = await sendBatch(await producer.get(), messages, wireName).catch((error) => {
        if (!(error instanceof MessageRefused)) producer.renew()
        throw error
      })
      return messages.filter((message) => sent.has(`${wireName(message.topic)}/${message.partition}`))
    },
    consume: ({ group, topics, handle }) =>
      keepConsuming({
        kafka,
        group: wireName(group),
        topics: topics.map(wireName),
        logger,
        ...(meters && { meters }),
        handle: (payload) => handle(toBatch(payload, ownName)),
      }),
    async positions(group, topics) {
      const client = await admin.get()
      const committed = await client.fetchOffsets({ groupId: wireName(group), topics: topics.map(wireName) })
      const perTopic = committed.map(async ({ topic, partitions }) => {
        const done = new Map(partitions.map(({ partition, offset }) => [partition, BigInt(offset)]))
        const ends = await client.fetchTopicOffsets(topic)
        return ends.map(({ partition, low, high }) =>
          positionOf(ownName(topic), partition, BigInt(low), BigInt(high), done),
        )
      })
      return (await Promise.all(perTopic)).flat()
    },
    async agesOf(positions) {
      const client = await admin.get()
      const perTopic = [...Map.groupBy(positions, ({ topic }) => topic)].map(
        async ([topic, ofTopic]) => [topic, await ageOfBacklog(client, wireName(topic), ofTopic)] as const,
      )
      return new Map(await Promise.all(perTopic))
    },
    async read(options) {
      const toMessages = (payload: EachBatchPayload) => toBatch(payload, ownName).messages
      await read({ kafka, admin: await admin.get(), wireName, toMessages }, options)
    },
    async rewind(group, topics, to) {
      const members = await this.members(group)
      if (members > 0) throw new GroupHasMembers(`group ${group} has ${members} member${members === 1 ? '' : 's'}`)
      const client = await admin.get()
      const given = to instanceof Date ? undefined : to && new Map(to.map((place) => [placeOf(place), place.offset]))
      const positions = Map.groupBy(await this.positions(group, topics), ({ topic }) => topic)
      const wanted = [...positions].map(async ([topic, ofTopic]) => {
        const starts = to instanceof Date ? await offsetsAt(client, wireName(topic), to) : undefined
        return ofTopic.map(({ partition, start, done }) => {
          const from = starts?.get(partition) ?? given?.get(placeOf({ topic, partition })) ?? start
          // biome-ignore lint/complexity/useMathMinMax: Math takes no bigint
          const kept = from < start ? start : from
          // biome-ignore lint/complexity/useMathMinMax: Math takes no bigint
          return { topic: wireName(topic), partition, offset: kept > done ? done : kept }
        })
      })
      await commitOffsets(kafka, wireName(group), (await Promise.all(wanted)).flat())
    },
    async members(group) {
      const { groups } = await (await admin.get()).describeGroups([wireName(group)])
      return groups.reduce((sum, { members }) => sum + members.length, 0)
    },
    async ensureTopics(topics) {
      return ensureTopics(
        await admin.get(),
        topics.map((topic) => ({ ...topic, name: wireName(topic.name) })),
      )
    },
    check: () => pulse.check(),
    async close() {
      closing.abort()
      await Promise.all([producer.close(), admin.close()])
    },
  }
}

const placeOf = ({ topic, partition }: { topic: string; partition: number }) => `${topic}/${partition}`

function positionOf(
  topic: string,
  partition: number,
  start: bigint,
  end: bigint,
  committed: Map<number, bigint>,
): PartitionPosition {
  const offset = committed.get(partition) ?? -1n
  return { topic, partition, start, end, done: offset < start ? start : offset }
}

/**
 * Returns the partitions (`topic/partition`) that the answer names: after a leader moved, KafkaJS resolves although
 * it has skipped messages, and only what is named was stored.
 */
async function sendBatch(
  producer: Producer,
  messages: readonly OutgoingMessage[],
  wireName: (name: string) => string,
): Promise<Set<string>> {
  const byTopic = Map.groupBy(messages, (message) => wireName(message.topic))
  const topicMessages = [...byTopic].map(([topic, ofTopic]) => ({
    topic,
    messages: ofTopic.map(({ partition, key, value, headers }) => ({ partition, key, value, headers })),
  }))
  try {
    const stored = await producer.sendBatch({ acks: -1, topicMessages })
    return new Set(
      stored.filter(({ errorCode }) => errorCode === 0).map(({ topicName, partition }) => `${topicName}/${partition}`),
    )
  } catch (error) {
    const root = rootCause(error)
    if (root instanceof kafkajs.KafkaJSProtocolError && refusals.has(root.type))
      throw new MessageRefused(root.message, { cause: error })
    throw error
  }
}

function isPassing(error: unknown): boolean {
  const root = rootCause(error)
  return root instanceof kafkajs.KafkaJSProtocolError && root.retriable
}

function rootCause(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? rootCause(error.cause) : error
}

function toBatch(payload: EachBatchPayload, ownName: (name: string) => string): IncomingBatch {
  const { batch } = payload
  const topic = ownName(batch.topic)
  return {
    topic,
    partition: batch.partition,
    messages: batch.messages.map((message) => toMessage(topic, batch.partition, message)),
    heartbeat: () => payload.heartbeat(),
    isStale: () => payload.isStale() || !payload.isRunning(),
    resolve: ({ offset }) => payload.resolveOffset(String(offset)),
    // Not by waiting in the handler: KafkaJS fetches nothing from a broker until every batch of its last answer is done.
    holdBack(ms) {
      setTimeout(payload.pause(), ms).unref()
    },
  }
}

function toMessage(topic: string, partition: number, message: KafkaMessage): IncomingMessage {
  const { offset, key, value, headers, timestamp } = message
  const single = Object.entries(headers ?? {}).flatMap(([name, held]) => {
    const last = Array.isArray(held) ? held.at(-1) : held // of a repeated header the last one counts
    return last === undefined ? [] : [[name, last] as const]
  })
  return {
    topic,
    partition,
    offset: BigInt(offset),
    key: keyText(key),
    value,
    headers: Object.fromEntries(single),
    timestamp: new Date(Number(timestamp)),
  }
}

/** Keys longer than this, in bytes, are no ids of ours; databases would not index them. */
const maxKeyBytes = 512

/** The key as text; one that is none, or too long, marked by {@link oddKey}, so that it can be stored. */
function keyText(key: Buffer | null): string | null {
  if (key === null) return null
  const text = key.toString()
  if (key.length <= maxKeyBytes && !text.includes('\0') && Buffer.from(text).equals(key)) return text
  return `${oddKey}${key.length <= maxKeyBytes ? key.toString('base64url') : createHash('sha256').update(key).digest('base64url')}`
}

interface ConsumeOptions {
  kafka: Kafka
  group: string
  topics: string[]
  logger: Logger
  meters?: Meters
  handle(payload: EachBatchPayload): Promise<void>
}

interface Meters {
  fetched(): void
  rebuilt(): void
}

function createMeters(registry: Registry): Meters {
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

function keepConsuming({ kafka, group, topics, logger, meters, handle }: ConsumeOptions): Consumer {
  const stopping = new AbortController()
  meters?.fetched() // one that never gets an answer is as bad as one that gets none any more
  const running = (async () => {
    while (!stopping.signal.aborted) {
      const consumer = newConsumer(kafka, group)
      try {
        await consumeUntilBroken(consumer, { topics, meters, handle }, stopping.signal)
      } catch (error) {
        meters?.rebuilt()
        // What a broker says while it starts is no fault of ours, and needs no stack.
        if (isPassing(error)) logger.info({ group, reason: (error as Error).message }, 'the consumer is built anew')
        else logger.warn({ err: error, group }, 'the consumer is built anew')
      } finally {
        await withTimeLimit(consumer.disconnect(), 3_000, 'leaving the consumer group').catch((error) =>
          logger.warn({ err: error, group }, 'the consumer did not leave its group cleanly'),
        )
      }
      await pause(1_000, stopping.signal)
    }
  })()
  return {
    async close() {
      stopping.abort()
      await running
    },
  }
}

function newConsumer(kafka: Kafka, groupId: string): KafkaConsumer {
  return kafka.consumer({
    groupId,
    sessionTimeout: 6_000, // with the default of 30 s a killed member's partitions stand still that long
    heartbeatInterval: 1_500,
    rebalanceTimeout: 15_000,
    maxWaitTimeInMs: 250, // a longer one delays stopping and rebalancing
    maxBytesPerPartition: 1_048_576,
    maxBytes: maxBytesInFlight,
    allowAutoTopicCreation: false,
    metadataMaxAge,
    // We build a new one instead: KafkaJS restarts a consumer even after it was told to disconnect, and such a one takes
    // part in the group without handling anything.
    retry: { initialRetryTime: 200, maxRetryTime: 3_000, retries: 5, restartOnFailure: async () => false },
  })
}

/**
 * Returns when told to stop; throws when the consumer crashed for good, hangs, or the clock was set back: KafkaJS sends a
 * heartbeat when Date.now() has passed the last one, so it would send none until the clock is where it was.
 */
async function consumeUntilBroken(
  consumer: KafkaConsumer,
  { topics, meters, handle }: Pick<ConsumeOptions, 'topics' | 'handle'> & { meters: Meters | undefined },
  stop: AbortSignal,
): Promise<void> {
  let lastSign = performance.now()
  let handling = 0
  const broken = Promise.withResolvers<void>()
  broken.promise.catch(() => {}) // it may break before anybody waits for it
  const stopped = () => broken.resolve()
  stop.addEventListener('abort', stopped, { once: true })
  consumer.on(consumer.events.FETCH, () => {
    lastSign = performance.now()
    meters?.fetched()
  })
  consumer.on(consumer.events.CRASH, ({ payload }) => broken.reject(payload.error))
  let lastTime = Date.now()
  const watchdog = setInterval(() => {
    const time = Date.now()
    if (time < lastTime) broken.reject(new Error(`the clock was set back by ${lastTime - time} ms or more`))
    lastTime = time
    if (handling === 0 && performance.now() - lastSign > stallLimit)
      broken.reject(new Error(`no fetch for ${stallLimit} ms`))
  }, 1_000)
  const run = async () => {
    await consumer.connect()
    await consumer.subscribe({ topics, fromBeginning: true }) // the default skips what came before the group's first commit
    if (stop.aborted) return
    await consumer.run({
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: partitionsAtOnce,
      eachBatch: async (payload) => {
        handling++
        try {
          await handle(payload)
        } finally {
          handling--
          lastSign = performance.now()
        }
      },
    })
  }
  try {
    const running = run()
    running.catch((error) => broken.reject(error))
    await broken.promise // also while connecting and joining, which may hang as well
  } finally {
    stop.removeEventListener('abort', stopped)
    clearInterval(watchdog)
  }
}

/**
 * A client that is connected when first needed, and again after that failed. One that has failed is better replaced:
 * KafkaJS 2.2.4 takes a connection that it made while the broker was frozen for ready ever after, though it has not
 * learned what the broker speaks, and fails with "Broker not connected" until its process ends (chaos, seed 21); and it
 * asks for a topic that is gone in all its requests for metadata, which then fail for every topic.
 */
function connectedOnce<Client extends { connect(): Promise<void>; disconnect(): Promise<void> }>(create: () => Client) {
  let connected: Promise<Client> | undefined
  return {
    get(): Promise<Client> {
      connected ??= (async () => {
        const client = create()
        await client.connect()
        return client
      })().catch((error) => {
        connected = undefined
        throw error
      })
      return connected
    },
    /** Another client is connected when it is needed next; this one leaves in the background. */
    renew(): void {
      const former = connected
      connected = undefined
      void former?.then((client) => client.disconnect()).catch(() => undefined) // it is gone either way
    },
    async close(): Promise<void> {
      const leave = async () => (await connected)?.disconnect()
      await withTimeLimit(leave(), 2_000, 'disconnecting').catch(() => undefined) // the process ends anyway
    },
  }
}

/** Asks the broker for a sign of life every {@link checkEvery} ms, and tells when it goes and comes. */
function watchBroker(
  admin: { get(): Promise<Admin>; renew(): void },
  logger: Logger,
  stop: AbortSignal,
): { check(): void } {
  let answered = Number.NEGATIVE_INFINITY
  let problem: string | undefined = 'not connected yet'
  void (async () => {
    while (!stop.aborted) {
      try {
        await (await admin.get()).describeCluster()
        if (problem !== undefined) logger.info('Kafka answers')
        answered = performance.now()
        problem = undefined
      } catch (error) {
        admin.renew()
        if (problem === undefined) logger.warn({ err: error }, 'Kafka does not answer; events wait in the outbox')
        problem = error instanceof Error ? error.message : String(error)
      }
      await pause(checkEvery, stop)
    }
  })()
  return {
    check() {
      if (performance.now() - answered > checkLimit)
        throw new Error(`Kafka does not answer: ${problem ?? 'no answer lately'}`)
    },
  }
}

async function ensureTopics(admin: Admin, topics: Topic[]): Promise<string[]> {
  const existing = new Set(await admin.listTopics())
  const missing = topics.filter(({ name }) => !existing.has(name))
  const replicationFactor = Math.min(3, (await admin.describeCluster()).brokers.length)
  if (missing.length > 0) {
    await admin.createTopics({
      waitForLeaders: false, // KafkaJS's own waiting throws while the broker has not heard of the topics yet
      topics: missing.map(({ name, partitions, settings }) => ({
        topic: name,
        numPartitions: partitions,
        replicationFactor,
        configEntries: configEntries(settings, replicationFactor),
      })),
    })
  }
  await leadersOf(
    admin,
    missing.map(({ name }) => name),
  )
  const present = topics.filter(({ name }) => existing.has(name))
  if (present.length > 0) await adjust(admin, present)
  return missing.map(({ name }) => name)
}

/**
 * Gives topics that are there the settings that they are to have. Throws for another number of partitions: keys are
 * placed by the declared one, so that would break their order.
 */
async function adjust(admin: Admin, topics: Topic[]): Promise<void> {
  const metadata = await admin.fetchTopicMetadata({ topics: topics.map(({ name }) => name) })
  const partitionsOf = new Map(metadata.topics.map(({ name, partitions }) => [name, partitions]))
  for (const { name, partitions } of topics) {
    const found = partitionsOf.get(name)?.length
    if (found !== partitions)
      throw new Error(
        `topic ${name} has ${found} partitions, declared are ${partitions}: keys would change their partition`,
      )
  }
  const replicas = (name: string) =>
    Math.min(...(partitionsOf.get(name) ?? []).map((partition) => partition.replicas.length))
  await admin.alterConfigs({
    validateOnly: false,
    resources: topics.map(({ name, settings }) => ({
      type: kafkajs.ConfigResourceTypes.TOPIC,
      name,
      configEntries: configEntries(settings, replicas(name)),
    })),
  })
}

/** Waits until each partition of new topics has a leader. Throws after 20 s with what the broker said last. */
async function leadersOf(admin: Admin, topics: string[]): Promise<void> {
  if (topics.length === 0) return
  const deadline = performance.now() + 20_000
  for (;;) {
    try {
      const { topics: found } = await admin.fetchTopicMetadata({ topics })
      if (found.every(({ partitions }) => partitions.length > 0 && partitions.every(({ leader }) => leader >= 0)))
        return
      if (performance.now() > deadline) throw new Error('new topics have no leaders yet')
    } catch (error) {
      if (performance.now() > deadline) throw error
    }
    await pause(50)
  }
}

/**
 * A topic's settings, and that all of its replicas but one must have what is acknowledged: with Kafka's default of one, the
 * leader alone may have acknowledged what dies with it.
 */
const configEntries = (settings: Record<string, string>, replicas: number) =>
  Object.entries({ 'min.insync.replicas': String(Math.max(1, replicas - 1)), ...settings }).map(([name, value]) => ({
    name,
    value,
  }))

/**
 * KafkaJS calls passing trouble an error, such as a coordinator that is loading. It is told at the level debug;
 * that the broker does not answer is told once, by {@link watchBroker}.
 */
function logEntry(
  logger: Logger,
  { namespace, log: { message, timestamp: _, logger: __, ...details } }: LogEntry,
): void {
  logger.debug({ kafka: { namespace, ...details } }, message)
}
