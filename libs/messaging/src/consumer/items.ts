import type { Database } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import type { IncomingMessage } from '../broker/bus.ts'
import { type Consumption, type FailurePolicy, foreignPolicy, type Lane } from '../event/consumption.ts'
import { compactedTopics, MalformedMessage, type Message, readMessage, typeOf } from '../event/envelope.ts'
import { learnMissing } from '../parked/learned-schemas.ts'

/** A message that concerns this service: read, or with the reason why it could not be. */
export interface Item {
  message: IncomingMessage
  event?: Message
  consumption?: Consumption
  problem?: unknown
  policy: FailurePolicy
}

/** What reading takes. */
export interface Reading {
  database: Database<unknown>
  consumptions: ReadonlyMap<string, Consumption>
  logger: Logger
}

/** Looks for a newer writer's schema among those that have arrived; a message whose schema has not is parked. */
export async function readAll(reading: Reading, all: readonly IncomingMessage[]): Promise<Item[]> {
  const { database, consumptions, logger } = reading
  const messages = all.filter(({ headers }) => concernsUs(reading, headers))
  const items = messages.flatMap((message) => toItem(consumptions, message))
  const problems = items.map(({ problem }) => problem)
  const hasLearned = await learnMissing(database.query, problems, logger).catch((error) => {
    logger.warn({ err: error }, 'schemas cannot be looked up now')
    return false
  })
  return hasLearned ? messages.flatMap((message) => toItem(consumptions, message)) : items
}

/** Undefined stands for messages that are no event of ours: they can wait, but take little time. */
export function lanesOf({ consumptions }: Reading, chunk: readonly IncomingMessage[]): Set<Lane | undefined> {
  return new Set(chunk.map(({ headers }) => consumptions.get(typeOf(headers) ?? '')?.policy.lane))
}

function concernsUs({ consumptions }: Reading, headers: IncomingMessage['headers']): boolean {
  const type = typeOf(headers)
  return type === undefined || consumptions.has(type)
}

function toItem(consumptions: Reading['consumptions'], message: IncomingMessage): Item[] {
  const consumption = consumptions.get(typeOf(message.headers) ?? '')
  const compacted = compactedTopics.has(message.topic)
  if (message.value === null && compacted) return [] // a tombstone: compaction forgets the key, replicas are told by an event
  const policy = consumption?.policy ?? foreignPolicy
  try {
    if (message.problem !== undefined) throw new MalformedMessage(message.problem)
    if (!consumption) throw new MalformedMessage('header ce_type is missing')
    return [{ message, event: readMessage(message), consumption, policy }]
  } catch (problem) {
    return [{ message, problem, policy }]
  }
}
