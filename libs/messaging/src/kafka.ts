import { createHash } from 'node:crypto'
import type { Logger, Registry } from '@shopstream/observability'
import kafkajs, { type EachBatchPayload, type KafkaMessage, type LogEntry, type Producer } from 'kafkajs'
import {
  type Bus,
  GroupHasMembers,
  type IncomingBatch,
  type IncomingMessage,
  MessageRefused,
  type OutgoingMessage,
  oddKey,
  type PartitionPosition,
} from './bus.ts'
import { connectedOnce, metadataMaxAge, saidByBroker, watchBroker } from './kafka-clients.ts'
import { createConsumerMeters, keepConsuming } from './kafka-consume.ts'
import { ageOfBacklog, offsetsAt, read } from './kafka-read.ts'
import { commitOffsets } from './kafka-rewind.ts'
import { ensureTopics } from './kafka-topics.ts'

export interface KafkaOptions {
  brokers: string[]
  /** Put before each topic and group name, so that several deployments can share a cluster. */
  topicPrefix: string
  clientId: string
  logger: Logger
  /** Where its consumers tell how they are; commands have none. */
  metrics?: Registry
}

/** Errors by which a broker says that it will never take a record as it is. A wrong clock (INVALID_TIMESTAMP) is put right some day. */
const refusals = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD', 'POLICY_VIOLATION'])

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
  const meters = metrics && createConsumerMeters(metrics)
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
    const said = saidByBroker(error)
    if (said && refusals.has(said.type)) throw new MessageRefused(said.message, { cause: error })
    throw error
  }
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
