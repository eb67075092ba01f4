import type { Logger } from '@shopstream/observability'
import { pause } from '../../async.ts'
import { isNotAdmitted } from '../bus.ts'
import { closedDoor, closedDoorWords } from './identity.ts'

/** Pause between two signs of life, in ms, and after how long without one the broker counts as away. */
const checkEvery = 2_000
const checkLimit = 7_000

/** Whether a broker answers. */
export interface Pulse {
  /** Throws with the reason when it has not done so lately. */
  check(): void
  isThere(): boolean
}

/** Asks for a sign of life every {@link checkEvery} ms until `stop`, and tells when it goes and comes. */
export function watchBroker(ask: () => Promise<void>, logger: Logger, stop: AbortSignal): Pulse {
  let answered = Number.NEGATIVE_INFINITY
  let problem: string | undefined = 'not connected yet'
  /** Refusals since the last answer: brokers take turns, and each may have its own reason, or none. */
  const told = new Set<string>()
  void (async () => {
    while (!stop.aborted) {
      try {
        await ask()
        if (problem !== undefined) logger.info('Kafka answers')
        answered = performance.now()
        problem = undefined
        told.clear()
      } catch (error) {
        if (stop.aborted) return
        const before: string | undefined = problem
        const isRefused = isNotAdmitted(error) || (answered < 0 && closedDoor(error))
        problem = isRefused && !isNotAdmitted(error) ? closedDoorWords : messageOf(error)
        // Told when it begins, at the start too, and without a stack: there is something for a person to do.
        if (isRefused) {
          if (!told.has(problem)) logger.error(`${problem}; events wait in the outbox`)
          told.add(problem)
        } else if (before === undefined) logger.warn({ err: error }, 'Kafka does not answer; events wait in the outbox')
      }
      await pause(checkEvery, stop)
    }
  })()
  const isThere = () => performance.now() - answered <= checkLimit
  return {
    isThere,
    check() {
      if (!isThere()) throw new Error(`Kafka does not answer: ${problem ?? 'no answer lately'}`)
    },
  }
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))
