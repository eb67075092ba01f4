import type { Logger } from '@shopstream/observability'

/** A task that runs again and again, never twice at once. */
export interface Periodic {
  /** Ends it after the run in hand, which is told. */
  stop(): Promise<void>
}

/**
 * Runs `task` every `ms` milliseconds, counted from the end of the run before; the first run is `ms` from now.
 * A failing run is logged and does not end the series: every task here is one that the next run makes good.
 */
export function every(ms: number, name: string, logger: Logger, task: (stop: AbortSignal) => Promise<void>): Periodic {
  const stopping = new AbortController()
  let running: Promise<void> = Promise.resolve()
  let timer = setTimeout(run, ms)

  function run() {
    running = task(stopping.signal)
      .catch((error: unknown) => logger.warn({ err: error, task: name }, 'a periodic task failed and will run again'))
      .then(() => {
        if (!stopping.signal.aborted) timer = setTimeout(run, ms)
      })
  }

  return {
    async stop() {
      stopping.abort()
      clearTimeout(timer)
      await running
    },
  }
}
