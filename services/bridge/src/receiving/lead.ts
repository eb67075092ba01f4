import type { Database, Session } from '@shopstream/database'
import { pause } from '@shopstream/messaging'
import type { Logger } from '@shopstream/observability'

const retryMs = 1_000
/** The server ends a session whose holder says nothing for so long, in ms, and with it the lock. */
const lockSession = { idle_session_timeout: 5_000, statement_timeout: 15_000 }

/**
 * Runs `work` while this process is the one of all instances that brings the events of a bridge: two who read side by side
 * would mix the order of a key. `work` ends soon after its signal is aborted, which is when another instance may begin.
 */
export async function whileLeading(
  { database, bridge, logger }: { database: Pick<Database<unknown>, 'session'>; bridge: string; logger: Logger },
  stop: AbortSignal,
  work: (stop: AbortSignal) => Promise<void>,
): Promise<void> {
  while (!stop.aborted) {
    try {
      const session = await database.session(`bridge-${bridge}`, lockSession)
      try {
        await leadOnce(session, bridge, stop, work)
      } finally {
        await session.close().catch(() => undefined) // it is gone already when that fails
      }
    } catch (error) {
      if (!stop.aborted) logger.warn({ err: error }, 'the bridge waits for its database to bring events in')
    }
    await pause(retryMs, stop)
  }
}

async function leadOnce(
  session: Session,
  bridge: string,
  stop: AbortSignal,
  work: (stop: AbortSignal) => Promise<void>,
): Promise<void> {
  while (!stop.aborted && !(await takeLock(session, bridge))) await pause(retryMs, stop)
  if (stop.aborted) return
  const ping = setInterval(() => session.check().catch(() => undefined), retryMs) // a loss shows in `ended`
  try {
    await work(AbortSignal.any([stop, session.ended]))
  } finally {
    clearInterval(ping)
  }
}

async function takeLock(session: Session, bridge: string): Promise<boolean> {
  const [row] = await session.query<{ held: boolean }>('select pg_try_advisory_lock(hashtext($1)) as held', [
    `bridge ${bridge}`,
  ])
  return row?.held === true
}
