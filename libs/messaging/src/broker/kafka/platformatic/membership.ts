import { heartbeatV4, joinGroupV7, leaveGroupV5, offsetCommitV8, offsetFetchV8, syncGroupV5 } from '@platformatic/kafka'
import { pause } from '../../../async.ts'
import { type PartitionOffset, type Place, placeOf } from '../../bus.ts'
import { deal, type GroupMember } from '../dealing.ts'
import {
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
  protocolName,
} from './assignment.ts'
import type { Cluster } from './cluster.ts'
import { type Connections, timeLimit } from './connections.ts'
import { type Coordinator, createCoordinator } from './coordinator.ts'
import { BrokerError, errors, throwIfError } from './errors.ts'

/** In ms. A killed member's partitions stand still for a whole session; the usual one has 30 s or more. */
export const groupTimes = { session: 6_000, heartbeat: 1_500, rebalance: 15_000 }
/** How long joining and fetching offsets is tried while there is no coordinator, in ms. */
const patienceMs = 30_000
/** Limit of a heartbeat in ms: a lost one and the next one fit into a session. */
const heartbeatLimit = 2_500
/** Limit of joining, in ms: members are told once all have joined, and the slowest may take a whole rebalance. */
const rebalanceLimit = groupTimes.rebalance + 10_000

const membershipErrors: readonly number[] = [errors.unknownMember, errors.illegalGeneration, errors.rebalanceInProgress]

/** Whether one is still a member: `rebalance`: one has to join again, `lost`: the partitions are other members' by now. */
export type Standing = 'member' | 'rebalance' | 'lost'

/** What a member has dealt out as the group's leader. */
export interface Dealt {
  topics: string[]
  /** Of all these topics. */
  partitionCount: number
}

export interface Assigned {
  places: Place[]
  dealt: Dealt | undefined
}

/** One's membership of a consumer group (classic protocol); names as on the wire. */
export interface Membership {
  /** Joins, or joins again, and waits until all others have. */
  join(signal: AbortSignal): Promise<Assigned>
  /** Throws when the coordinator does not answer. */
  heartbeat(): Promise<Standing>
  /** Offsets of the group; without those of partitions for which it has committed none. */
  committed(places: readonly Place[], signal: AbortSignal): Promise<Map<string, bigint>>
  /** `taken`: each `topic/partition` whose offset the coordinator has accepted. */
  commit(offsets: readonly PartitionOffset[]): Promise<{ standing: Standing; taken: Set<string> }>
  /** Never throws: the session ends anyway. */
  leave(limitMs: number): Promise<void>
}

interface MembershipOptions {
  cluster: Cluster
  connections: Connections
  group: string
  topics: readonly string[]
}

/** Who one is in the group: the coordinator tells it when one joins. */
interface Member extends Omit<MembershipOptions, 'connections'> {
  readonly coordinator: Coordinator
  /** Empty: none. */
  memberId: string
  generation: number
}

/**
 * The library's own Consumer is not used for this: it asks the coordinator that it found first for ever, even after
 * that has moved; it joins again after an error without a pause and without an end; and its reaction to a failed
 * heartbeat cannot wait until done offsets are committed.
 */
export function createMembership({ cluster, connections, group, topics }: MembershipOptions): Membership {
  const coordinator = createCoordinator({ cluster, connections }, 'group', group)
  const member: Member = { cluster, group, topics, coordinator, memberId: '', generation: -1 }
  return {
    async join(signal) {
      for (;;) {
        signal.throwIfAborted()
        const assigned = await joinOnce(member, signal)
        if (assigned) return assigned
        await pause(200, signal)
      }
    },
    heartbeat: () => sendHeartbeat(member),
    committed: (places, signal) => fetchOffsets(member, places, signal),
    commit: (offsets) => commitOffsets(member, offsets),
    leave: (limitMs) => leaveGroup(member, limitMs),
  }
}

/** What an error code says about the membership. Throws all other errors. */
function standingOf(member: Member, what: string, code: number): Standing {
  if (code === errors.none) return 'member'
  if (code === errors.rebalanceInProgress) return 'rebalance'
  if (code !== errors.unknownMember && code !== errors.illegalGeneration) throw new BrokerError(what, code)
  if (code === errors.unknownMember) member.memberId = ''
  return 'lost'
}

/** Undefined: to be tried again. */
async function joinOnce(member: Member, signal: AbortSignal): Promise<Assigned | undefined> {
  const { coordinator, group } = member
  const protocols = [{ name: protocolName, metadata: encodeSubscription(member.topics) }]
  const joined = await coordinator.ask(
    joinGroupV7.api,
    [group, groupTimes.session, groupTimes.rebalance, member.memberId, null, 'consumer', protocols, null],
    { codeOf: ({ errorCode }) => errorCode, limitMs: rebalanceLimit, patienceMs, signal },
  )
  if (joined.errorCode === errors.memberIdRequired) {
    member.memberId = joined.memberId ?? ''
    return joinOnce(member, signal)
  }
  if (standingOf(member, `joining ${group}`, joined.errorCode) !== 'member') return undefined
  member.memberId = joined.memberId ?? ''
  member.generation = joined.generationId
  const members = joined.members.map((one) => ({ memberId: one.memberId, topics: decodeSubscription(one.metadata) }))
  const isLeader = joined.leader === member.memberId
  return syncWith(member, isLeader ? await dealOut(member.cluster, members) : undefined, signal)
}

async function dealOut(cluster: Cluster, members: readonly GroupMember[]) {
  cluster.forgetLeaders()
  const wanted = [...new Set(members.flatMap((member) => member.topics))]
  const partitions = await partitionsOf(cluster, wanted)
  return { topics: wanted, partitionCount: partitions.length, byMember: deal(members, partitions) }
}

/** Sends the assignments, if this is the leader, and gets the member's own part; undefined: to be tried again. */
async function syncWith(
  member: Member,
  dealt: Awaited<ReturnType<typeof dealOut>> | undefined,
  signal: AbortSignal,
): Promise<Assigned | undefined> {
  const { coordinator, group, generation, memberId } = member
  const assignments = [...(dealt?.byMember ?? [])].map(([id, places]) => ({
    memberId: id,
    assignment: encodeAssignment(places),
  }))
  const synced = await coordinator.ask(
    syncGroupV5.api,
    [group, generation, memberId, null, 'consumer', protocolName, assignments],
    { codeOf: ({ errorCode }) => errorCode, limitMs: rebalanceLimit, patienceMs: groupTimes.session, signal },
  )
  if (standingOf(member, `synchronising with ${group}`, synced.errorCode) !== 'member') return undefined
  return { places: decodeAssignment(synced.assignment), dealt }
}

async function sendHeartbeat(member: Member): Promise<Standing> {
  const { coordinator, group, generation, memberId } = member
  const { errorCode } = await coordinator.ask(heartbeatV4.api, [group, generation, memberId, null], {
    codeOf: (answer) => answer.errorCode,
    limitMs: heartbeatLimit,
  })
  return standingOf(member, 'the heartbeat', errorCode)
}

async function fetchOffsets(
  { coordinator, group }: Pick<Member, 'coordinator' | 'group'>,
  places: readonly Place[],
  signal: AbortSignal,
): Promise<Map<string, bigint>> {
  const wanted = [...Map.groupBy(places, ({ topic }) => topic)].map(([name, ofTopic]) => ({
    name,
    partitionIndexes: ofTopic.map(({ partition }) => partition),
  }))
  const { groups } = await coordinator.ask(
    offsetFetchV8.api,
    [[{ groupId: group, memberEpoch: -1, topics: wanted }], false],
    { codeOf: (answer) => answer.groups[0]?.errorCode ?? 0, limitMs: timeLimit.answer, patienceMs, signal },
  )
  const found = groups.flatMap((one) => {
    throwIfError(`the offsets of ${group}`, one.errorCode)
    return one.topics.flatMap(({ name, partitions }) => partitions.map((partition) => ({ topic: name, ...partition })))
  })
  return new Map(
    found.flatMap(({ topic, partitionIndex: partition, committedOffset, errorCode }) => {
      throwIfError(`the offset of ${topic}/${partition}`, errorCode)
      return committedOffset < 0n ? [] : [[placeOf({ topic, partition }), committedOffset] as const]
    }),
  )
}

async function commitOffsets(
  member: Member,
  offsets: readonly PartitionOffset[],
): Promise<{ standing: Standing; taken: Set<string> }> {
  const { coordinator, group, generation, memberId } = member
  const { topics: answers } = await coordinator.ask(
    offsetCommitV8.api,
    [group, generation, memberId, null, toCommit(offsets)],
    { codeOf: (answer) => answer.topics[0]?.partitions[0]?.errorCode ?? 0, limitMs: groupTimes.session },
  )
  const partitions = answers.flatMap(({ name, partitions: ofTopic }) =>
    ofTopic.map(({ partitionIndex, errorCode }) => ({ topic: name, partition: partitionIndex, errorCode })),
  )
  const ofMembership = partitions.find(({ errorCode }) => membershipErrors.includes(errorCode))
  return {
    standing: standingOf(member, 'committing', ofMembership?.errorCode ?? errors.none),
    taken: new Set(partitions.filter(({ errorCode }) => errorCode === errors.none).map(placeOf)),
  }
}

async function leaveGroup(member: Member, limitMs: number): Promise<void> {
  const { coordinator, group, memberId } = member
  if (memberId === '') return
  const members = [{ memberId, groupInstanceId: null, reason: 'the consumer closes' }]
  await coordinator
    .ask(leaveGroupV5.api, [group, members], { codeOf: ({ errorCode }) => errorCode, limitMs })
    .catch(() => undefined)
  member.memberId = ''
}

/** In order; without the partitions of topics that are not there. */
export async function partitionsOf(cluster: Cluster, topics: readonly string[]): Promise<Place[]> {
  const found = [...(await cluster.leaders(topics)).values()]
  const refusal = topics.map(cluster.refusal).find((one) => one !== undefined)
  if (refusal) throw refusal // it would be a member without partitions, which looks well
  return found.toSorted((one, other) =>
    one.topic === other.topic ? one.partition - other.partition : one.topic < other.topic ? -1 : 1,
  )
}

/** As a request to commit has them. */
export function toCommit(offsets: readonly PartitionOffset[]) {
  return [...Map.groupBy(offsets, ({ topic }) => topic)].map(([name, ofTopic]) => ({
    name,
    partitions: ofTopic.map(({ partition, offset }) => ({
      partitionIndex: partition,
      committedOffset: offset,
      committedLeaderEpoch: -1,
      committedMetadata: '', // as KafkaJS has it; brokers before 2.8 take no null
    })),
  }))
}
