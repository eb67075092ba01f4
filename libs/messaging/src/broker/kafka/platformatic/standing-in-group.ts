import { pause } from '../../../async.ts'
import type { Cluster } from './cluster.ts'
import { type Dealt, groupTimes, type Membership, partitionsOf, type Standing } from './membership.ts'

/** A coordinator that has not answered for so long, in ms, is gone. */
const silenceLimit = 30_000
/** Between two looks for new partitions, in ms. */
const countEvery = 5_000
/** Before the next heartbeat where one got no answer, in ms. */
const retryAfter = 200

/** How one stands in the group since it was last joined. */
export interface StandingWatch {
  /** Whether the group may not have given the partitions to others yet: there was an answer within the session's time. */
  isLeased(): boolean
  /** Resolves when one is no member, has to join again, or is told to stop; rejects when it breaks. */
  readonly ended: Promise<Standing | 'stopped'>
  /** How it ended; undefined: it has not. */
  readonly outcome: Standing | 'stopped' | 'broken' | undefined
  tell(standing: Standing): void
  fail(error: unknown): void
}

export interface WatchOptions {
  membership: Membership
  cluster: Cluster
  dealt: Dealt | undefined
  working(): void
  stop: AbortSignal
}

/** Sends heartbeats until `ending`, also during a rebalance: they keep the membership until the next join. */
export function watchStanding(options: WatchOptions, ending: AbortSignal): StandingWatch {
  const ended = Promise.withResolvers<Standing | 'stopped'>()
  ended.promise.catch(() => {}) // it may end before anybody waits for it
  let outcome: StandingWatch['outcome']
  let confirmed = performance.now()
  const end = (how: Standing | 'stopped') => {
    outcome ??= how
    ended.resolve(how)
  }
  const watch: StandingWatch = {
    isLeased: () => performance.now() - confirmed < groupTimes.session,
    ended: ended.promise,
    get outcome() {
      return outcome
    },
    tell(standing) {
      if (standing === 'lost') outcome = 'lost' // whatever came before
      if (standing !== 'member') end(standing)
    },
    fail(error) {
      outcome ??= 'broken'
      ended.reject(error)
    },
  }
  options.stop.addEventListener('abort', () => end('stopped'), { signal: ending })
  if (options.stop.aborted) end('stopped')
  void beat(options, watch, ending, (at) => {
    confirmed = at
  })
  if (options.dealt) void watchPartitions(options.cluster, options.dealt, watch, ending)
  return watch
}

async function beat(
  { membership, working }: WatchOptions,
  watch: StandingWatch,
  ending: AbortSignal,
  confirm: (at: number) => void,
): Promise<void> {
  let answered = performance.now()
  let wait = groupTimes.heartbeat
  while (watch.outcome !== 'lost') {
    const before = performance.now()
    await pause(wait, ending)
    if (ending.aborted) return
    const sent = performance.now()
    // The process stood still: other members have the partitions by now, as the coordinator will say.
    if (sent - before > groupTimes.session) watch.tell('rebalance')
    wait = groupTimes.heartbeat
    try {
      const standing = await membership.heartbeat()
      if (ending.aborted) return
      answered = performance.now()
      if (standing !== 'lost') confirm(sent)
      working()
      watch.tell(standing)
    } catch (error) {
      if (performance.now() - answered > silenceLimit) watch.fail(error)
      wait = retryAfter
    }
  }
}

/** The member that assigned the partitions assigns them again when there are more: a topic is new, or has grown. */
async function watchPartitions(
  cluster: Cluster,
  { topics, partitionCount }: Dealt,
  watch: StandingWatch,
  ending: AbortSignal,
): Promise<void> {
  while (watch.outcome === undefined) {
    await pause(countEvery, ending)
    if (ending.aborted) return
    const found = await partitionsOf(cluster, topics).catch(() => []) // asked again next time
    if (found.length > partitionCount) watch.tell('rebalance')
  }
}
