import { partitionOf, type Topic } from '@shopstream/events'
import type { Bus } from '@shopstream/messaging/operations'

/**
 * The places that may hold messages of a key: one partition, or, if the topic has been given more (`grow`), all of
 * them, as the key was placed by another number before.
 */
export async function placesOf(
  bus: Bus,
  topics: readonly Topic[],
  key: string,
): Promise<{ topic: string; partition: number }[]> {
  const positions = await bus.positions(
    undefined,
    topics.map(({ name }) => name),
  )
  const found = Map.groupBy(positions, ({ topic }) => topic)
  return topics.flatMap(({ name, partitions }) => {
    const all = (found.get(name) ?? []).map(({ topic, partition }) => ({ topic, partition }))
    return all.length > partitions ? all : [{ topic: name, partition: partitionOf(key, partitions) }]
  })
}
