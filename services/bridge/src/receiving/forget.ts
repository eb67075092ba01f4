import { type Database, sql } from '@shopstream/database'
import { pause } from '@shopstream/messaging'
import type { Logger } from '@shopstream/observability'
import type { Tables } from '../tables.ts'

const hourMs = 3_600_000
/** Longer than any source keeps a message that was not acknowledged. */
const rememberedDays = 21
/** Rows that one statement deletes at the most. */
const batchRows = 5_000

/** Forgets the ids of what came in long ago; returns what stops that. */
export function startForgetting(database: Database<Tables>, logger: Logger): () => Promise<void> {
  const stopping = new AbortController()
  const forgetting = (async () => {
    while (!stopping.signal.aborted) {
      const isDone = await forget(database).catch((error) => {
        logger.warn({ err: error }, 'ids of what came in long ago are forgotten later')
        return true
      })
      if (isDone) await pause(hourMs, stopping.signal)
    }
  })()
  return async () => {
    stopping.abort()
    await forgetting
  }
}

async function forget({ query }: Database<Tables>): Promise<boolean> {
  const { numAffectedRows } = await sql`
    delete from received where (source, id) in (
      select source, id from received where received_at < now() - make_interval(days => ${rememberedDays}::integer)
      limit ${batchRows} for update skip locked)`.execute(query)
  return Number(numAffectedRows ?? 0) < batchRows
}
