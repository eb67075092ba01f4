import { initProducerIdV4 } from '@platformatic/kafka'
import { type Delivery, type OutgoingMessage, type Publisher, PublisherFenced } from '../../bus.ts'
import type { Cluster } from './cluster.ts'
import type { Connections } from './connections.ts'
import { type Coordinator, createCoordinator } from './coordinator.ts'
import { errors, throwIfError } from './errors.ts'
import { brokerErrorOf, type Producer, type ProducerIdentity, publishFollowing } from './produce.ts'

/** In ms. */
const beginLimits = { patience: 10_000, answer: 5_000 }
/** Transaction timeout in ms; no transaction is ever begun. */
const transactionLimit = 60_000
/**
 * How often a publisher begins again, in ms. A coordinator that has heard nothing for a week
 * (transactional.id.expiration.ms) forgets the name, and gives the next publisher another id, which fences nobody.
 */
const beginEvery = 12 * 3_600_000

/** Errors for a publisher that another one has replaced, or that was forgotten, which is the same. */
const fencing: readonly number[] = [errors.invalidProducerEpoch, errors.producerFenced, errors.invalidProducerIdMapping]

/**
 * A publisher by name. The transaction coordinator gives each new one the name's producer id and the next higher epoch,
 * and brokers refuse a batch of an old epoch after one of a later epoch. There are no transactions: they cost several
 * times as much, and an open one hides the records behind it from consumers.
 *
 * A publisher that does not know whether a batch was written begins again by naming its epoch (KIP-360). The
 * coordinator refuses that when another one has begun meanwhile: a frozen publisher cannot displace its successor.
 */
export function createPublisher(
  name: string,
  parts: { cluster: Cluster; connections: Connections; producer: Producer },
  until?: AbortSignal,
): Publisher {
  const coordinator = createCoordinator(parts, 'transaction', name)
  let identity: (ProducerIdentity & { since: number }) | undefined
  let fenced: PublisherFenced | undefined
  let former: Promise<unknown> = Promise.resolve()

  async function usableIdentity(): Promise<ProducerIdentity> {
    const isUsable = identity && !identity.isUncertain && performance.now() - identity.since < beginEvery
    if (!identity || !isUsable) identity = await begin(coordinator, name, identity)
    return identity
  }

  async function publish<M extends OutgoingMessage>(messages: readonly M[]): Promise<Delivery<M>[]> {
    if (fenced) throw fenced
    try {
      const deliveries = await publishFollowing(messages, async (some) => {
        until?.throwIfAborted()
        return parts.producer.publish(some, await usableIdentity())
      })
      const refused = deliveries.find(({ error }) => isFencing(error))
      if (refused) throw refused.error
      return deliveries
    } catch (error) {
      if (!isFencing(error)) throw error
      fenced = new PublisherFenced(`another publisher ${name} has begun`, { cause: error })
      throw fenced
    }
  }

  return {
    /** One after the other: beginning again in between would change the sequences of what is under way. */
    publish(messages) {
      const publishing = former.then(() => publish(messages))
      former = publishing.catch(() => undefined)
      return publishing
    },
    close: async () => {
      await former
    },
  }
}

const isFencing = (error: unknown) => fencing.includes(brokerErrorOf(error)?.code ?? errors.none)

async function begin(coordinator: Coordinator, name: string, known: ProducerIdentity | undefined) {
  const { errorCode, producerId, producerEpoch } = await coordinator.ask(
    initProducerIdV4.api,
    [name, transactionLimit, known?.producerId ?? -1n, known?.epoch ?? -1],
    {
      codeOf: (answer) => answer.errorCode,
      patienceMs: beginLimits.patience,
      limitMs: beginLimits.answer,
    },
  )
  throwIfError(`beginning as ${name}`, errorCode)
  return { producerId, epoch: producerEpoch, sequences: new Map(), isUncertain: false, since: performance.now() }
}
