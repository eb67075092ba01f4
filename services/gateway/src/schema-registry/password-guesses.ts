/** Wrong passwords of one client, which come back one by one, all of them within these ms; those of user are as many. */
const limit = { count: 20, ms: 600_000 }
const oneMs = limit.ms / limit.count

/** So many clients are remembered, 1 MB; of more, those that failed first are forgotten. */
const most = 10_000

/**
 * Counts wrong passwords by client, in this process alone: the gateway has no database, and `n` instances let pass `n` times
 * as many. By time that only counts on.
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
