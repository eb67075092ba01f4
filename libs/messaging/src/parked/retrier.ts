import { type Database, isUnavailable, type RawBuilder, sql, type Transaction, tookTooLong } from '@shopstream/database'
import { Counter, type Logger, type Registry } from '@shopstream/observability'
import { createAlarm, pause } from '../async.ts'
import type { IncomingMessage } from '../broker/bus.ts'
import { crashPoint } from '../crash-points.ts'
import { type Consumption, type FailurePolicy, foreignPolicy } from '../event/consumption.ts'
import { compactedTopics, fromStored, MalformedMessage, type Message, readMessage, typeOf } from '../event/envelope.ts'
import { recordParked } from '../inbox/inbox.ts'
import { learnMissing } from './learned-schemas.ts'
import {
  copyToDeadLetters,
  describe,
  fateOf,
  missingSchema,
  offsetOf,
  type ParkedRow,
  parkedSignal,
  recordAttempt,
} from './parked.ts'

export interface RetrierOptions {
  database: Database<unknown>
  group: string
  consumptions: ReadonlyMap<string, Consumption>
  logger: Logger
  metrics: Registry
}

export interface Retrier {
  /** Finishes the message in hand. */
  close(): Promise<void>
}

const pollMs = 500
/** Failed attempts of one topic are told so often at the most, in ms; each of them is kept in the database. */
const tellEveryMs = 5_000
/** Among so many of those that have become due last, others than the longest due are looked for. */
const newlyDue = 100

/**
 * Tries parked messages again when their time has come, the first of each key only. Several instances may run: a row
 * is locked while it is tried.
 */
export function startRetrier({ database, group, consumptions, logger, metrics }: RetrierOptions): Retrier {
  const stopping = new AbortController()
  /** In a rolling deployment the other version parks events that this one does not know; they are left to it. */
  const types = [...consumptions.keys()]
  const alarm = createAlarm(stopping.signal)
  const stopListening = database.on(parkedSignal, alarm.wake)
  const tellFailure = createTelling(logger, metrics)

  let trying: ParkedRow | undefined
  /** The message that ran into a time limit of the database last. */
  let slow: bigint | undefined

  /**
   * After an attempt that ended in trouble of the database, which does not count as one, lets the others go first; for
   * longer when it took too long, as it may have brought that about by itself. Where it does so again, it counts as failed.
   */
  async function settleTrouble(row: ParkedRow, error: unknown, tooLong: boolean): Promise<void> {
    const isAgain = tooLong && slow === row.id
    slow = tooLong && !isAgain ? row.id : undefined
    await database.transaction(async (tx) => {
      const { rows } = await sql<ParkedRow>`
        select * from parked_message where id = ${row.id} and state = 'waiting' and next_attempt_at is not null
        for update skip locked`.execute(tx)
      const [current] = rows
      if (!current) return
      const policy = consumptions.get(typeOf(fromStored(current.headers)) ?? '')?.policy ?? foreignPolicy
      if (isAgain) await recordFailure(tx, current, error, policy)
      else
        await sql`
          update parked_message set next_attempt_at = now() + make_interval(secs => ${tooLong ? 60 : 5})
          where id = ${row.id}`.execute(tx)
    })
  }

  const running = (async () => {
    while (!stopping.signal.aborted) {
      const begun = performance.now()
      try {
        const tried = await database.transaction((tx) => retryNext(tx))
        if (tried) crashPoint('retry-committed')
        else await alarm.wait(pollMs)
      } catch (error) {
        logger.warn({ err: error }, 'parked messages are tried again later')
        const tooLong = tookTooLong(error, performance.now() - begun)
        await pause(1_000, stopping.signal)
        if (trying) await settleTrouble(trying, error, tooLong).catch(() => undefined) // the database is away; the next round tells
      }
    }
  })()

  /** Tries one due message; false when none is due. Its end makes the next of its key due. */
  async function retryNext(tx: Transaction): Promise<boolean> {
    trying = undefined
    const row = await nextDue(tx)
    if (!row) return false
    trying = row
    crashPoint('retry-locked')
    const { topic, partition, offset, key, bytes } = row
    const message = { topic, partition, offset, key, value: bytes, headers: fromStored(row.headers) }
    const consumption = consumptions.get(typeOf(message.headers) ?? '')
    try {
      await sql`savepoint attempt`.execute(tx)
      if (!consumption) throw new MalformedMessage('header ce_type is missing')
      const event = await read(tx, message)
      const place = { ...message, offset: row.former_offset ?? row.offset }
      if (compactedTopics.has(topic) || (await recordParked(tx, { id: event.id, message: place })))
        await consumption.handle(tx, [event])
      await sql`
        update parked_message set state = 'handled', ended_at = now(), blocks = false, next_attempt_at = null, waits_for_schema = null
        where id = ${row.id}`.execute(tx)
      crashPoint('retry-handled')
    } catch (error) {
      if (isUnavailable(error)) throw error
      await sql`rollback to savepoint attempt`.execute(tx)
      // Whatever was thrown, `undefined` included, becomes an error, so that it counts as an attempt.
      await recordFailure(
        tx,
        row,
        error ?? new Error('the handler threw nothing'),
        consumption?.policy ?? foreignPolicy,
      )
    }
    return true
  }

  /** Turns so far, and by topic the last one that it had. */
  let turns = 0
  const lastTurns = new Map<string, number>()

  /**
   * What is due longest has every third turn, so that nothing waits for ever. Behind thousands that fail again and again
   * everything else would wait for minutes, so the other turns are for one that has become due just now: of the topic whose
   * last turn is the longest ago, by turns the one that was parked last and the one that was parked first. What waits for a
   * schema comes last: of that a stranger can have written any number.
   */
  async function nextDue(tx: Transaction): Promise<ParkedRow | undefined> {
    turns += 1
    const row =
      (turns % 3 > 0 && (await newlyDueOf(tx, turns % 3 === 1 ? 1 : -1))) ||
      (await longestDue(tx, sql`is null`)) ||
      (await longestDue(tx, sql`is not null`))
    if (row) lastTurns.set(row.topic, turns)
    return row
  }

  const isFirstDue = sql`
    state = 'waiting' and next_attempt_at <= now() and coalesce(headers->>'ce_type' = any(${types}::text[]), true)
      and not exists (
        select 1 from parked_message as earlier
        where earlier.blocks and earlier.topic = head.topic and earlier.key = head.key and earlier.id < head.id)`

  async function longestDue(tx: Transaction, schema: RawBuilder<unknown>): Promise<ParkedRow | undefined> {
    const { rows } = await sql<ParkedRow>`
      select * from parked_message as head
      where ${isFirstDue} and waits_for_schema ${schema}
      order by next_attempt_at
      limit 1
      for update skip locked`.execute(tx)
    return rows[0]
  }

  /** Undefined also where another instance has it: the longest due is tried then. Headers of a hundred could be 400 MiB. */
  async function newlyDueOf(tx: Transaction, direction: 1 | -1): Promise<ParkedRow | undefined> {
    const { rows: candidates } = await sql<{ id: bigint; topic: string }>`
      select id, topic from parked_message
      where state = 'waiting' and next_attempt_at <= now() and waits_for_schema is null
      order by next_attempt_at desc
      limit ${newlyDue}`.execute(tx)
    const lastTurn = ({ topic }: { topic: string }) => lastTurns.get(topic) ?? 0
    const [chosen] = candidates.toSorted(
      (one, other) => lastTurn(one) - lastTurn(other) || direction * Number(other.id - one.id),
    )
    if (!chosen) return undefined
    const { rows } = await sql<ParkedRow>`
      select * from parked_message as head where id = ${chosen.id} and ${isFirstDue} for update skip locked`.execute(tx)
    return rows[0]
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
    const missing = missingSchema(error)
    const hasWaited = row.waits_for_schema !== null
    // Waiting for a schema was no attempt of the handler's.
    const attempts = hasWaited && missing === undefined ? 1 : row.attempts + 1
    const fate = fateOf(error, attempts, policy)
    const failed = { ...row, attempts, error: describe(error), state: fate.state }
    await sql`
      update parked_message set attempts = ${attempts}, error = ${failed.error}, state = ${fate.state},
        blocks = ${fate.blocks && row.key !== null}, waits_for_schema = ${fate.state === 'waiting' ? (missing ?? null) : null},
        next_attempt_at = case when ${fate.state} = 'waiting' then now() + make_interval(secs => ${fate.pauseMs / 1000}::double precision) end
      where id = ${row.id}`.execute(tx)
    if (!hasWaited || row.waits_for_schema !== missing) await recordAttempt(tx, row.id, error)
    crashPoint('attempt-recorded')
    if (fate.state === 'dead') await copyToDeadLetters(tx, group, [failed])
    tellFailure(failed, error)
  }

  return {
    async close() {
      stopping.abort()
      stopListening()
      await running
    },
  }
}

/** Counts failed attempts, and tells the first of a topic in a while, with how many there were since the last that was told. */
function createTelling(logger: Logger, registry: Registry) {
  const failed = new Counter({
    name: 'shopstream_parked_attempts_failed_total',
    help: 'Failed attempts at parked messages, by what became of them: waiting for another one, or dead.',
    labelNames: ['topic', 'state'],
    registers: [registry],
  })
  const told = new Map<string, { at: number; messages: number }>()
  return (row: ParkedRow, error: unknown): void => {
    const { topic, partition, state, attempts } = row
    failed.inc({ topic, state })
    const kind = `${topic} ${state}`
    const now = performance.now()
    const last = told.get(kind)
    const messages = (last?.messages ?? 0) + 1
    if (last && now < last.at + tellEveryMs) {
      last.messages = messages
      return
    }
    told.set(kind, { at: now, messages: 0 })
    const what = { err: error, topic, partition, offset: offsetOf(row), attempts, messages }
    if (state === 'dead') logger.error(what, 'a message failed for good and is dead')
    else logger.warn(what, 'a parked message failed again')
  }
}
