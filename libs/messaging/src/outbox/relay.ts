import { adviceOn, type Database, type Session } from '@shopstream/database'
import { partitionOf } from '@shopstream/events'
import { Counter, Gauge, Histogram, type Logger, type Registry } from '@shopstream/observability'
import { createAlarm, pause, withTimeLimit } from '../async.ts'
import {
  type Bus,
  type Delivery,
  isNotAdmitted,
  MessageRefused,
  type OutgoingMessage,
  type Publisher,
  placeOf,
} from '../broker/bus.ts'
import { crashPoint } from '../crash-points.ts'
import { fromStored, type StoredHeaders } from '../event/envelope.ts'
import { labelsOf, typeLabelOf } from '../event/meters.ts'
import { tellSending } from '../event/tracing.ts'
import { outboxSignal, publishable } from './outbox.ts'
import {
  checkFloor,
  createOutboxFloor,
  createRestingFloor,
  firstOfOutbox,
  type OutboxFloor,
  type RestingFloor,
} from './outbox-floor.ts'
import { createPlacing, type Placing } from './topic-partitions.ts'

export interface RelayOptions {
  database: Database<unknown>
  service: string
  bus: Bus
  /** Whose counters begin at 0. */
  produces?: { readonly events: readonly string[] }
  logger: Logger
  metrics: Registry
}

export interface Relay {
  /** Throws, in words, while the database refuses it for good, or a pooler gives it no session of its own. */
  check(): void
  /** Publishes what is left, as far as the broker takes it within a second, then lets go of the lock. */
  close(): Promise<void>
}

/** A partition for which the broker accepts nothing now. */
interface Resting {
  topic: string
  partition: number
  /** By `performance.now()`. */
  until: number
  pauseMs: number
}

/** Pauses of a partition that the broker does not take, in ms; doubled each time. */
const restMs = { first: 500, longest: 10_000 }

interface PendingRow extends OutgoingMessage {
  id: bigint
  /** Number of rows that were found; only as many are read as fit into a batch. */
  pending: number
}

/** Higher than any. */
const lastId = 2n ** 63n - 1n
const batchRows = 500
/** A record batch may have 1 MiB at the broker; this leaves room for what {@link rowBytes} guesses. */
const batchBytes = 700_000
/**
 * SQL: about the bytes of a row's message. Our own headers have about 450; those of a dead-letter copy are foreign and
 * can have 128 KiB, and 500 such rows would fill the memory. Headers that are stored compressed are measured too: 70
 * KiB of one letter take 900 bytes. Measuring each row would cost 2 µs, this costs a tenth of that.
 */
const rowBytes = `coalesce(octet_length(value), 0)
  + case when pg_column_size(headers) > 1000 or pg_column_compression(headers) is not null
    then octet_length(headers::text) else 500 end`
/** SQL: rows that can be published and whose partition is not skipped. */
const wanted = `${publishable} and id > $5 and topic <> all ($4::text[])
  and not exists (
    select 1 from unnest($1::text[], $2::integer[]) as resting (topic, partition)
    where resting.topic = outbox.topic and resting.partition = outbox.partition)`
const pollMs = 1_000
/** Channel of Postgres's notifications that wake the leading instance. Never used in other code's transactions. */
const channel = 'outbox'
const pingMs = 1_000
const lockSession = {
  // A stopped holder keeps its connection open: the server ends it, and with it the lock, after this time in ms.
  idle_session_timeout: 5_000,
  statement_timeout: 15_000,
  synchronous_commit: 'off',
  // Postgres has no statistics of a table that is mostly empty: it expects few publishable rows, and each look then
  // reads and sorts all that wait, instead of the first ones in the order of the index.
  enable_bitmapscan: 'off',
  enable_sort: 'off',
}

/**
 * Publishes the outbox of one database in id order: the instance that holds the session lock sends one batch at a time
 * and deletes exactly the rows that were acknowledged. There is no cursor: `id > last` loses rows that commit late; see
 * outbox-floor.ts. While the broker answers but takes nothing of a partition (its topic is missing, its leader is
 * away), that one is passed over for a while as a whole, so that its rows hold back no others and stay in order. The
 * leader opens a publisher of its own: if the client can fence, a former leader that was frozen writes nothing more.
 */
export function startRelay(options: RelayOptions): Relay {
  const { database, service, logger, metrics } = options
  const stopping = new AbortController()
  const alarm = createAlarm(stopping.signal)
  const meters = createMeters(metrics, options.produces?.events ?? [])
  const stopListening = database.on(outboxSignal, (rows) => {
    crashPoint('outbox-committed')
    meters.written(rows as readonly OutgoingMessage[])
    alarm.wake()
  })
  const candidate: Candidate = {
    ...options,
    stop: stopping.signal,
    alarm,
    meters,
    resting: new Map(),
  }
  /** What a person has to see to before this instance can lead. */
  let advice: string | undefined

  const running = (async () => {
    while (!stopping.signal.aborted) {
      try {
        const session = await database.session(`${service}-relay`, lockSession)
        advice = undefined
        try {
          await leadWhileConnected(candidate, session)
        } finally {
          await session.close().catch(() => undefined) // it is gone already when that fails
        }
      } catch (error) {
        advice = adviceOn(error)
        // Why nobody lets it in has been told once.
        if (isNotAdmitted(error)) logger.debug('the relay starts again')
        else logger.warn({ err: error }, 'the relay starts again')
        await pause(pollMs, stopping.signal)
      }
    }
  })()

  return {
    check() {
      if (advice) throw new Error(advice)
    },
    async close() {
      stopping.abort()
      stopListening()
      // A broker that does not answer must not keep the process; what is left is published by the next one.
      await withTimeLimit(running, 2_500, 'emptying the outbox').catch((error) =>
        logger.warn({ err: error }, 'the outbox is left to the next instance'),
      )
    },
  }
}

/** An instance that may come to lead, and what it keeps from one lead to the next. */
interface Candidate extends RelayOptions {
  stop: AbortSignal
  alarm: ReturnType<typeof createAlarm>
  meters: Meters
  resting: Map<string, Resting>
}

async function leadWhileConnected(candidate: Candidate, session: Session): Promise<void> {
  const { bus, service, logger, stop, alarm, meters, resting } = candidate
  while (!stop.aborted && !(await takeLock(session))) await tellLeader(candidate, session)
  if (stop.aborted) return
  await session.listen(channel, alarm.wake)
  logger.debug('this instance publishes the outbox')
  meters.leads(true)
  const publisher = bus.publisher(`${service}-relay`, session.ended)
  const ping = setInterval(() => session.check().catch(() => undefined), pingMs) // a loss shows in the next round
  try {
    await checkFloor(session)
    const floors = { floor: createOutboxFloor(session), restingFloor: createRestingFloor(session) }
    const placing = createPlacing(session)
    await drainUntilStopped(candidate, { session, publisher, ...floors, placing, resting, meters, logger })
  } finally {
    clearInterval(ping)
    meters.leads(false)
    await publisher.close()
  }
}

/** Wakes the leader, for {@link pollMs}: an event of another instance waited that long for the next look. */
async function tellLeader({ stop, alarm }: Candidate, session: Session): Promise<void> {
  const until = performance.now() + pollMs
  while (performance.now() < until && !stop.aborted)
    if (await alarm.wait(until - performance.now())) await session.query('select pg_notify($1, $2)', [channel, ''])
}

async function drainUntilStopped({ stop, alarm }: Candidate, leading: Leading): Promise<void> {
  let last = Number.POSITIVE_INFINITY // one more round after being told to stop
  while (performance.now() < last) {
    const { found, stored, isAll } = await publishNext(leading)
    const empty = found === 0
    if (!empty && stored === 0) await pause(100) // leaders are moving
    if (stop.aborted && empty) return
    if (stop.aborted && last === Number.POSITIVE_INFINITY) last = performance.now() + 1_000
    if (empty || isAll) await alarm.wait(pollMs) // what was committed meanwhile has woken it
  }
}

async function takeLock(session: Session): Promise<boolean> {
  await session.check() // a server that a failover has left behind gives the lock to anybody
  const [row] = await session.query<{ held: boolean }>(`select pg_try_advisory_lock(hashtext('outbox-relay')) as held`)
  return row?.held === true
}

/** What the instance that holds the lock works with. */
interface Leading {
  session: Session
  publisher: Publisher
  floor: OutboxFloor
  restingFloor: RestingFloor
  placing: Placing
  resting: Map<string, Resting>
  meters: Meters
  logger: Logger
}

/** Publishes and deletes one batch; says how many rows there were, how many of them the broker has now, and if that is all. */
async function publishNext(leading: Leading) {
  const { session, resting, meters } = leading
  const { rows, passedOver } = await nextRows(leading)
  if (rows.length > 0) crashPoint('relay-read')
  const told = tellSending(rows)
  const stopClock = meters.sending()
  const deliveries = await publishOrSetAside(leading, rows).catch((error) => {
    told([]) // no broker answers: that is what somebody looks for in a trace
    throw error
  })
  told(deliveries)
  if (rows.length > 0) stopClock()
  const stored = deliveries.flatMap(({ message, error }) => (error ? [] : [message]))
  tellTroubles(leading, deliveries)
  restPartitions(
    resting,
    deliveries.filter(({ error }) => !(error instanceof MessageRefused)).map(({ message }) => message),
    stored,
  )
  meters.observe(rows, stored)
  if (stored.length > 0) {
    crashPoint('relay-acknowledged')
    await session.query('delete from outbox where id = any($1::bigint[])', [stored.map(({ id }) => id)])
    crashPoint('relay-deleted')
  }
  await leading.floor.passed(stored.length)
  const isAll = stored.length === rows[0]?.pending && stored.length < batchRows
  await leading.restingFloor.looked({ passedOver, upTo: passedBy(rows, stored, isAll) })
  return { found: rows.length, stored: stored.length, isAll }
}

/** Up to this id, only rows of resting partitions are left. */
function passedBy(rows: readonly PendingRow[], stored: readonly PendingRow[], isAll: boolean): bigint {
  const last = rows.at(-1)
  if (isAll || !last) return lastId
  return stored.length === rows.length ? last.id : 0n
}

/** Once for each partition that took nothing. */
function tellTroubles({ logger }: Leading, deliveries: readonly Delivery<PendingRow>[]): void {
  const troubled = deliveries.filter(
    ({ error }) => error && ![error, error.cause].some((one) => one instanceof MessageRefused),
  )
  for (const [first] of Map.groupBy(troubled, ({ message }) => placeOf(message)).values()) {
    if (!first) continue
    const { topic, partition } = first.message
    logger.error(
      { err: first.error, topic, partition },
      'the broker does not take a partition; its events wait, others go on',
    )
  }
}

/** Partitions of which nothing was stored; the others are awake again. */
function restPartitions(resting: Map<string, Resting>, rows: PendingRow[], stored: PendingRow[]): void {
  const taken = new Set(stored.map(placeOf))
  for (const [key, [row]] of Map.groupBy(rows, placeOf)) {
    if (taken.has(key)) resting.delete(key)
    else if (row) {
      const pauseMs = Math.min(restMs.longest, 2 * (resting.get(key)?.pauseMs ?? restMs.first / 2))
      resting.set(key, { topic: row.topic, partition: row.partition, pauseMs, until: performance.now() + pauseMs })
    }
  }
}

/** The rows that fit into a batch, or one larger row; no more is read. Also the partitions that it skipped. */
async function nextRows(leading: Leading): Promise<{ rows: PendingRow[]; passedOver: ReadonlySet<string> }> {
  const { session, resting, placing, restingFloor } = leading
  const { held, numbers } = await placing.look()
  const atRest = [...resting.values()].filter(({ until }) => until > performance.now())
  const passedOver = new Set([...held, ...atRest.map(placeOf)])
  const rows = await session.query<PendingRow & { headers: StoredHeaders }>(
    `with pending as (${firstOfOutbox({ where: wanted, limit: batchRows })}),
     measured as (
       select *, sum(${rowBytes}) over up_to as total, row_number() over up_to as place, count(*) over ()::integer as pending
       from pending window up_to as (order by id))
     select id, topic, partition, key, value, headers, pending from measured where place = 1 or total <= $3 order by id`,
    [
      atRest.map(({ topic }) => topic),
      atRest.map(({ partition }) => partition),
      batchBytes,
      held,
      restingFloor.from(passedOver),
    ],
  )
  // Written before their topic was grown. Rows are read again, as their new partition may rest.
  const misplaced = rows.filter(({ topic, key, partition }) => {
    const number = numbers.get(topic)
    return number !== undefined && key !== null && partitionOf(key, number) !== partition
  })
  if (misplaced.length > 0) {
    await session.query(
      `update outbox set partition = partition_of(key, grown.partitions) from topic_partitions as grown
       where grown.topic = outbox.topic and id = any($1::bigint[])`,
      [misplaced.map(({ id }) => id)],
    )
    return nextRows(leading)
  }
  return { rows: rows.map((row) => ({ ...row, headers: fromStored(row.headers) })), passedOver }
}

/**
 * Sends rows in order; returns a delivery for each that it tried. If the broker refuses a row for good, the first half
 * of its partition's rows is tried again, until that row stands alone and is set aside. The rest waits for the next
 * round, as the refused row may hold back their keys. Throws when no broker answers, or the lock is lost.
 */
async function publishOrSetAside(leading: Leading, rows: PendingRow[]): Promise<Delivery<PendingRow>[]> {
  const { session, publisher } = leading
  session.ended.throwIfAborted() // with the session the lock has gone: another instance publishes
  const deliveries = await publisher.publish(rows)
  const refused = Map.groupBy(
    deliveries.filter(({ error }) => error instanceof MessageRefused),
    ({ message }) => placeOf(message),
  )
  const settled = deliveries.filter(({ error }) => !(error instanceof MessageRefused))
  for (const ofPartition of refused.values()) {
    if (ofPartition.length > 1) {
      const half = ofPartition.slice(0, Math.ceil(ofPartition.length / 2)).map(({ message }) => message)
      settled.push(...(await publishOrSetAside(leading, half)))
    } else for (const delivery of ofPartition) settled.push(await setAside(leading, delivery))
  }
  return settled
}

async function setAside({ session, logger }: Leading, delivery: Delivery<PendingRow>): Promise<Delivery<PendingRow>> {
  const { message, error } = delivery
  logger.error(
    { err: error, outboxId: String(message.id), topic: message.topic },
    'the broker refuses an event for good; its key is held back',
  )
  await session.query('update outbox set refused = $2 where id = $1', [message.id, error?.message])
  return delivery
}

interface Meters {
  written(rows: readonly OutgoingMessage[]): void
  /** Starts a clock; the returned function stops it. */
  sending(): () => void
  observe(rows: PendingRow[], stored: PendingRow[]): void
  leads(isLeader: boolean): void
}

function createMeters(registry: Registry, types: readonly string[]): Meters {
  const produced = new Counter({
    name: 'shopstream_events_produced_total',
    help: 'Events that were decided and committed by this process; all are on their way to Kafka from then on.',
    labelNames: ['topic', 'type'],
    registers: [registry],
  })
  const published = new Counter({
    name: 'shopstream_outbox_published_total',
    help: 'Events acknowledged by the broker.',
    labelNames: ['topic', 'type'],
    registers: [registry],
  })
  for (const labels of labelsOf(types)) for (const counter of [produced, published]) counter.inc(labels, 0)
  const sending = new Histogram({
    name: 'shopstream_outbox_sending_seconds',
    help: 'From when a batch of events is sent until the broker has acknowledged it.',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers: [registry],
  })
  const pending = new Gauge({
    name: 'shopstream_outbox_batch_rows',
    help: 'Rows found at the last look into the outbox.',
    registers: [registry],
  })
  const leader = new Gauge({
    name: 'shopstream_relay_leader',
    help: 'Whether this instance publishes the outbox; exactly one of a service does.',
    registers: [registry],
  })
  return {
    written(rows) {
      for (const { topic, headers } of rows) produced.inc({ topic, type: typeLabelOf(headers) })
    },
    sending: () => sending.startTimer(),
    leads: (isLeader) => leader.set(isLeader ? 1 : 0),
    observe(rows, stored) {
      pending.set(rows.length)
      for (const { topic, headers } of stored) published.inc({ topic, type: typeLabelOf(headers) })
    },
  }
}
