import type { SendingPolicy } from './policy.ts'

/**
 * Where the search for due mails begins. While somebody holds a snapshot, the index keeps old entries, and a read from
 * its head walks over all of them: 102,000 pages and 90 to 270 ms a look after 100,000 mails.
 */
export interface DueFloor {
  /** A time of the database, as text, since a Date has no microseconds; `-infinity` for a look at all there is. */
  from(): string
  /** The same, but never `-infinity`: for readers that may miss for half a minute what was committed late. */
  readonly lately: string
  /** Takes the due time of the first mail that a look has found; if it found none, the time of the look. */
  looked(firstDueAt: string): void
}

/**
 * Follows the found mails with a delay: a transaction may commit mails that were due before. Mails of a longer
 * transaction, or of a claim that was rolled back, are found by the next look at everything.
 */
export function createDueFloor({
  floorLagMs,
  lookAtAllMs,
}: Pick<SendingPolicy, 'floorLagMs' | 'lookAtAllMs'>): DueFloor {
  let floor = '-infinity'
  let next: { at: number; dueAt: string } | undefined
  let lookedAtAllAt = Number.NEGATIVE_INFINITY
  return {
    from() {
      if (performance.now() - lookedAtAllAt < lookAtAllMs) return floor
      lookedAtAllAt = performance.now()
      return '-infinity'
    },
    get lately() {
      return floor
    },
    looked(dueAt) {
      const at = performance.now()
      if (next && at - next.at < floorLagMs) return
      if (next) floor = next.dueAt
      next = { at, dueAt }
    },
  }
}
