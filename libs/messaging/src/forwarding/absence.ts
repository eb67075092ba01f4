import type { Logger } from '@shopstream/observability'

/** That is told so often at the most, in ms. */
const tellEveryMs = 60_000

/** Whether the other side of a bridge is away: gone, full, or refusing everything. */
export type Absence = ReturnType<typeof createAbsence>

/** It is told when the other side goes, once in a while, and when it is back. */
export function createAbsence(logger: Logger) {
  let away: { since: Date; reason: string } | undefined
  let toldAt = Number.NEGATIVE_INFINITY
  return {
    /** Since when, and why; undefined: it is there. */
    now: () => away,
    /** With the reason while it is away; without one when it is there. */
    tell(reason?: unknown) {
      if (reason === undefined) {
        if (away) logger.info({ since: away.since.toISOString() }, 'the other side of the bridge is there again')
        away = undefined
        toldAt = Number.NEGATIVE_INFINITY
        return
      }
      const words = reason instanceof Error ? reason.message || reason.name : String(reason)
      away = { since: away?.since ?? new Date(), reason: words }
      if (performance.now() < toldAt + tellEveryMs) return
      toldAt = performance.now()
      logger.warn({ reason: words, since: away.since.toISOString() }, 'the other side of the bridge takes nothing now')
    },
  }
}
