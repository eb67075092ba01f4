import type { SendingPolicy } from './policy.ts'

/**
 * From where mails that are due are looked for. While somebody holds a snapshot, the index keeps what was due before, and
 * whoever reads it from its head walks over all of that: 102,000 pages and 90 to 270 ms a look after 100,000 mails.
 */
export interface DueFloor {
  /** A time of the database, as text, since a Date has no microseconds; `-infinity` for a look at all there is. */
  from(): string
  /** The same, but never for a look at all there is: for those who may miss for half a minute what was committed late. */
  readonly lately: string
  /** To be told when the first mail was due that a look has found; of one that found none, the time of the look. */
  looked(firstDueAt: string): void
}

/**
 * Follows what was found for some time: a transaction may commit mails that were due before. Those of one that took
 * longer than that, or of a claim that was rolled back, are found by the next look at all there is.
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
