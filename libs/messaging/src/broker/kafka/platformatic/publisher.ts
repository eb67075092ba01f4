import { initProducerIdV4 } from '@platformatic/kafka'
import { type Delivery, type OutgoingMessage, type Publisher, PublisherFenced } from '../../bus.ts'
import type { Cluster } from './cluster.ts'
import type { Connections } from './connections.ts'
import { type Coordinator, createCoordinator } from './coordinator.ts'
import { errors, throwIfError } from './errors.ts'
import { brokerErrorOf, type Producer, type ProducerIdentity, publishFollowing } from './produce.ts'

/** In ms. */
const beginLimits = { patience: 10_000, answer: 5_000 }
/** Of transactions, of which there are none, in ms. */
const transactionLimit = 60_000
/**
 * A publisher begins again so often, in ms: a coordinator that has heard nothing for a week (transactional.id.expiration.ms)
 * forgets the name, and would give the next one another id, which fences nobody.
 */
const beginEvery = 12 * 3_600_000

/** What a coordinator answers to somebody in whose place another one has begun; or who has been forgotten, which is the same. */
const fencing: readonly number[] = [errors.invalidProducerEpoch, errors.producerFenced, errors.invalidProducerIdMapping]

/**
 * A publisher by name: the coordinator of transactions gives each one that begins the name's producer id and an epoch that
 * is higher by one, and brokers take no batch of an epoch behind one of a later epoch. There are no transactions: those cost
 * several times as much, and hide from consumers what comes behind one that is open.
 *
 * Whoever has begun, and does not know what became of a batch, begins again by naming its epoch (KIP-360), so that the
 * coordinator refuses it when somebody else has begun meanwhile: one that was frozen cannot put its successor out.
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
