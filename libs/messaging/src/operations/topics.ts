import { deadLetterTopic, schemaEvents, topics } from '@shopstream/events'
import { pause } from '../async.ts'
import type { Bus, EnsuredTopics, OutgoingMessage } from '../broker/bus.ts'
import { outgoing } from '../outbox/outbox.ts'

/**
 * The deployment's step before any service starts: creates the topics of the catalogue and the dead-letter topics that
 * are missing, sets the settings of those that are there, and writes the schemas of this version to `shop.schema.v1`.
 * Repeating it changes nothing.
 * Throws when the broker cannot be reached, or has a topic with fewer partitions.
 * @param groups consumer groups, one per consuming service: each has a dead-letter topic.
 */
export async function ensureTopics(bus: Bus, groups: readonly string[]): Promise<EnsuredTopics> {
  const ensured = await bus.ensureTopics([...topics, ...groups.map(deadLetterTopic)])
  await publishSchemas(bus)
  return ensured
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
      pending = (await bus.publish(pending)).filter(({ error }) => error).map(({ message }) => message)
    } catch (error) {
      if (performance.now() > deadline) throw error
    }
    if (pending.length === 0) return
    if (performance.now() > deadline) throw new Error('the broker does not take the schemas')
    await pause(200)
  }
}
