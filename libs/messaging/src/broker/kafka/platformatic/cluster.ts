import { FindCoordinatorKeyTypes, findCoordinatorV4 } from '@platformatic/kafka'
import { type Place, placeOf } from '../../bus.ts'
import { type BrokerAddress, type ClusterMetadata, metadataRequest } from '../protocol.ts'
import { type Connections, timeLimit } from './connections.ts'
import { BrokerError, errors, throwIfError, Unreachable } from './errors.ts'

/**
 * How old an idea of who leads which partition may be when it is used, in ms: a broker that falls silent (frozen, cut off)
 * says nothing of the leaders that have taken its place.
 */
export const metadataMaxAge = 5_000
/** Time limit in ms of a request that any broker can answer: a frozen one must not delay it. */
export const askLimit = (brokerCount: number) => (brokerCount > 1 ? 3_000 : timeLimit.answer)

export interface LedPartition extends Place {
  /** Undefined: it has none, and `errorCode` says why. */
  leader: BrokerAddress | undefined
  errorCode: number
}

/** Who leads what, and who coordinates whom. */
export interface Cluster {
  /** Partitions by `topic/partition`; without those of topics that are not there. Throws when no broker can be asked. */
  leaders(topics: readonly string[]): Promise<Map<string, LedPartition>>
  /** Why brokers said nothing of a topic's partitions, where that was for want of a right, and not of the topic. */
  refusal(topic: string): BrokerError | undefined
  /** What is known of leaders is not used again. */
  forgetLeaders(): void
  /** Throws {@link BrokerError} when there is none at the time. */
  coordinator(of: 'group' | 'transaction', key: string): Promise<BrokerAddress>
  /** Tries one broker after the other until one answers, first the one that answered last. Throws when none does. */
  atAny<Answer>(ask: (broker: BrokerAddress, limitMs: number) => Promise<Answer>): Promise<Answer>
}

/** @param connections used by nothing else: all need its answers, which must not wait behind slow requests. */
export function createCluster(seeds: readonly BrokerAddress[], connections: Connections): Cluster {
  const known = new Map<string, { at: number; partitions: Promise<LedPartition[]> }>()
  const refused = new Map<string, BrokerError>()
  let members: BrokerAddress[] = []
  let answeredLast: BrokerAddress | undefined

  async function atAny<Answer>(ask: (broker: BrokerAddress, limitMs: number) => Promise<Answer>): Promise<Answer> {
    const first = answeredLast ? [answeredLast] : []
    let problem: unknown
    const brokers = new Map([...first, ...seeds, ...members].map((one) => [`${one.host}:${one.port}`, one]))
    for (const broker of brokers.values()) {
      try {
        const answer = await ask(broker, askLimit(brokers.size))
        answeredLast = broker
        return answer
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error
        if (answeredLast === broker) answeredLast = undefined
        problem = error
      }
    }
    throw problem
  }

  async function askLeaders(topics: readonly string[]): Promise<LedPartition[]> {
    const metadata = await atAny((broker, limit) => connections.send(broker, metadataRequest(topics), limit))
    members = [...metadata.brokers.values()]
    for (const { topic, errorCode } of metadata.topics) {
      if (errorCode === errors.topicAuthorizationFailed) refused.set(topic, new BrokerError(topic, errorCode))
      else refused.delete(topic)
    }
    return ledPartitions(metadata)
  }

  /** Asks for the topics whose leaders are unknown or not recent. */
  function refresh(topics: readonly string[]): void {
    const at = performance.now()
    const stale = topics.filter((topic) => at - (known.get(topic)?.at ?? Number.NEGATIVE_INFINITY) > metadataMaxAge)
    if (stale.length === 0) return
    const asked = askLeaders(stale)
    asked.catch(() => {
      for (const topic of stale) if (known.get(topic)?.at === at) known.delete(topic)
    })
    for (const topic of stale)
      known.set(topic, { at, partitions: asked.then((all) => all.filter((one) => one.topic === topic)) })
  }

  return {
    atAny,
    refusal: (topic) => refused.get(topic),
    forgetLeaders: () => known.clear(),
    async leaders(topics) {
      refresh(topics)
      const partitions = await Promise.all(topics.map((topic) => known.get(topic)?.partitions ?? []))
      return new Map(partitions.flat().map((one) => [placeOf(one), one]))
    },
    async coordinator(of, key) {
      const type = of === 'group' ? FindCoordinatorKeyTypes.GROUP : FindCoordinatorKeyTypes.TRANSACTION
      const { coordinators } = await atAny((broker, limit) =>
        connections.call(broker, findCoordinatorV4.api, [type, [key]], limit),
      )
      const found = coordinators[0]
      if (!found) throw new BrokerError(`the ${of} coordinator`, errors.coordinatorNotAvailable)
      throwIfError(`the ${of} coordinator`, found.errorCode, found.errorMessage)
      return { host: found.host, port: found.port }
    },
  }
}

function ledPartitions({ brokers, topics }: ClusterMetadata): LedPartition[] {
  return topics.flatMap(({ topic, partitions }) =>
    partitions.map(({ partition, leader, errorCode: problem }) => ({
      topic,
      partition,
      leader: brokers.get(leader),
      errorCode: problem || errors.leaderNotAvailable,
    })),
  )
}
