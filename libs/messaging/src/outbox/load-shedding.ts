import { type Database, sql } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import { pause } from '../async.ts'
import { publishable } from './outbox.ts'
import { firstOfOutbox } from './outbox-floor.ts'

/** What a service's environment says of its outbox; see `dataSettings` in libs/config. */
export interface OutboxLimits {
  OUTBOX_LIMIT_AGE_SECONDS: number
  OUTBOX_SHED_AGE_SECONDS: number
  OUTBOX_SHED_BYTES: number
}

/** What waits for Kafka. */
export interface OutboxSize {
  /** Age of the oldest event that can be published; 0 where there is none. */
  ageSeconds: number
  /** Of table and indexes on disk, which stay large for a while after the events have gone. */
  bytes: number
}

export interface OutboxVerdict {
  /** Why readiness is degraded. */
  late?: string
  /** Why no new work is taken. */
  overloaded?: string
}

/**
 * What an outbox of this size means. Its bytes count only while events are late: a large table whose events go out is
 * disk that will be used again.
 */
export function judgeOutbox({ ageSeconds, bytes }: OutboxSize, limits: OutboxLimits): OutboxVerdict {
  const { OUTBOX_LIMIT_AGE_SECONDS: late, OUTBOX_SHED_AGE_SECONDS: tooLate, OUTBOX_SHED_BYTES: tooLarge } = limits
  if (ageSeconds < Math.min(late, tooLate)) return {}
  const figures = `the oldest event has waited for Kafka for ${Math.floor(ageSeconds)} s, the outbox has ${Math.ceil(bytes / 1_048_576)} MiB`
  const sheds = ageSeconds >= tooLate || bytes >= tooLarge
  return { late: figures, ...(sheds && { overloaded: `Nothing new is taken now: ${figures}.` }) }
}

const measureMs = 1_000

/**
 * Measures the outbox each second until `stop`, so that no request has to; the returned function gives the verdict on
 * what was measured last. A database that cannot be asked leaves it as it was.
 */
export function watchOutbox(
  database: Database<unknown>,
  limits: OutboxLimits,
  logger: Logger,
  stop: AbortSignal,
): () => OutboxVerdict {
  let verdict: OutboxVerdict = {}
  void (async () => {
    while (!stop.aborted) {
      try {
        const next = judgeOutbox(await measureOutbox(database), limits)
        if (next.overloaded && !verdict.overloaded) logger.error({ reason: next.overloaded }, 'new work is refused')
        if (!next.overloaded && verdict.overloaded) logger.info('new work is taken again')
        verdict = next
      } catch (error) {
        logger.debug({ err: error }, 'the outbox cannot be measured now')
      }
      await pause(measureMs, stop)
    }
  })()
  return () => verdict
}

/**
 * SQL: the age in seconds of the oldest event that can be published, 0 where there is none. Rows that wait for a person (refused, or behind one) do not count.
 */
export const oldestPending = sql<number>`
  coalesce((
    select extract(epoch from now() - created_at)
    from (${sql.raw(firstOfOutbox({ where: publishable, limit: 1 }))}) as oldest), 0)`

/** One look at the outbox and at its file sizes. */
async function measureOutbox(database: Database<unknown>): Promise<OutboxSize> {
  const { rows } = await sql<OutboxSize>`
    select (${oldestPending})::float8 as "ageSeconds", pg_total_relation_size('outbox')::float8 as bytes`.execute(
    database.query,
  )
  return rows[0] ?? { ageSeconds: 0, bytes: 0 }
}
