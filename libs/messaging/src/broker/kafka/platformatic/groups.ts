import { describeGroupsV5, offsetCommitV8, offsetFetchV8 } from '@platformatic/kafka'
import { placeOf } from '../../bus.ts'
import type { GroupAccess } from '../positions.ts'
import type { Cluster } from './cluster.ts'
import { type Connections, timeLimit } from './connections.ts'
import { createCoordinator } from './coordinator.ts'
import { errors, throwIfError } from './errors.ts'
import { toCommit } from './membership.ts'

/** How long to ask while the coordinator moves, and per answer; in ms. */
const patience = { patienceMs: 5_000, limitMs: timeLimit.answer }
/** Identity of commits for a group without members. */
const nobody = { memberId: '', generation: -1 }

/** What is asked of groups from outside. */
export function groupAccess(parts: { cluster: Cluster; connections: Connections }): Omit<GroupAccess, 'log'> {
  const coordinatorOf = (group: string) => createCoordinator(parts, 'group', group)
  return {
    async committed(group, topics) {
      // The library's types require topics; null asks for all, and the answer names the group's partitions.
      const asked = [{ groupId: group, memberEpoch: -1, topics: null }]
      const { groups } = await coordinatorOf(group).ask(offsetFetchV8.api, [asked, false], {
        codeOf: (answer) => answer.groups[0]?.errorCode ?? errors.none,
        ...patience,
      })
      return groups.flatMap(({ errorCode, topics: found }) => {
        if (errorCode === errors.groupIdNotFound) return []
        throwIfError(`the offsets of ${group}`, errorCode)
        return found
          .filter(({ name }) => topics.includes(name))
          .flatMap(({ name, partitions }) =>
            partitions.map(({ partitionIndex: partition, committedOffset, errorCode: problem }) => {
              throwIfError(`the offset of ${placeOf({ topic: name, partition })}`, problem)
              return { topic: name, partition, offset: committedOffset }
            }),
          )
      })
    },
    async members(group) {
      const { groups } = await coordinatorOf(group).ask(describeGroupsV5.api, [[group], false], {
        codeOf: (answer) => answer.groups[0]?.errorCode ?? errors.none,
        ...patience,
      })
      return groups.reduce((sum, { errorCode, members }) => {
        if (errorCode !== errors.groupIdNotFound) throwIfError(`group ${group}`, errorCode)
        return sum + members.length
      }, 0)
    },
    async commit(group, offsets) {
      if (offsets.length === 0) return
      const { topics } = await coordinatorOf(group).ask(
        offsetCommitV8.api,
        [group, nobody.generation, nobody.memberId, null, toCommit(offsets)],
        { codeOf: (answer) => answer.topics[0]?.partitions[0]?.errorCode ?? errors.none, ...patience },
      )
      for (const { name, partitions } of topics)
        for (const { partitionIndex, errorCode } of partitions)
          throwIfError(`committing ${placeOf({ topic: name, partition: partitionIndex })} for ${group}`, errorCode)
    },
  }
}
