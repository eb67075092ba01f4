import type { Logger } from '@shopstream/observability'
import type { Batch, EachBatchPayload, Kafka, Consumer as KafkaConsumer } from 'kafkajs'
import { withTimeLimit } from '../../../async.ts'
import type { AssignedPartition, ConsumeOptions, IncomingBatch } from '../../bus.ts'
import { maxBytesInFlight, maxBytesOfPartition, type StartsOver } from '../consuming.ts'
import { inWords } from '../identity.ts'
import { toMessage } from '../messages.ts'
import { byWish } from './assigner.ts'
import { metadataMaxAge } from './clients.ts'
import type { RawMessage } from './internals.ts'

/** Partitions handled in parallel: as many as an answer can hold. The handlers limit how many really work at once. */
const partitionsAtOnce = 100

/** A consumer that has fetched nothing for so long, while handling nothing, hangs and is built anew; in ms. */
const stallLimit = 30_000
/** KafkaJS sends no heartbeat while a handler runs: without these, in ms, a slow one would lose its partitions. */
const heartbeatMs = 1_000

/** Means the earliest offset in Kafka's protocol. */
const atTheStart = '-2'

export interface RunOptions extends Omit<ConsumeOptions, 'topics' | 'group'> {
  kafka: Kafka
  /** Names on the wire. */
  group: string
  topics: string[]
  ownName(topic: string): string
  startsOver: StartsOver
  logger: Logger
}

/** A consumer's life: returns when told to stop, throws when it breaks; in both cases it has left the group. */
export async function runConsumer(options: RunOptions, working: () => void, stop: AbortSignal): Promise<void> {
  const consumer = newConsumer(options.kafka, options.group)
  try {
    await consumeUntilBroken(consumer, options, working, stop)
  } finally {
    await withTimeLimit(consumer.disconnect(), 3_000, 'leaving the consumer group').catch((error) =>
      options.logger.warn({ err: error, group: options.group }, 'the consumer did not leave its group cleanly'),
    )
  }
}

function newConsumer(kafka: Kafka, groupId: string): KafkaConsumer {
  return kafka.consumer({
    groupId,
    partitionAssigners: [byWish],
    sessionTimeout: 6_000, // with the default of 30 s a killed member's partitions stand still that long
    heartbeatInterval: 1_500,
    rebalanceTimeout: 15_000,
    maxWaitTimeInMs: 250, // a longer one delays stopping and rebalancing
    maxBytesPerPartition: maxBytesOfPartition,
    // KafkaJS asks a broker for more only once everything of its last answer has been handled, so a consumer whose database
    // is away stops here: nothing else has to be paused.
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
  options: RunOptions,
  working: () => void,
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
    working()
  })
  consumer.on(consumer.events.CRASH, ({ payload }) => broken.reject(inWords(payload.error)))
  // One broker's answer can make KafkaJS join again while a handler is at work with another's; its partition may have gone then.
  let generation = new AbortController()
  consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberAssignment } }) => {
    generation.abort()
    generation = new AbortController()
    for (const [topic, partitions] of Object.entries(memberAssignment).filter(([name]) => options.startsOver(name)))
      for (const partition of partitions) consumer.seek({ topic, partition, offset: atTheStart })
  })
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
    await consumer.subscribe({ topics: options.topics, fromBeginning: true }) // the default skips what came before the group's first commit
    if (stop.aborted) return
    await consumer.run({
      eachBatchAutoResolve: false,
      autoCommitThreshold: 1, // without it an answer of nothing but markers and aborted records is never committed
      partitionsConsumedConcurrently: partitionsAtOnce,
      eachBatch: async (payload) => {
        handling++
        try {
          await handleBatch(consumer, payload, options, { stop, joinedAnew: generation.signal })
        } finally {
          handling--
          lastSign = performance.now()
        }
      },
    })
  }
  try {
    const running = run()
    running.catch((error) => broken.reject(inWords(error)))
    await broken.promise // also while connecting and joining, which may hang as well
  } finally {
    stop.removeEventListener('abort', stopped)
    clearInterval(watchdog)
  }
}

async function handleBatch(
  consumer: KafkaConsumer,
  payload: EachBatchPayload,
  { handle, ownName }: RunOptions,
  { stop, joinedAnew }: { stop: AbortSignal; joinedAnew: AbortSignal },
): Promise<void> {
  const revoked = new AbortController()
  const beat = () => {
    if (!payload.isRunning()) revoked.abort()
    return payload.heartbeat().catch(() => revoked.abort()) // the next heartbeat outside tells KafkaJS, which joins again
  }
  const timer = setInterval(beat, heartbeatMs)
  const ends = AbortSignal.any([stop, joinedAnew, revoked.signal])
  const batch = toBatch(payload.batch, ownName(payload.batch.topic))
  try {
    await handle(batch, partitionOf(consumer, payload, { ownName, revoked: ends, joinedAnew }))
  } finally {
    clearInterval(timer)
  }
  await payload.heartbeat()
}

/** What KafkaJS hands on of an answer; the last message may stand for what cannot be read. */
function toBatch(batch: Batch, topic: string): IncomingBatch {
  const { partition } = batch
  const raw = batch.messages as unknown as RawMessage[]
  const messages = raw.flatMap(({ record }) => (record ? [toMessage({ topic, partition }, record)] : []))
  const unreadable = raw.at(-1)?.unreadable
  if (!unreadable) return { messages, next: BigInt(batch.lastOffset()) + 1n }
  return { messages, next: unreadable.firstOffset, unreadable: { topic, partition, ...unreadable } }
}

/** KafkaJS resolves messages, not positions between them, and continues after the last resolved one. */
function partitionOf(
  consumer: KafkaConsumer,
  payload: EachBatchPayload,
  { ownName, revoked, joinedAnew }: { ownName: RunOptions['ownName']; revoked: AbortSignal; joinedAnew: AbortSignal },
): AssignedPartition {
  const { topic, partition } = payload.batch
  let resume: (() => void) | undefined
  const unlessRevoked = (act: () => void) => () => {
    if (!revoked.aborted) act()
  }
  return {
    topic: ownName(topic),
    partition,
    revoked,
    done: (next) => {
      if (!joinedAnew.aborted) payload.resolveOffset(String(next - 1n))
    },
    seek: (next) => unlessRevoked(() => consumer.seek({ topic, partition, offset: String(next) }))(),
    pause: unlessRevoked(() => {
      resume = payload.pause()
    }),
    resume: () => resume?.(),
  }
}
