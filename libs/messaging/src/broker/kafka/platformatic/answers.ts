import type { Logger } from '@shopstream/observability'
import type { createAlarm } from '../../../async.ts'
import { type IncomingBatch, placeOf } from '../../bus.ts'
import type { DecodingLimits } from '../log-record.ts'
import { toMessage } from '../messages.ts'
import type { BrokerAddress, FetchedPartition } from '../protocol.ts'
import { type Budget, decodeRecords } from '../records.ts'
import type { UnfinishedBatches } from '../unfinished-batches.ts'
import { BrokerError, errors } from './errors.ts'
import type { OwnedPartition } from './partition.ts'

/** Pause before a partition is fetched again that cannot be read now, or whose handler made no progress, in ms. */
export const restMs = 250

export interface AnswerOptions {
  /** Places of partitions that a handler is at work for, also of former generations; shared by them. */
  inHand: Set<string>
  unfinished: UnfinishedBatches
  limits: DecodingLimits
  logger: Logger
  handle(batch: IncomingBatch, partition: OwnedPartition): Promise<void>
  /** Told when a handler has thrown, which it must not, and of what does not pass by itself. */
  failed(error: unknown): void
}

/** What takes answers in: it unpacks them, and hands them to handlers. */
export interface Intake extends AnswerOptions {
  /** What handlers are doing. */
  working: Set<Promise<void>>
  /** Told when a partition cannot be read where it was asked for. */
  leadersHaveMoved(): void
}

/** A broker that is asked, and what it has sent that is still in hand, in bytes as they came and unpacked. */
export interface Lane {
  broker: BrokerAddress
  alarm: ReturnType<typeof createAlarm>
  packed: number
  unpacked: number
  /** The next answer does not fit beside that: it waits until a handler ends, and all others wait with it. */
  isFull: boolean
}

export interface Answer extends FetchedPartition {
  owned: OwnedPartition
}

export const placeOfOwned = ({ wireTopic, partition }: OwnedPartition) => placeOf({ topic: wireTopic, partition })

/** Returns what handlers are doing with the answers. */
export function takeIn(intake: Intake, lane: Lane, answers: readonly Answer[]): Promise<void>[] {
  const before = lane.unpacked
  const budget = { left: intake.limits.batchBytes - before, isBegun: before > 0 }
  const handling = answers.flatMap((answer) => {
    const { owned, errorCode, records } = answer
    if (errorCode === errors.none) return records.length > 0 ? giveOut(intake, lane, answer, budget) : []
    if (errorCode === errors.offsetOutOfRange) {
      intake.logger.warn(
        { topic: owned.topic, partition: owned.partition, offset: String(owned.position) },
        'the offset is not in the log any more; reading goes on where it starts',
      )
      owned.position = undefined
    } else cannotBeRead(intake, owned, errorCode)
    return []
  })
  lane.isFull = before > 0 && budget.left <= 0 && handling.length === 0
  return handling
}

export function cannotBeRead(
  { logger, failed, leadersHaveMoved }: Pick<Intake, 'logger' | 'failed' | 'leadersHaveMoved'>,
  owned: OwnedPartition,
  errorCode: number,
): void {
  const problem = new BrokerError(placeOfOwned(owned), errorCode)
  logger.debug({ err: problem, topic: owned.topic, partition: owned.partition }, 'cannot be read now')
  if (!problem.isPassing) failed(problem)
  owned.restsUntil = performance.now() + restMs
  leadersHaveMoved()
}

/** Unpacks what `budget` allows, and hands it over. */
function giveOut(intake: Intake, lane: Lane, answer: Answer, budget: Budget): Promise<void>[] {
  const { limits, unfinished, working } = intake
  const { owned, records: bytes, aborted } = answer
  const from = owned.position ?? 0n
  const before = budget.left
  const {
    records,
    next = from,
    unreadable,
  } = decodeRecords(bytes, from, aborted, limits, budget, {
    of: unfinished,
    place: placeOfOwned(owned),
  })
  if (unreadable || next > from) owned.servedAt = performance.now()
  const messages = records.map((record) => toMessage({ topic: owned.topic, partition: owned.partition }, record))
  if (messages.length === 0 && !unreadable) {
    owned.done(next) // nothing for consumers
    return []
  }
  const place = { topic: owned.topic, partition: owned.partition }
  const batch = { messages, next, ...(unreadable && { unreadable: { ...place, ...unreadable } }) }
  const handling = handOver(intake, lane, owned, batch, { packed: bytes.length, unpacked: before - budget.left })
  working.add(handling)
  void handling.then(() => working.delete(handling))
  return [handling]
}

/** Never throws. */
async function handOver(
  intake: Intake,
  lane: Lane,
  owned: OwnedPartition,
  batch: IncomingBatch,
  size: { packed: number; unpacked: number },
): Promise<void> {
  const { inHand } = intake
  const place = placeOfOwned(owned)
  const from = owned.position
  inHand.add(place)
  lane.packed += size.packed
  lane.unpacked += size.unpacked
  try {
    await intake.handle(batch, owned)
  } catch (error) {
    intake.failed(error)
  } finally {
    inHand.delete(place)
    lane.packed -= size.packed
    lane.unpacked -= size.unpacked
    lane.isFull = false
    if (owned.position === from) owned.restsUntil = performance.now() + restMs
    lane.alarm.wake()
  }
}
