import { isNativeError } from 'node:util/types'
import { type Database, isUnavailable, signal, sql, type Transaction, tookTooLong } from '@shopstream/database'
import { DecodeError, deadLetterTopic, partitionOf } from '@shopstream/events'
import type { Logger } from '@shopstream/observability'
import { createAlarm, pause } from './async.ts'
import type { IncomingMessage } from './bus.ts'
import { type Consumption, defaultPolicy, type FailurePolicy } from './consumption.ts'
import {
  eventIdOf,
  fromStored,
  MalformedMessage,
  type Message,
  readMessage,
  type StoredHeaders,
  toStored,
  typeOf,
} from './envelope.ts'
import { learnMissing } from './learned-schemas.ts'
import { insertOutbox } from './outbox.ts'

/** Name of the after-commit signal by which the retrier is woken. */
export const parkedSignal = 'parked'

/** A message that goes to the parking lot, and why. */
export interface Parking {
  message: IncomingMessage
  policy: FailurePolicy
  /** Undefined: it only waits behind an earlier one of its key. */
  error: unknown
}

/** Identifies a key within its topic. */
export const keyOf = ({ topic, key }: { topic: string; key: string | null }) => `${topic}\n${key}`

/** Which of these messages' keys are blocked by a parked message; as {@link keyOf} gives them. */
export async function blockedKeys(tx: Transaction, messages: readonly IncomingMessage[]): Promise<Set<string>> {
  const { rows } = await sql<{ topic: string; key: string }>`
    select distinct topic, key from parked_message
    where blocks and topic = any(${[...new Set(messages.map(({ topic }) => topic))]}::text[])
      and key = any(${messages.map(({ key }) => key).filter((key) => key !== null)}::text[])`.execute(tx)
  return new Set(rows.map(keyOf))
}

/** Writes a message to the parking lot. One that is malformed is dead at once. */
export async function park(tx: Transaction, group: string, { message, policy, error }: Parking): Promise<void> {
  const attempts = error === undefined ? 0 : 1
  const fate = fateOf(error, attempts, policy)
  const { rows } = await sql<ParkedRow>`
    insert into parked_message
      (event_id, topic, partition, "offset", key, bytes, headers, state, blocks, attempts, next_attempt_at, error)
    values (${eventIdOf(message.headers) ?? null}, ${message.topic}, ${message.partition}, ${message.offset}, ${message.key},
      ${message.value}, ${JSON.stringify(toStored(message.headers))}, ${fate.state}, ${fate.blocks && message.key !== null},
      ${attempts}, now() + make_interval(secs => ${fate.pauseMs / 1000}::double precision), ${describe(error)})
    on conflict (topic, partition, "offset") do nothing
    returning *`.execute(tx)
  const [row] = rows
  if (row?.state === 'dead') await copyToDeadLetters(tx, group, row)
}

/** Messages that wait for one of these schemas are due at once. */
export async function hastenWaiting(tx: Transaction, schemaIds: readonly number[]): Promise<void> {
  if (schemaIds.length === 0) return
  await sql`
    update parked_message set next_attempt_at = now()
    where state = 'waiting' and substring(bytes from 1 for 5) in (
      select '\\x00'::bytea || int4send(id) from unnest(${schemaIds}::integer[]) as id)`.execute(tx)
  signal(tx, parkedSignal)
}

interface Fate {
  state: 'waiting' | 'dead'
  blocks: boolean
  pauseMs: number
}

/** What becomes of a message after `attempts` failed attempts (0: it has not been tried, it waits behind another). */
export function fateOf(error: unknown, attempts: number, policy: FailurePolicy, random = Math.random()): Fate {
  if (attempts === 0) return { state: 'waiting', blocks: true, pauseMs: 0 }
  // A newer producer's schema arrives with this service's next version: that takes as long as it takes.
  const canWait = error instanceof DecodeError && error.reason === 'unknown-schema'
  if (error instanceof MalformedMessage || (attempts >= policy.attempts && !canWait)) {
    return { state: 'dead', blocks: policy.whenDead === 'block', pauseMs: 0 }
  }
  const backoff = Math.min(policy.maxBackoffMs, policy.backoffMs * 2 ** Math.min(attempts - 1, 30))
  return { state: 'waiting', blocks: true, pauseMs: backoff * (0.8 + 0.4 * random) }
}

function describe(error: unknown): string | null {
  if (error === undefined) return null
  const text = isNativeError(error) ? `${error.name}: ${error.message}` : `thrown: ${String(error)}`
  return text.slice(0, 2_000).replaceAll('\0', '\ufffd').toWellFormed() // what jsonb and text columns take
}

interface ParkedRow {
  id: bigint
  topic: string
  partition: number
  offset: bigint
  key: string | null
  bytes: Buffer | null
  headers: StoredHeaders
  state: 'waiting' | 'dead'
  attempts: number
  error: string | null
}

/** A copy of the original bytes goes to the group's dead-letter topic, so that other tools can see it. */
async function copyToDeadLetters(tx: Transaction, group: string, row: ParkedRow): Promise<void> {
  const topic = deadLetterTopic(group)
  await insertOutbox(tx, [
    {
      topic: topic.name,
      partition: row.key === null ? 0 : partitionOf(row.key, topic.partitions),
      key: row.key,
      value: row.bytes,
      headers: {
        ...row.headers,
        dlq_group: group,
        dlq_topic: row.topic,
        dlq_partition: String(row.partition),
        dlq_offset: String(row.offset),
        dlq_attempts: String(row.attempts),
        dlq_error: row.error ?? '',
      },
    },
  ])
}

export interface RetrierOptions {
  database: Database<unknown>
  group: string
  consumptions: ReadonlyMap<string, Consumption>
  logger: Logger
}

export interface Retrier {
  /** Finishes the message in hand. */
  close(): Promise<void>
}

const pollMs = 500

/**
 * Tries parked messages again when their time has come, the first of each key only. Several instances may run: a row
 * is locked while it is tried.
 */
export function startRetrier({ database, group, consumptions, logger }: RetrierOptions): Retrier {
  const stopping = new AbortController()
  /** In a rolling deployment the other version parks events that this one does not know; they are left to it. */
  const types = [...consumptions.keys()]
  const alarm = createAlarm(stopping.signal)
  const stopListening = database.on(parkedSignal, alarm.wake)

  let trying: bigint | undefined

  /**
   * Lets the others go first after an attempt that ended in trouble of the database; it does not count as one. For longer
   * when the attempt may have brought it about by itself: a handler that computes for seconds stops the whole process.
   */
  async function postpone(tooLong: boolean): Promise<void> {
    if (trying === undefined) return
    await sql`
      update parked_message set next_attempt_at = now() + make_interval(secs => ${tooLong ? 60 : 5})
      where id = ${trying}`.execute(database.query)
  }

  const running = (async () => {
    while (!stopping.signal.aborted) {
      const begun = performance.now()
      try {
        const tried = await database.transaction((tx) => retryNext(tx))
        if (!tried) await alarm.wait(pollMs)
      } catch (error) {
        logger.warn({ err: error }, 'parked messages are tried again later')
        const tooLong = tookTooLong(error, performance.now() - begun)
        await pause(1_000, stopping.signal)
        await postpone(tooLong).catch(() => undefined) // the database is away; the next round tells
      }
    }
  })()

  /** Tries one due message; false when none is due. */
  async function retryNext(tx: Transaction): Promise<boolean> {
    trying = undefined
    const { rows } = await sql<ParkedRow>`
      select * from parked_message as head
      where state = 'waiting' and next_attempt_at <= now()
        and headers->>'ce_type' = any(${types}::text[]) and not exists (
        select 1 from parked_message as earlier
        where earlier.blocks and earlier.topic = head.topic and earlier.key = head.key and earlier.id < head.id)
      order by next_attempt_at
      limit 1
      for update skip locked`.execute(tx)
    const [row] = rows
    if (!row) return false
    trying = row.id
    const { topic, partition, offset, key, bytes } = row
    const message = { topic, partition, offset, key, value: bytes, headers: fromStored(row.headers) }
    const consumption = consumptions.get(typeOf(message.headers) ?? '')
    try {
      await sql`savepoint attempt`.execute(tx)
      if (!consumption) throw new MalformedMessage('this version of the service does not consume it')
      await consumption.handle(tx, [await read(tx, message)])
      await sql`delete from parked_message where id = ${row.id}`.execute(tx)
    } catch (error) {
      if (isUnavailable(error)) throw error
      await sql`rollback to savepoint attempt`.execute(tx)
      await recordFailure(tx, row, error, consumption?.policy ?? defaultPolicy)
    }
    return true
  }

  async function read(tx: Transaction, message: IncomingMessage): Promise<Message> {
    try {
      return readMessage(message)
    } catch (error) {
      if (!(await learnMissing(tx, [error], logger))) throw error
      return readMessage(message)
    }
  }

  async function recordFailure(tx: Transaction, row: ParkedRow, error: unknown, policy: FailurePolicy): Promise<void> {
    // Waiting for a schema was no attempt of the handler's.
    const waited = row.error?.startsWith('DecodeError') && !(error instanceof DecodeError)
    const attempts = waited ? 1 : row.attempts + 1
    const fate = fateOf(error, attempts, policy)
    const failed = { ...row, attempts, error: describe(error), state: fate.state }
    await sql`
      update parked_message set attempts = ${attempts}, error = ${failed.error}, state = ${fate.state}, blocks = ${fate.blocks && row.key !== null},
        next_attempt_at = now() + make_interval(secs => ${fate.pauseMs / 1000}::double precision)
      where id = ${row.id}`.execute(tx)
    const where = { topic: row.topic, partition: row.partition, offset: String(row.offset), attempts }
    if (fate.state === 'dead') {
      await copyToDeadLetters(tx, group, failed)
      logger.error({ err: error, ...where }, 'a message failed for good and is dead')
    } else {
      logger.warn({ err: error, ...where }, 'a parked message failed again')
    }
  }

  return {
    async close() {
      stopping.abort()
      stopListening()
      await running
    },
  }
}
