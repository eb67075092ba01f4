import type { API } from '@platformatic/kafka'
import { pause } from '../../../async.ts'
import type { BrokerAddress } from '../protocol.ts'
import type { Cluster } from './cluster.ts'
import type { Connections } from './connections.ts'
import { BrokerError, errors, Unreachable } from './errors.ts'

/** Errors of brokers while the coordinator moves, starts, or is still busy with the request before. */
const passing: readonly number[] = [
  errors.coordinatorLoading,
  errors.coordinatorNotAvailable,
  errors.notCoordinator,
  errors.concurrentTransactions,
]

export interface AskOptions<Answer> {
  codeOf(answer: Answer): number
  /** How long it is asked again while there is none or it does not answer, in ms; default: not at all. */
  patienceMs?: number
  /** Ms that it has for an answer. */
  limitMs: number
  signal?: AbortSignal
}

/** The broker that coordinates a group, or the transactions of an id: found when needed, and anew when it has moved. */
export interface Coordinator {
  /** Throws when there is none, or it does not answer; the caller handles all other errors in the answer. */
  ask<Arguments extends unknown[], Answer>(
    api: API<Arguments, Answer>,
    args: Arguments,
    options: AskOptions<Answer>,
  ): Promise<Answer>
}

export function createCoordinator(
  { cluster, connections }: { cluster: Cluster; connections: Connections },
  of: 'group' | 'transaction',
  key: string,
): Coordinator {
  let found: BrokerAddress | undefined

  async function askOnce<Arguments extends unknown[], Answer>(
    api: API<Arguments, Answer>,
    args: Arguments,
    { codeOf, limitMs }: AskOptions<Answer>,
  ): Promise<Answer> {
    const address = found ?? (await cluster.coordinator(of, key))
    found = undefined
    const answer = await connections.call(address, api, args, limitMs)
    const code = codeOf(answer)
    if (passing.includes(code)) throw new BrokerError(`the ${of} coordinator of ${key}`, code)
    found = address
    return answer
  }

  return {
    async ask(api, args, options) {
      const deadline = performance.now() + (options.patienceMs ?? 0)
      for (;;) {
        try {
          return await askOnce(api, args, options)
        } catch (error) {
          const isPassing = error instanceof Unreachable || (error instanceof BrokerError && error.isPassing)
          if (!isPassing || performance.now() > deadline || options.signal?.aborted) throw error
          await pause(200, options.signal)
        }
      }
    },
  }
}
