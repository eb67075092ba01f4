import { deadLetterTopic, schemaEvents, topics } from '@shopstream/events'
import type { Logger } from '@shopstream/observability'
import { pause } from './async.ts'
import type { Bus, OutgoingMessage } from './bus.ts'
import { createKafkaBus } from './kafka.ts'
import { outgoing } from './outbox.ts'

export interface Deployment {
  brokers: string[]
  topicPrefix: string
  /** Consumer groups, one per consuming service: each has a dead-letter topic. */
  groups: readonly string[]
  logger: Logger
}

/**
 * The deployment's step before any service starts: creates the topics of the catalogue and the dead-letter topics that
 * are missing, sets the settings of those that are there, and writes the schemas of this version to `shop.schema.v1`.
 * Repeating it changes nothing. Returns the names of the topics it made.
 * Throws when the broker cannot be reached, or has a topic with another number of partitions.
 */
export async function ensureTopics({ brokers, topicPrefix, groups, logger }: Deployment): Promise<string[]> {
  const bus = createKafkaBus({ brokers, topicPrefix, clientId: 'shopstream-deployment', logger })
  try {
    const created = await bus.ensureTopics([...topics, ...groups.map(deadLetterTopic)])
    await publishSchemas(bus)
    return created
  } finally {
    await bus.close()
  }
}

const publishLimitMs = 30_000

/** Compaction keeps one message per schema, however often this runs. Brokers refuse for a while after making a topic. */
async function publishSchemas(bus: Bus): Promise<void> {
  const deadline = performance.now() + publishLimitMs
  let pending: readonly OutgoingMessage[] = schemaEvents.map((data) =>
    outgoing('deployment', { type: 'SchemaRegistered', key: String(data.schemaId), sequence: 1n, data }),
  )
  for (;;) {
    try {
      const stored = new Set(await bus.publish(pending))
      pending = pending.filter((message) => !stored.has(message))
    } catch (error) {
      if (performance.now() > deadline) throw error
    }
    if (pending.length === 0) return
    if (performance.now() > deadline) throw new Error('the broker does not take the schemas')
    await pause(200)
  }
}
