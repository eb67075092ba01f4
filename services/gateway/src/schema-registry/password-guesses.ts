/** Wrong passwords a client may use; they come back one by one, all within these ms. The user service has the same. */
const limit = { count: 20, ms: 600_000 }
const oneMs = limit.ms / limit.count

/** Most clients that are remembered (1 MB); beyond that, those that failed first are forgotten. */
const most = 10_000

/**
 * Counts wrong passwords by client, in this process only: the gateway has no database, and `n` instances allow `n`
 * times as many. It uses a clock that is never set back.
 */
export function countGuesses() {
  /** When all that a client has used will have come back. */
  const wholeAt = new Map<string, number>()
  return {
    /** Whole seconds until a client may guess again; 0 when it may now. */
    secondsUntil: (client: string): number =>
      Math.max(0, Math.ceil(((wholeAt.get(client) ?? 0) - performance.now() - limit.ms + oneMs) / 1_000)),
    failed(client: string): void {
      const whole = Math.max(wholeAt.get(client) ?? 0, performance.now()) + oneMs
      wholeAt.delete(client) // to the end of the order
      wholeAt.set(client, whole)
      for (const first of wholeAt.keys()) {
        if (wholeAt.size <= most) break
        wholeAt.delete(first)
      }
    },
  }
}
