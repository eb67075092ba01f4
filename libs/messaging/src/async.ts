import { setTimeout as delay } from 'node:timers/promises'

/** Waits `ms` milliseconds, or until `signal` is aborted, whichever is first. Never throws. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal ? { signal } : {}).catch(() => undefined)
}

/** The promise's outcome, or an error that names `what` after `ms` milliseconds. */
export async function withTimeLimit<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  const limit = Promise.withResolvers<never>()
  const timer = setTimeout(() => limit.reject(new Error(`${what} took longer than ${ms} ms`)), ms)
  try {
    return await Promise.race([promise, limit.promise])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * A wait that ends after `ms` milliseconds, when woken, or when `signal` is aborted, and says whether it was woken; a
 * wake-up in between is not missed.
 */
export function createAlarm(signal: AbortSignal): { wake(): void; wait(ms: number): Promise<boolean> } {
  let woken = false
  let ring = () => {}
  return {
    wake() {
      woken = true
      ring()
    },
    async wait(ms) {
      if (!woken && !signal.aborted) {
        // By no AbortController: each abort makes a DOMException with a stack, which took 2 % of a mail.
        const { promise, resolve } = Promise.withResolvers<void>()
        ring = resolve
        const timer = setTimeout(resolve, ms)
        signal.addEventListener('abort', ring)
        await promise
        clearTimeout(timer)
        signal.removeEventListener('abort', ring)
      }
      const wasWoken = woken
      woken = false
      return wasWoken
    },
  }
}
