import type { Bus } from '../../bus.ts'
import { createConsumerMeters, keepConsuming } from '../consuming.ts'
import type { BusOptions } from '../options.ts'
import { createLog } from '../partition-log.ts'
import { readingOf } from '../positions.ts'
import { watchBroker } from '../pulse.ts'
import { UnfinishedBatches } from '../unfinished-batches.ts'
import { createCarrier } from './carrier.ts'
import { createCluster } from './cluster.ts'
import { createConnections } from './connections.ts'
import { runConsumer } from './consume.ts'
import { BrokerError } from './errors.ts'
import { groupAccess } from './groups.ts'
import { createProducer, publishFollowing } from './produce.ts'
import { createPublisher } from './publisher.ts'
import { addPartitions, ensureTopics } from './topics.ts'

/**
 * {@link Bus} by the connections and requests of @platformatic/kafka; its clients (Producer, Consumer, Admin) are not used,
 * for the reasons said at `createProducer`, `createMembership` and `startFetching`. For brokers from Kafka 3.0 on. Never
 * throws for an absent broker.
 */
export function createPlatformaticBus(options: BusOptions): Bus {
  const { brokers, clientId, identity, logger, metrics, limits, wireName, ownName } = options
  const closing = new AbortController()
  // Brokers answer what comes in by one connection in order, and publishing may wait for replicas, making topics for a while.
  const connections = {
    metadata: createConnections(options),
    log: createConnections(options),
    asking: createConnections(options),
    publishing: createConnections(options),
  }
  const log = createLog(brokers, createCarrier(connections, brokers.length), limits)
  const cluster = createCluster(brokers, connections.metadata)
  const asking = { cluster, connections: connections.asking }
  const publishing = { cluster, connections: connections.publishing }
  const producer = createProducer(publishing, wireName)
  const meters = metrics && createConsumerMeters(metrics)
  const pulse = watchBroker(() => log.check(), logger, closing.signal)

  return {
    publish: (messages) => publishFollowing(messages, producer.publish),
    publisher: (name, until) => createPublisher(wireName(name), { ...publishing, producer }, until),
    fences: true,
    consume({ group, topics, handle }) {
      const kept = { inHand: new Set<string>(), unfinished: new UnfinishedBatches() }
      const consumer = { cluster, clientId, identity, limits, logger, ownName, handle, ...kept }
      return keepConsuming({
        group: wireName(group),
        topics: topics.map(wireName),
        topicIds: log.topicIds,
        logger,
        meters,
        pulse,
        isPassing: (error) => error instanceof BrokerError && error.isPassing,
        run: (working, stop, startsOver) =>
          runConsumer({ ...consumer, group: wireName(group), topics: topics.map(wireName), startsOver }, working, stop),
      })
    },
    ...readingOf({ log, ...groupAccess(asking) }, options),
    ensureTopics: (topics) =>
      ensureTopics(
        asking,
        topics.map((topic) => ({ ...topic, name: wireName(topic.name) })),
      ),
    async addPartitions(topic, count) {
      await addPartitions(asking, wireName(topic), count)
      await log.troubles([wireName(topic)], true) // what it knew of the topic is old
    },
    check: () => pulse.check(),
    async close() {
      closing.abort()
      connections.asking.close()
      connections.publishing.close()
      await log.close()
    },
  }
}
