import { type Database, isUnavailable, sql, type Transaction, tookTooLong } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import { createAlarm, pause } from '../async.ts'
import { type IncomingMessage, NotNow } from '../broker/bus.ts'
import { crashPoint } from '../crash-points.ts'
import { type Consumption, type FailurePolicy, foreignPolicy } from '../event/consumption.ts'
import { compactedTopics, fromStored, MalformedMessage, type Message, readMessage, typeOf } from '../event/envelope.ts'
import { type ConsumptionMeters, type Counted, type Outcome, typeLabelOf } from '../event/meters.ts'
import { inTrace } from '../event/tracing.ts'
import { recordParked } from '../inbox/inbox.ts'
import { isAnyDue, nextDue, type Scope, type Turns, turnsOf } from './due.ts'
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
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any>
  group: string
  handling: ParkedHandling
  logger: Logger
}

/** Which parked messages are tried, and what an attempt is. */
export interface ParkedHandling {
  scope: Scope
  policyOf(message: IncomingMessage): FailurePolicy
  /**
   * An attempt, in a transaction that also notes its success. What it throws counts as failed, but for trouble of the
   * database and {@link NotNow}.
   */
  handle(tx: Transaction, message: IncomingMessage): Promise<Tried>
  meters: Pick<ConsumptionMeters, 'count' | 'failedAgain'>
}

/** A message that was tried, and what became of its event, if that is over. */
export type Tried = Counted & { outcome?: Outcome }

export interface Retrier {
  /** Finishes the message in hand. */
  close(): Promise<void>
}

const pollMs = 500
/** Failed attempts of one topic are logged this often at most, in ms; the database keeps each of them. */
const tellEveryMs = 5_000

/** What attempts share. */
interface Attempts extends RetrierOptions {
  turns: Turns
  tellFailure: ReturnType<typeof createTelling>
  /** The message in hand, or the last one that was. */
  trying: ParkedRow | undefined
  /** The message that ran into a time limit of the database last. */
  slow: bigint | undefined
}

/**
 * Tries parked messages again when their time has come, the first of each key only. Several instances may run: a row
 * is locked while it is tried.
 */
export function startRetrier(options: RetrierOptions): Retrier {
  const { database, handling, logger } = options
  const stopping = new AbortController()
  const alarm = createAlarm(stopping.signal)
  const stopListening = database.on(parkedSignal, alarm.wake)
  const attempts: Attempts = {
    ...options,
    turns: turnsOf(handling.scope),
    tellFailure: createTelling(logger),
    trying: undefined,
    slow: undefined,
  }

  const running = (async () => {
    let mayBeDue = true
    while (!stopping.signal.aborted) {
      const begun = performance.now()
      try {
        // Most looks find nothing: one statement says so, where a transaction that looks whose turn it is has five.
        const tried: Tried | undefined | false =
          (mayBeDue || (await isAnyDue(database))) && (await database.transaction((tx) => retryNext(attempts, tx)))
        mayBeDue = tried ? true : await alarm.wait(pollMs)
        if (!tried) continue
        crashPoint('retry-committed')
        if (tried.outcome) handling.meters.count([tried], tried.outcome)
      } catch (error) {
        logger.warn({ err: error }, 'parked messages are tried again later')
        mayBeDue = true
        const tooLong = tookTooLong(error, performance.now() - begun)
        await pause(1_000, stopping.signal)
        const { trying } = attempts
        if (trying) await settleTrouble(attempts, trying, error, tooLong).catch(() => undefined) // the database is away; the next round tells
      }
    }
  })()

  return {
    async close() {
      stopping.abort()
      stopListening()
      await running
    },
  }
}

/**
 * After an attempt that failed because of the database, which does not count, lets the others go first; for longer if
 * it took too long, as it may have caused that itself. If it takes too long again, it counts as failed.
 */
async function settleTrouble(attempts: Attempts, row: ParkedRow, error: unknown, tooLong: boolean): Promise<void> {
  const { database, handling } = attempts
  const isAgain = tooLong && attempts.slow === row.id
  attempts.slow = tooLong && !isAgain ? row.id : undefined
  await database.transaction(async (tx) => {
    const { rows } = await sql<ParkedRow>`
      select * from parked_message where id = ${row.id} and state = 'waiting' and next_attempt_at is not null
      for update skip locked`.execute(tx)
    const [current] = rows
    if (!current) return
    if (isAgain) await recordFailure(attempts, tx, current, error, handling.policyOf(messageOf(current)))
    else
      await sql`
        update parked_message set next_attempt_at = now() + make_interval(secs => ${tooLong ? 60 : 5})
        where id = ${row.id}`.execute(tx)
  })
}

/**
 * Tries one due message, and returns it with what became of its event, if that is over; undefined when none is due. Its end
 * makes the next of its key due.
 */
async function retryNext(attempts: Attempts, tx: Transaction): Promise<Tried | undefined> {
  attempts.trying = undefined
  const row = await nextDue(tx, attempts.turns)
  if (!row) return undefined
  attempts.trying = row
  crashPoint('retry-locked')
  const message = messageOf(row)
  try {
    await sql`savepoint attempt`.execute(tx)
    const tried = await attempts.handling.handle(tx, message)
    await sql`
      update parked_message set state = 'handled', ended_at = now(), blocks = false, next_attempt_at = null, waits_for_schema = null
      where id = ${row.id}`.execute(tx)
    crashPoint('retry-handled')
    return tried
  } catch (error) {
    if (isUnavailable(error) || error instanceof NotNow) throw error
    await sql`rollback to savepoint attempt`.execute(tx)
    // Whatever was thrown, `undefined` included, becomes an error, so that it counts as an attempt.
    const problem = error ?? new Error('the handler threw nothing')
    await recordFailure(attempts, tx, row, problem, attempts.handling.policyOf(message))
    return { message }
  }
}

/** As it came. */
const messageOf = ({ topic, partition, offset, former_offset, key, bytes, headers }: ParkedRow): IncomingMessage => ({
  topic,
  partition,
  offset: former_offset ?? offset,
  key,
  value: bytes,
  headers: fromStored(headers),
})

interface Handlers {
  consumptions: ReadonlyMap<string, Consumption>
  meters: ConsumptionMeters
  logger: Logger
}

/** What a service parks goes to its own handlers; what has taken effect meanwhile does not. */
export function handlingBy({ consumptions, meters, logger }: Handlers): ParkedHandling {
  const consumptionOf = ({ headers }: IncomingMessage) => consumptions.get(typeOf(headers) ?? '')
  return {
    scope: { types: [...consumptions.keys()] },
    policyOf: (message) => consumptionOf(message)?.policy ?? foreignPolicy,
    async handle(tx, message) {
      const consumption = consumptionOf(message)
      if (!consumption) throw new MalformedMessage('header ce_type is missing')
      const event = await readParked(tx, message, logger)
      const isFresh = compactedTopics.has(message.topic) || (await recordParked(tx, { id: event.id, message }))
      if (isFresh) {
        const stop = meters.handling(event.type, 1)
        await inTrace([event], (traced) => consumption.handle(tx, traced)).finally(stop)
      }
      return { message, event, outcome: isFresh ? 'handled' : 'repeated' }
    },
    meters,
  }
}

/** Reads a message by a schema that may have arrived meanwhile. */
export async function readParked(tx: Transaction, message: IncomingMessage, logger: Logger): Promise<Message> {
  try {
    return readMessage(message)
  } catch (error) {
    if (!(await learnMissing(tx, [error], logger))) throw error
    return readMessage(message)
  }
}

async function recordFailure(
  { group, handling, tellFailure }: Attempts,
  tx: Transaction,
  row: ParkedRow,
  error: unknown,
  policy: FailurePolicy,
): Promise<void> {
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
  handling.meters.failedAgain({ topic: row.topic, type: typeLabelOf(fromStored(row.headers)), state: fate.state })
  tellFailure(failed, error)
}

/** Tells the first failed attempt of a topic in a while, with how many there were since the last that was told. */
function createTelling(logger: Logger) {
  const told = new Map<string, { at: number; messages: number }>()
  return (row: ParkedRow, error: unknown): void => {
    const { topic, partition, state, attempts } = row
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
