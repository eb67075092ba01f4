import type { Logger } from '@shopstream/observability'
import { pause } from '../../async.ts'

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
  void (async () => {
    while (!stop.aborted) {
      try {
        await ask()
        if (problem !== undefined) logger.info('Kafka answers')
        answered = performance.now()
        problem = undefined
      } catch (error) {
        if (stop.aborted) return
        if (problem === undefined) logger.warn({ err: error }, 'Kafka does not answer; events wait in the outbox')
        problem = error instanceof Error ? error.message : String(error)
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
