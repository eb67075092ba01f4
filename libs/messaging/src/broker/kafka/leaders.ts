import { pause } from '../../async.ts'
import { type Place, placeOf } from '../bus.ts'
import { type ApiRequest, type BrokerAddress, type ClusterMetadata, metadataRequest } from './protocol.ts'

/** How a client carries requests to brokers. */
export interface Carrier {
  /** Throws when the broker cannot be reached or does not answer in time. */
  send<Answer>(to: BrokerAddress, request: ApiRequest<Answer>): Promise<Answer>
  /** Kafka's name of an error's number. */
  nameOf(errorCode: number): string
  close(): Promise<void>
}

/** How old an idea of who leads which partition may be when it is used, in ms. */
const metadataMaxAge = 5_000
/** How long a broker that moves partitions is asked again, in ms. */
const askingPatience = 5_000

export const leaderNotAvailable = 5
export const unknownPartition = 3

/** A broker's answer is an error: it cannot serve the request now. */
export class BrokerSaid extends Error {
  constructor(what: string, name: string) {
    super(`${what}: ${name}`)
  }
}

interface Known {
  at: number
  metadata: ClusterMetadata
}

/** Who leads which partition, and requests that go to whoever leads. */
export type Leaders = ReturnType<typeof createLeaders>

export function createLeaders(brokers: readonly BrokerAddress[], carrier: Carrier) {
  const known = new Map<string, Known>()
  let answeredLast: BrokerAddress | undefined

  /** Asks the brokers one after the other, the one that answered last first, as a frozen one takes its time limit. */
  async function askAny<Answer>(request: ApiRequest<Answer>, others: readonly BrokerAddress[] = []): Promise<Answer> {
    let problem: unknown
    for (const broker of [...(answeredLast ? [answeredLast] : []), ...brokers, ...others]) {
      try {
        const answer = await carrier.send(broker, request)
        answeredLast = broker
        return answer
      } catch (error) {
        problem = error
        if (broker === answeredLast) answeredLast = undefined
      }
    }
    throw problem
  }

  async function metadataOf(topics: readonly string[]): Promise<ClusterMetadata> {
    const key = keyOf(topics)
    const found = known.get(key)
    if (found && performance.now() - found.at < metadataMaxAge) return found.metadata
    const metadata = await askAny(metadataRequest(topics), [...(found?.metadata.brokers.values() ?? [])])
    known.set(key, { at: performance.now(), metadata })
    return metadata
  }

  /** All partitions of topics with the broker that leads them. Throws where a topic or a leader is missing. */
  async function ledPartitions(topics: readonly string[]): Promise<(Place & { leader: number })[]> {
    const metadata = await metadataOf(topics)
    return metadata.topics.flatMap(({ topic, errorCode, partitions }) => {
      if (errorCode !== 0 && partitions.length === 0) throw new BrokerSaid(topic, carrier.nameOf(errorCode))
      return partitions.map(({ partition, leader, errorCode: problem }) => {
        if (leader < 0) throw new BrokerSaid(`${topic}/${partition}`, carrier.nameOf(problem || leaderNotAvailable))
        return { topic, partition, leader }
      })
    })
  }

  /** Sends one request to each leader of these partitions. Throws when one says that it cannot answer for one of them. */
  async function askLeaders<Answer extends Place & { errorCode: number }>(
    topics: readonly string[],
    requestFor: (places: Place[]) => ApiRequest<Answer[]>,
  ): Promise<Answer[]> {
    const deadline = performance.now() + askingPatience
    for (;;) {
      try {
        const partitions = await ledPartitions(topics)
        const { brokers: addresses } = await metadataOf(topics)
        const answers = await Promise.all(
          [...Map.groupBy(partitions, ({ leader }) => leader)].map(([leader, places]) =>
            carrier.send(addressOf(addresses, leader), requestFor(places)),
          ),
        )
        const failed = answers.flat().find(({ errorCode }) => errorCode !== 0)
        if (failed) throw new BrokerSaid(placeOf(failed), carrier.nameOf(failed.errorCode))
        return answers.flat()
      } catch (error) {
        known.clear()
        if (!(error instanceof BrokerSaid) || performance.now() > deadline) throw error
        await pause(200)
      }
    }
  }

  return {
    askAny,
    metadataOf,
    ledPartitions,
    askLeaders,
    addressOf: async (topics: readonly string[], node: number) => addressOf((await metadataOf(topics)).brokers, node),
    /** Forgets the leaders of some topics, or of all: they are asked for again. */
    forget: (topics?: readonly string[]) => (topics ? known.delete(keyOf(topics)) : known.clear()),
  }
}

const keyOf = (topics: readonly string[]) => topics.toSorted().join('\n')

function addressOf(addresses: ReadonlyMap<number, BrokerAddress>, node: number): BrokerAddress {
  const address = addresses.get(node)
  if (!address) throw new BrokerSaid(`broker ${node}`, 'it is away')
  return address
}
