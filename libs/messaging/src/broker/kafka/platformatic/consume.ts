import type { Logger } from '@shopstream/observability'
import { pause, withTimeLimit } from '../../../async.ts'
import { type ConsumeOptions, placeOf } from '../../bus.ts'
import type { StartsOver } from '../consuming.ts'
import type { BusOptions } from '../options.ts'
import type { UnfinishedBatches } from '../unfinished-batches.ts'
import type { Cluster } from './cluster.ts'
import { type Connections, createConnections } from './connections.ts'
import { type Fetching, startFetching } from './fetching.ts'
import { type Assigned, createMembership, type Membership } from './membership.ts'
import { OwnedPartition } from './partition.ts'
import { type StandingWatch, watchStanding } from './standing-in-group.ts'

/** How soon done offsets are committed, in ms. */
const commitEvery = 300
/** How long handlers have to end once told, in ms: less than a rebalance, and a service's closing, may take. */
const handlersLimit = { rebalance: 10_000, closing: 3_000 }
/** What committing and leaving may take at the end, in ms. */
const endLimit = { commit: 1_000, leave: 1_000 }

export interface RunOptions
  extends Pick<BusOptions, 'clientId' | 'identity' | 'ownName' | 'limits'>,
    Pick<ConsumeOptions, 'handle'> {
  cluster: Cluster
  /** Names on the wire. */
  group: string
  topics: readonly string[]
  startsOver: StartsOver
  logger: Logger
  /** Places of partitions that a handler is at work for; kept from one life to the next. */
  inHand: Set<string>
  unfinished: UnfinishedBatches
}

/** A consumer's life: returns when told to stop, throws when it breaks; in both cases it has left the group. */
export async function runConsumer(options: RunOptions, working: () => void, stop: AbortSignal): Promise<void> {
  const { cluster, group, topics } = options
  // Brokers answer what comes in by one connection in order: a heartbeat would wait for a fetch.
  const connections = { group: createConnections(options), fetch: createConnections(options) }
  const membership = createMembership({ cluster, connections: connections.group, group, topics })
  const stopped = Promise.withResolvers<undefined>()
  const onStop = () => stopped.resolve(undefined)
  stop.addEventListener('abort', onStop, { once: true })
  try {
    while (!stop.aborted) {
      const joining = membership.join(stop)
      joining.catch(() => {}) // nobody waits for it any more once told to stop
      const assigned = await Promise.race([joining, stopped.promise])
      if (!assigned || stop.aborted) break
      await workAsMember({ ...options, connections: connections.fetch, membership, working, stop }, assigned)
    }
  } finally {
    stop.removeEventListener('abort', onStop)
    connections.fetch.close()
    connections.group.drop() // behind a join that still waits, the broker would not read the request to leave
    await atMost(endLimit.leave, membership.leave(endLimit.leave))
    connections.group.close()
  }
}

interface MemberOptions extends RunOptions {
  /** For fetching. */
  connections: Connections
  membership: Membership
  working(): void
  stop: AbortSignal
}

/** What a member has in work. */
interface Work {
  partitions: OwnedPartition[]
  fetching?: Fetching
}

/**
 * Works on the assigned partitions until the group rebalances, this member has lost its place, or it is told to stop.
 */
async function workAsMember(options: MemberOptions, { places, dealt }: Assigned): Promise<void> {
  const { membership, stop, logger, group } = options
  const revoking = new AbortController()
  const ending = new AbortController()
  // A member with partitions shows by their answers that it works.
  const working = places.length === 0 ? options.working : () => {}
  const standing = watchStanding({ ...options, working, dealt }, ending.signal)
  const work: Work = { partitions: [] }
  const commit = () => commitDone(membership, work.partitions, standing)
  logger.debug({ group, partitions: places.map(placeOf) }, 'partitions are assigned')
  try {
    const starting = startWork(work, options, places, standing, revoking.signal)
    starting.catch(() => {}) // it may fail when it has ended already
    await Promise.race([starting, standing.ended])
    void regularly(commitEvery, commit, ending.signal)
    await standing.ended
  } finally {
    revoking.abort()
    await handlersEnd(work.fetching?.settled(), stop)
    ending.abort()
    if (standing.outcome !== 'lost') await atMost(endLimit.commit, commit())
    for (const partition of work.partitions) partition.giveUp()
    logger.debug({ group, outcome: standing.outcome }, 'partitions are given up')
  }
}

/** Asks how far the group is, and begins to read from there. */
async function startWork(
  work: Work,
  options: MemberOptions,
  places: Assigned['places'],
  standing: StandingWatch,
  revoked: AbortSignal,
): Promise<void> {
  const { membership, ownName, working, startsOver } = options
  const committed = await membership.committed(places, revoked)
  if (revoked.aborted) return
  work.partitions = places.map((place) => {
    const ownTopic = ownName(place.topic)
    const changed = () => work.fetching?.wake()
    const owned = new OwnedPartition({ ...place, ownTopic, committed: committed.get(placeOf(place)), revoked, changed })
    if (startsOver(place.topic)) owned.position = undefined
    return owned
  })
  const { isLeased, fail: failed } = standing
  const { partitions } = work
  work.fetching = startFetching({ ...options, partitions, isLeased, failed, answered: working, signal: revoked })
}

/** Waits for the handlers, but not too long; what they do after that does not count. */
async function handlersEnd(settled: Promise<void> | undefined, stop: AbortSignal): Promise<void> {
  const over = new AbortController()
  const limit = async () => {
    await pause(handlersLimit.rebalance, AbortSignal.any([stop, over.signal]))
    if (stop.aborted) await pause(handlersLimit.closing, over.signal)
  }
  await Promise.race([settled, limit()])
  over.abort()
}

/**
 * Never throws: an offset that could not be committed is committed next time, unless others have the partition by then.
 */
async function commitDone(
  membership: Membership,
  partitions: readonly OwnedPartition[],
  standing: StandingWatch,
): Promise<void> {
  const wanted = partitions.flatMap((owned) => {
    const offset = owned.uncommitted
    return offset === undefined ? [] : [{ owned, topic: owned.wireTopic, partition: owned.partition, offset }]
  })
  if (wanted.length === 0) return
  try {
    const answer = await membership.commit(wanted.map(({ owned: _, ...offset }) => offset))
    for (const one of wanted) if (answer.taken.has(placeOf(one))) one.owned.isCommitted(one.offset)
    standing.tell(answer.standing)
  } catch {
    // The heartbeat tells when it lasts.
  }
}

async function regularly(ms: number, act: () => Promise<void>, signal: AbortSignal): Promise<void> {
  for (;;) {
    await pause(ms, signal)
    if (signal.aborted) return
    await act()
  }
}

/** Waits for `work`, `ms` milliseconds at most. Never throws. */
async function atMost(ms: number, work: Promise<unknown> | undefined): Promise<void> {
  if (work) await withTimeLimit(work, ms, 'the end').catch(() => undefined)
}
