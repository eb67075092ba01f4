import kafkajs, { type Cluster, type PartitionAssigner } from 'kafkajs'
import { deal } from '../dealing.ts'

const { MemberMetadata, MemberAssignment } = kafkajs.AssignerProtocol

/** Replaces KafkaJS's assigner of this name, which assigns the topics of the leader only, and to every member. */
export const byWish: PartitionAssigner = ({ cluster }) => ({
  name: 'RoundRobinAssigner',
  version: 0,
  protocol: ({ topics }) => ({
    name: 'RoundRobinAssigner',
    metadata: MemberMetadata.encode({ version: 0, topics, userData: Buffer.alloc(0) }),
  }),
  async assign({ members, topics }) {
    const wishes = members.map(({ memberId, memberMetadata }) => ({ memberId, topics: wishOf(memberMetadata) }))
    const wanted = [...new Set([...topics, ...wishes.flatMap((one) => one.topics)])]
    const found = await Promise.all(wanted.map((topic) => partitionsOf(cluster, topic)))
    return [...deal(wishes, found.flat())].map(([memberId, places]) => ({
      memberId,
      memberAssignment: MemberAssignment.encode({ version: 0, assignment: byTopic(places), userData: Buffer.alloc(0) }),
    }))
  },
})

/** Empty if it cannot be read: a member with another client must not block the group's assignment. */
function wishOf(bytes: Buffer): string[] {
  try {
    return MemberMetadata.decode(bytes)?.topics ?? []
  } catch {
    return []
  }
}

async function partitionsOf(cluster: Cluster, topic: string) {
  try {
    await cluster.addTargetTopic(topic)
  } catch {
    return [] // another member's topic that is not there
  }
  return cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => ({ topic, partition: partitionId }))
}

const byTopic = (places: readonly { topic: string; partition: number }[]): Record<string, number[]> =>
  Object.fromEntries(
    [...Map.groupBy(places, ({ topic }) => topic)].map(([topic, ofTopic]) => [
      topic,
      ofTopic.map(({ partition }) => partition),
    ]),
  )
