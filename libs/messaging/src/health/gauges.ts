import { type Database, sql } from '@shopstream/database'
import { Gauge, type Logger, measureTogether, type Registry } from '@shopstream/observability'
import { oldestPending } from '../outbox/load-shedding.ts'
import { firstOfOutbox } from '../outbox/outbox-floor.ts'
import { clockOffset, type ParkedLimits } from './readiness.ts'

/** Of the outbox and of parked messages; ages in seconds. */
interface Waiting {
  rows: number
  oldest: number
  refused: number
  waiting: number
  dead: number
  oldestParked: number
}

/** A count of millions would take seconds at each reading, and says nothing more. */
const countedRows = 10_000

async function readWaiting(database: Database<unknown>): Promise<Waiting> {
  const { rows } = await sql<Waiting>`
    select (${oldestPending})::float8 as oldest,
      (select count(*)::integer from (${sql.raw(firstOfOutbox({ columns: 'id', limit: countedRows }))}) as counted) as rows,
      (select count(*)::integer from outbox where refused is not null) as refused,
      count(*) filter (where state = 'waiting')::integer as waiting,
      count(*) filter (where state = 'dead')::integer as dead,
      coalesce(extract(epoch from now() - min(parked_at)), 0)::float8 as "oldestParked"
    from parked_message where ended_at is null`.execute(database.query)
  return rows[0] as Waiting
}

/** Gauges of what waits in the outbox and is parked, by one query for all ({@link measureTogether}), and of the clocks. */
export function registerGauges(
  database: Database<unknown>,
  registry: Registry,
  limits: ParkedLimits,
  logger: Logger,
): void {
  measureTogether(
    registry,
    () => readWaiting(database),
    (error) => logger.debug({ err: error }, 'what waits cannot be measured now'),
    [
      {
        name: 'shopstream_outbox_oldest_seconds',
        help: 'Age of the oldest event that waits for Kafka; refused ones and those behind them wait for a person.',
        value: ({ oldest }) => oldest,
      },
      {
        name: 'shopstream_outbox_rows',
        help: 'Events in the outbox, refused ones too; counted up to 10,000.',
        value: ({ rows }) => rows,
      },
      {
        name: 'shopstream_outbox_refused',
        help: 'Events that the broker refuses for good.',
        value: ({ refused }) => refused,
      },
      {
        name: 'shopstream_parked_oldest_seconds',
        help: 'Age of the oldest message in the parking lot.',
        value: ({ oldestParked }) => oldestParked,
      },
      {
        name: 'shopstream_parked_messages',
        help: 'Messages in the parking lot, by state: waiting for another attempt, or dead.',
        labelNames: ['state'],
        values: ({ waiting, dead }) => ({ waiting, dead }),
      },
    ],
  )
  measureTogether(
    registry,
    () => clockOffset(database),
    (error) => logger.debug({ err: error }, 'the clocks cannot be compared now'),
    [
      {
        name: 'shopstream_clock_offset_seconds',
        help: "How far the clock of this process is ahead of its database's; negative: behind it.",
        value: (seconds) => seconds,
      },
    ],
  )
  new Gauge({
    name: 'shopstream_parked_limit_messages',
    help: 'Messages in the parking lot from which on readiness is degraded (PARKED_LIMIT_COUNT).',
    registers: [registry],
  }).set(limits.count)
  new Gauge({
    name: 'shopstream_parked_limit_seconds',
    help: 'Age of the oldest message in the parking lot from which on readiness is degraded (PARKED_LIMIT_AGE_SECONDS).',
    registers: [registry],
  }).set(limits.ageSeconds)
}
