import type { Database } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import { pause } from '../async.ts'
import type { AssignedPartition, Unreadable } from '../broker/bus.ts'
import type { BlockedPartitions } from './blocked-partitions.ts'
import { lookAgain, type MetUnreadable, meetUnreadable } from './unreadable.ts'

/** How often, in ms, the database is asked whether somebody has decided to step over the unreadable stretch. */
const decisionPauseMs = 2_000
/**
 * Longest pause in ms before an unreadable stretch is fetched again: the topic may have deleted it, or be a new one.
 */
const maxUnreadablePauseMs = 60_000

/** What partitions that stand still share. */
export interface Standing {
  database: Database<unknown>
  logger: Logger
  blocked: BlockedPartitions
}

/**
 * Stops the partition until a person has decided to step over this. The stretch is kept in the database with its bytes,
 * where that person finds it.
 */
export async function standBefore(standing: Standing, found: Unreadable, partition: AssignedPartition): Promise<void> {
  const { database, logger, blocked } = standing
  const { topic, firstOffset, lastOffset, reason } = found
  const noted = await meetUnreadable(database, found).catch((error) => {
    logger.warn({ err: error }, 'what cannot be read could not be noted')
    return undefined
  })
  const offsets = { firstOffset: String(firstOffset), lastOffset: String(lastOffset) }
  const where = { topic, partition: partition.partition, ...offsets }
  if (noted?.isSteppedOver) {
    logger.warn(where, 'what cannot be read is stepped over, as somebody has decided')
    partition.done(lastOffset + 1n)
    blocked.free(partition)
    return
  }
  const problem = new Error(`offsets ${firstOffset} to ${lastOffset} cannot be read: ${reason}`)
  const { attempts, pauseMs } = blocked.failed(
    { topic, partition: partition.partition, offset: firstOffset },
    problem,
    (times) => Math.min(maxUnreadablePauseMs, decisionPauseMs * 2 ** Math.min(times - 1, 10)),
  )
  if (attempts === 1)
    logger.error({ ...where, reason }, 'a partition stands still: what comes next in it cannot be read')
  partition.pause()
  void awaitDecision(standing, noted?.met, pauseMs, partition)
}

/**
 * Resumes a partition once somebody has decided to step over the stretch before it, and after `ms` milliseconds at the
 * latest. Only then is it fetched and unpacked again: up to 16 MiB every two seconds made each service collect garbage
 * all the time.
 */
async function awaitDecision(
  { database, logger }: Standing,
  met: MetUnreadable | undefined,
  ms: number,
  partition: AssignedPartition,
): Promise<void> {
  const until = performance.now() + ms
  while (performance.now() < until && !partition.revoked.aborted) {
    await pause(decisionPauseMs, partition.revoked)
    if (!met || partition.revoked.aborted) break
    const isSteppedOver = await lookAgain(database, met).catch((error) => {
      logger.warn({ err: error }, 'whether somebody has decided cannot be looked up now')
      return false
    })
    if (isSteppedOver !== false) break
  }
  partition.resume()
}
