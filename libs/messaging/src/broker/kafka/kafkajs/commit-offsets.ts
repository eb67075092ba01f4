import type { Kafka } from 'kafkajs'
import { withTimeLimit } from '../../../async.ts'
import type { PartitionOffset } from '../../bus.ts'
import { inWords } from '../identity.ts'

/**
 * Commits offsets (names as on the wire) for a group without members, as its only member. KafkaJS's own
 * `admin.setOffsets` joins anew for each topic and waits 5 s for a fetch in each: 20 s for the four of a service.
 * Throws when the group cannot be joined.
 */
export async function commitOffsets(kafka: Kafka, groupId: string, offsets: readonly PartitionOffset[]): Promise<void> {
  const topics = [...new Set(offsets.map(({ topic }) => topic))]
  const consumer = kafka.consumer({
    groupId,
    maxWaitTimeInMs: 100,
    allowAutoTopicCreation: false,
    retry: { initialRetryTime: 200, maxRetryTime: 3_000, retries: 5, restartOnFailure: async () => false },
  })
  const crashed = Promise.withResolvers<never>()
  crashed.promise.catch(() => {}) // it may crash when nobody waits any more
  consumer.on(consumer.events.CRASH, ({ payload }) => crashed.reject(inWords(payload.error)))
  const commit = async () => {
    await consumer.connect()
    await consumer.subscribe({ topics, fromBeginning: true })
    await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: async () => {} })
    consumer.pause(topics.map((topic) => ({ topic }))) // nothing is to be read here
    await consumer.commitOffsets(offsets.map(({ offset, ...place }) => ({ ...place, offset: String(offset) })))
  }
  try {
    await Promise.race([commit(), crashed.promise])
  } finally {
    await withTimeLimit(consumer.disconnect(), 3_000, 'leaving the group').catch(() => undefined) // its session ends
  }
}
