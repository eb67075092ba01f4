import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'

export interface Patience {
  /** Default 30,000 ms: a condition that a busy machine meets late is met all the same. */
  timeoutMs?: number
  /** Pause between two probes, default 25 ms. */
  everyMs?: number
}

/**
 * Calls `probe` until it returns something truthy, and returns that. A throwing probe counts as "not yet".
 * After `timeoutMs` it throws an error that names `what` was awaited, and the last value or error.
 */
export async function eventually<T>(
  what: string,
  probe: () => T | Promise<T>,
  patience: Patience = {},
): Promise<NonNullable<T>> {
  const { timeoutMs = 30_000, everyMs = 25 } = patience
  const deadline = performance.now() + timeoutMs
  let last: { value: T } | { error: unknown } | undefined
  do {
    const pause = delay(everyMs)
    try {
      last = { value: await within(probe, deadline) }
      if (last.value) return last.value
    } catch (error) {
      last = { error }
    }
    await pause
  } while (performance.now() < deadline)
  const seen =
    last && 'error' in last
      ? `the last attempt failed with ${inspect(last.error, { depth: 3 })}`
      : `the last value was ${inspect(last?.value, { depth: 4 })}`
  throw new Error(`waited ${timeoutMs} ms for ${what}; ${seen}`, last && 'error' in last ? { cause: last.error } : {})
}

/** The probe's result, or an error at the deadline: a probe that hangs must not hide what was awaited. */
async function within<T>(probe: () => T | Promise<T>, deadline: number): Promise<T> {
  const result = probe()
  if (!(result instanceof Promise)) return result
  const stop = new AbortController()
  const late = delay(Math.max(0, deadline - performance.now()), undefined, { signal: stop.signal }).then(() => {
    throw new Error('the probe had not come back by the deadline')
  })
  late.catch(() => {}) // rejected by the abort below once the probe was faster
  try {
    return await Promise.race([result, late])
  } finally {
    stop.abort()
  }
}
