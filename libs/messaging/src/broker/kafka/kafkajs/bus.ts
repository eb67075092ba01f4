import type { Logger } from '@shopstream/observability'
import kafkajs, { type LogEntry } from 'kafkajs'
import type { Bus, Publisher } from '../../bus.ts'
import { createConsumerMeters, keepConsuming } from '../consuming.ts'
import type { BusOptions } from '../options.ts'
import { createLog } from '../partition-log.ts'
import { readingOf } from '../positions.ts'
import { watchBroker } from '../pulse.ts'
import { createCarrier } from './carrier.ts'
import { connectedOnce, saidByBroker } from './clients.ts'
import { commitOffsets } from './commit-offsets.ts'
import { runConsumer } from './consume.ts'
import { limits } from './internals.ts'
import { createSending, producerOf, promptRetry } from './sending.ts'
import { addPartitions, ensureTopics } from './topics.ts'

const timeouts = { connectionTimeout: 3_000, requestTimeout: 15_000 }

/**
 * As KafkaJS has them. A session that brokers end (connections.max.reauth.ms) is renewed so long before, in ms: with the
 * default of 10 s a shorter one is renewed with each request, which Kafka refuses within a second.
 */
const identityOptions = ({ identity: { tls, sasl } }: BusOptions) => ({
  ...(tls && { ssl: tls }),
  ...(sasl && { sasl: sasl as kafkajs.SASLOptions, reauthenticationThreshold: 3_000 }),
})

export const openKafka = (options: BusOptions) => {
  const { brokers, clientId, logger } = options
  return new kafkajs.Kafka({
    clientId,
    brokers: brokers.map(({ host, port }) => `${host}:${port}`),
    ...timeouts,
    ...identityOptions(options),
    retry: { initialRetryTime: 100, maxRetryTime: 3_000, retries: 5 },
    logLevel: kafkajs.logLevel.WARN,
    logCreator: () => (entry) => logEntry(logger, entry),
  })
}

/** {@link Bus} by KafkaJS. Connects in the background and stays with it; never throws for an absent broker. */
export function createKafkaJsBus(options: BusOptions): Bus {
  const { brokers, clientId, logger, metrics, wireName, ownName } = options
  Object.assign(limits, options.limits)
  const kafka = openKafka(options)
  const closing = new AbortController()
  const log = createLog(
    brokers,
    createCarrier(kafka, { clientId, brokerCount: brokers.length, ...timeouts, ...identityOptions(options) }),
    options.limits,
  )
  const admin = connectedOnce(() => kafka.admin())
  const producer = producerOf(kafka)
  const promptProducer = producerOf(kafka, promptRetry)
  const meters = metrics && createConsumerMeters(metrics)
  const pulse = watchBroker(() => log.check(), logger, closing.signal)
  const asAdmin = async <R>(work: (client: kafkajs.Admin) => Promise<R>) => {
    try {
      return await work(await admin.get())
    } catch (error) {
      if (!saidByBroker(error)) admin.renew()
      throw error
    }
  }

  const publish = createSending({ log, pulse }, wireName)
  const publisher = (_name: string, until?: AbortSignal): Publisher => ({
    publish: (messages) => publish({ producer: promptProducer, until }, messages),
    close: async () => {},
  })

  return {
    publish: (messages) => publish({ producer }, messages),
    publisher,
    fences: false,
    consume: ({ group, topics, handle }) =>
      keepConsuming({
        group: wireName(group),
        topics: topics.map(wireName),
        topicIds: log.topicIds,
        logger,
        meters,
        pulse,
        isPassing: (error) => saidByBroker(error)?.retriable === true,
        run: (working, stop, startsOver) =>
          runConsumer(
            { kafka, group: wireName(group), topics: topics.map(wireName), ownName, logger, handle, startsOver },
            working,
            stop,
          ),
      }),
    ...readingOf(
      {
        log,
        async committed(group, topics) {
          const found = await asAdmin((client) => client.fetchOffsets({ groupId: group, topics: [...topics] }))
          return found.flatMap(({ topic, partitions }) =>
            partitions.map(({ partition, offset }) => ({ topic, partition, offset: BigInt(offset) })),
          )
        },
        async members(group) {
          const { groups } = await asAdmin((client) => client.describeGroups([group]))
          return groups.reduce((sum, { members }) => sum + members.length, 0)
        },
        commit: (group, offsets) => commitOffsets(kafka, group, offsets),
      },
      options,
    ),
    ensureTopics: (topics) =>
      asAdmin((client) =>
        ensureTopics(
          client,
          topics.map((topic) => ({ ...topic, name: wireName(topic.name) })),
        ),
      ),
    async addPartitions(topic, count) {
      await asAdmin((client) => addPartitions(client, wireName(topic), count))
      await log.troubles([wireName(topic)], true) // what it knew of the topic is old
    },
    check: () => pulse.check(),
    async close() {
      closing.abort()
      await Promise.all([producer.close(), promptProducer.close(), admin.close(), log.close()])
    },
  }
}

/**
 * KafkaJS calls passing trouble an error, such as a coordinator that is loading. It is told at the level debug;
 * that the broker does not answer is told once, by the pulse.
 */
function logEntry(
  logger: Logger,
  { namespace, log: { message, timestamp: _, logger: __, ...details } }: LogEntry,
): void {
  logger.debug({ kafka: { namespace, ...details } }, message)
}
