import type { Logger } from '@shopstream/observability'

/** That is told so often at the most, in ms. */
const tellEveryMs = 60_000
/** What has not been said again for so long is not so any more: its partition has moved, or its message was given up. In ms. */
const saidForMs = 75_000

/** Whether the other side of a bridge is away, full, or refuses everything: for some of what is handed on, or for all. */
export type Absence = ReturnType<typeof createAbsence>

/** It is logged when the other side goes, once in a while, and when it is back. */
export function createAbsence(logger: Logger) {
  /** By what it was said of, such as a partition. */
  const said = new Map<string, { since: Date; reason: string; again: number }>()
  let toldAt = Number.NEGATIVE_INFINITY

  /** What has lasted longest. */
  function now(): { since: Date; reason: string } | undefined {
    const ago = performance.now() - saidForMs
    for (const [place, { again }] of said) if (again < ago) said.delete(place)
    const [oldest] = [...said.values()].sort((a, b) => a.since.getTime() - b.since.getTime())
    return oldest && { since: oldest.since, reason: oldest.reason }
  }

  return {
    /** Since when, and why; undefined: it is there. */
    now,
    /** Somebody else has this place now, and says how it is. */
    leave(place: string) {
      said.delete(place)
    },
    /** With the reason while it is away for `place`; without one once it is there. */
    tell(place: string, reason?: unknown) {
      if (reason === undefined) {
        const was = said.get(place)
        if (was && said.delete(place) && said.size === 0) {
          logger.info({ since: was.since.toISOString() }, 'the other side of the bridge is there again')
        }
        return
      }
      const words = reason instanceof Error ? reason.message || reason.name : String(reason)
      said.set(place, { since: said.get(place)?.since ?? new Date(), reason: words, again: performance.now() })
      if (performance.now() < toldAt + tellEveryMs) return
      toldAt = performance.now()
      logger.warn(
        { reason: words, since: now()?.since.toISOString() },
        'the other side of the bridge takes nothing now',
      )
    },
  }
}
