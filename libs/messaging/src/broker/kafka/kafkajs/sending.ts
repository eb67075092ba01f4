import kafkajs, { type Producer } from 'kafkajs'
import { type Delivery, MessageRefused, type OutgoingMessage, placeOf } from '../../bus.ts'
import type { Log } from '../partition-log.ts'
import type { watchBroker } from '../pulse.ts'
import { connectedOnce, metadataMaxAge, saidByBroker } from './clients.ts'

/**
 * Errors that mean: the broker will never accept the record. A wrong clock (INVALID_TIMESTAMP) is corrected some day.
 */
const refusals = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD', 'POLICY_VIOLATION'])

/**
 * For publishers by name: a relay retries by itself, and retries refused messages apart from the rest. Five retries
 * take 3 s and happen three times (all, topic by topic, partition by partition): a partition with too few replicas
 * delayed all others.
 */
export const promptRetry = { initialRetryTime: 100, retries: 1 }

export interface Sending {
  producer: { get(): Promise<Producer>; renew(): void }
  /** Nothing more is sent from then on. */
  until?: AbortSignal | undefined
}

/** Its producer connects when first used. */
export const producerOf = (kafka: kafkajs.Kafka, retry?: kafkajs.RetryOptions) =>
  connectedOnce(() =>
    kafka.producer({
      // Every message brings its partition; idempotence drops batches after a leader change (see docs/adr/0017).
      createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
      idempotent: false,
      allowAutoTopicCreation: false,
      metadataMaxAge,
      ...(retry && { retry }),
    }),
  )

/** See `Bus.publish`. */
export function createSending(
  { log, pulse }: { log: Log; pulse: ReturnType<typeof watchBroker> },
  wireName: (name: string) => string,
) {
  const published = new Set<string>()
  let isShaken = false

  /** Leaves out what is missing or has no leader: KafkaJS retries it for seconds, and everything else would wait. */
  async function publish<M extends OutgoingMessage>(by: Sending, messages: readonly M[]): Promise<Delivery<M>[]> {
    if (messages.length === 0) return []
    for (const { topic } of messages) published.add(wireName(topic))
    const troubles = await log.troubles([...published], isShaken)
    isShaken = false
    const troubleOf = ({ topic, partition }: M) =>
      troubles.get(wireName(topic)) ?? troubles.get(placeOf({ topic: wireName(topic), partition }))
    const deliveries = new Map(
      (
        await send(
          by,
          messages.filter((one) => !troubleOf(one)),
        )
      ).map((one) => [one.message, one]),
    )
    return messages.map((message) => {
      const error = troubleOf(message)
      return error ? { message, error } : (deliveries.get(message) as Delivery<M>)
    })
  }

  async function send<M extends OutgoingMessage>(by: Sending, messages: readonly M[]): Promise<Delivery<M>[]> {
    if (messages.length === 0) return []
    by.until?.throwIfAborted() // between parts, too: with its lock gone, another relay publishes
    try {
      const stored = await sendBatch(await by.producer.get(), messages, wireName)
      return messages.map((message) => (stored.has(placeOf(message)) ? { message } : { message, error: unconfirmed() }))
    } catch (error) {
      if (!(error instanceof MessageRefused)) {
        by.producer.renew()
        isShaken = true
        if (!pulse.isThere()) throw error
      }
      return sendApart(by, messages, error as Error)
    }
  }

  /** Sends per topic, or one topic's partitions in parallel: KafkaJS fails all if the broker refuses one. */
  async function sendApart<M extends OutgoingMessage>(
    by: Sending,
    messages: readonly M[],
    error: Error,
  ): Promise<Delivery<M>[]> {
    const byTopic = [...Map.groupBy(messages, ({ topic }) => topic).values()]
    if (byTopic.length > 1) {
      const deliveries: Delivery<M>[] = []
      for (const ofTopic of byTopic) deliveries.push(...(await send(by, ofTopic)))
      return deliveries
    }
    const byPartition = [...Map.groupBy(messages, ({ partition }) => partition).values()]
    if (byPartition.length === 1) return messages.map((message) => ({ message, error }))
    return (await settleAll(byPartition.map((ofPartition) => send(by, ofPartition)))).flat()
  }

  return publish
}

const unconfirmed = () => new Error('the broker has not confirmed it')

/** Nothing is under way any more when this throws. */
async function settleAll<T>(work: Promise<T>[]): Promise<T[]> {
  const outcomes = await Promise.allSettled(work)
  return outcomes.map((outcome) => {
    if (outcome.status === 'rejected') throw outcome.reason
    return outcome.value
  })
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
  const ownNames = new Map(messages.map(({ topic }) => [wireName(topic), topic]))
  const topicMessages = [...Map.groupBy(messages, ({ topic }) => wireName(topic))].map(([topic, ofTopic]) => ({
    topic,
    messages: ofTopic.map(({ partition, key, value, headers }) => ({
      partition,
      key,
      value,
      headers: mapValues(headers, (held) => held ?? ''), // KafkaJS cannot write a header without a value: it is empty then
    })),
  }))
  try {
    const stored = await producer.sendBatch({ acks: -1, topicMessages })
    return new Set(
      stored
        .filter(({ errorCode }) => errorCode === 0)
        .map(({ topicName, partition }) => placeOf({ topic: ownNames.get(topicName) ?? topicName, partition })),
    )
  } catch (error) {
    const said = saidByBroker(error)
    if (said && refusals.has(said.type)) throw new MessageRefused(said.message, { cause: error })
    throw error
  }
}

const mapValues = <T, R>(record: Record<string, T>, change: (value: T) => R): Record<string, R> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]))
