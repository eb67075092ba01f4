import { Counter, Gauge, type Logger, type Registry } from '@shopstream/observability'
import type { EachBatchPayload, Kafka, Consumer as KafkaConsumer } from 'kafkajs'
import { pause, withTimeLimit } from './async.ts'
import type { Consumer } from './bus.ts'
import { metadataMaxAge, saidByBroker } from './kafka-clients.ts'

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

interface ConsumeOptions {
  kafka: Kafka
  group: string
  topics: string[]
  logger: Logger
  meters?: ConsumerMeters
  handle(payload: EachBatchPayload): Promise<void>
}

export interface ConsumerMeters {
  fetched(): void
  rebuilt(): void
}

export function createConsumerMeters(registry: Registry): ConsumerMeters {
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

/** Consumes until it is closed, with a new consumer whenever one breaks; never throws. */
export function keepConsuming({ kafka, group, topics, logger, meters, handle }: ConsumeOptions): Consumer {
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
        if (saidByBroker(error)?.retriable)
          logger.info({ group, reason: (error as Error).message }, 'the consumer is built anew')
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
  { topics, meters, handle }: Pick<ConsumeOptions, 'topics' | 'handle'> & { meters: ConsumerMeters | undefined },
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
