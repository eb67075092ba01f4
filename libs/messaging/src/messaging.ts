import { type Database, sql } from '@shopstream/database'
import type { Logger, Registry } from '@shopstream/observability'
import { pause, withTimeLimit } from './async.ts'
import type { Bus } from './broker/bus.ts'
import { type BlockedPartitions, createBlockedPartitions } from './consumer/blocked-partitions.ts'
import { type RunningConsumer, startConsumer } from './consumer/consumer.ts'
import { type Progress, watchProgress } from './consumer/progress.ts'
import { createReplicas } from './consumer/replicas.ts'
import { byEvent, type Consumption, on } from './event/consumption.ts'
import { createConsumptionMeters } from './event/meters.ts'
import { registerGauges } from './health/gauges.ts'
import {
  backlogLimitsOf,
  checkBacklog,
  checkClock,
  checkParked,
  type ParkedLimits,
  type ReadinessCheck,
} from './health/readiness.ts'
import { maintainInbox } from './inbox/inbox.ts'
import { type OutboxLimits, type OutboxVerdict, watchOutbox } from './outbox/load-shedding.ts'
import type { Producer } from './outbox/outbox.ts'
import { firstOfOutbox } from './outbox/outbox-floor.ts'
import { type Relay, startRelay } from './outbox/relay.ts'
import { keepSchemas } from './parked/learned-schemas.ts'
import { hastenWaiting } from './parked/parked.ts'
import { handlingBy, type Retrier, startRetrier } from './parked/retrier.ts'

export interface MessagingOptions {
  /** Also the name of its consumer group. */
  service: string
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any>
  /** Its own: {@link Messaging.stop} closes it. */
  bus: Bus
  /** Beyond these readiness is degraded and the alert fires; nothing is dropped. */
  parkedLimits?: ParkedLimits
  consumes: readonly Consumption[]
  produces: Pick<Producer, 'service'> & { readonly events: readonly string[] }
  /** Without them the outbox may grow as it likes. */
  outboxLimits?: OutboxLimits
  logger: Logger
  metrics: Registry
}

/** The relay, the consumer and the retrier of one service. */
export interface Messaging {
  readonly checks: ReadinessCheck[]
  /** The partitions of this instance that stand still; those of its bridges too. */
  readonly blocked: BlockedPartitions
  /** Starts everything in the background, once the database is migrated. Never throws for an absent broker or database. */
  start(): void
  /** Finishes the chunk in hand, empties the outbox as far as the broker takes it, disconnects. */
  stop(): Promise<void>
  /** Why no new work should be taken: events have waited for the broker for too long, or are too many. Else undefined. */
  overloaded(): string | undefined
  /** Whether the outbox is empty: all that was emitted is published. */
  hasPublished(): Promise<boolean>
}

const hourMs = 3_600_000
/** How long a look at the group's positions may go on after all else has ended, in ms. */
const watchEndMs = 1_000

/** A row that every service has which consumes anything: newer producers' schemas. */
const schemaConsumption = on({ SchemaRegistered: ['schemaId', 'subject', 'schema'] }, async (tx, messages) =>
  hastenWaiting(tx, await keepSchemas(tx, messages)),
)

export function createMessaging(options: MessagingOptions): Messaging {
  const { service, database, bus } = options
  const consumes = options.consumes.length === 0 ? [] : [...options.consumes, schemaConsumption]
  const logger = options.logger.child({ part: 'messaging' })
  const consumptions = byEvent(consumes)
  const stopping = new AbortController()
  const progress: Progress = { backlog: new Map() }
  const parkedLimits = options.parkedLimits ?? { count: 1_000, ageSeconds: 3_600 }
  const backlogLimits = backlogLimitsOf(consumes)
  const blocked = createBlockedPartitions(options.metrics)
  const replicas = createReplicas({ database, consumes, bus, logger, stop: stopping.signal })
  let relay: Relay | undefined
  let consumer: RunningConsumer | undefined
  let retrier: Retrier | undefined
  let watching: Promise<void> | undefined
  let outbox = (): OutboxVerdict => ({})

  const checks: ReadinessCheck[] = [
    { name: 'kafka', optional: true, check: () => bus.check() },
    { name: 'relay', optional: true, check: () => relay?.check() },
    { name: 'consumer', check: () => consumer?.check() },
    blocked.check,
    { name: 'parked-messages', optional: true, check: () => checkParked(database, parkedLimits) },
    { name: 'backlog', optional: true, check: () => checkBacklog(progress.backlog, backlogLimits) },
    { name: 'outbox', optional: true, check: () => must(outbox().late === undefined, outbox().late ?? '') },
    { name: 'clock', optional: true, check: () => checkClock(database) },
    { name: 'replicas', check: () => replicas.check() },
  ]

  return {
    checks,
    blocked,
    overloaded: () => outbox().overloaded,
    async hasPublished() {
      const { rows } = await sql.raw(firstOfOutbox({ columns: 'id', limit: 1 })).execute(database.query)
      return rows.length === 0
    },
    start() {
      const common = { ...options, logger, group: service, consumptions, blocked }
      relay = startRelay(common)
      if (consumes.length > 0) {
        const measured = { ...common, meters: createConsumptionMeters(options.metrics, consumptions.keys()) }
        consumer = startConsumer(measured)
        retrier = startRetrier({ ...common, handling: handlingBy(measured) })
        watching = watchProgress(consumer, measured, { progress, replicas, backlogLimits }, stopping.signal)
      }
      registerGauges(database, options.metrics, parkedLimits, logger)
      if (options.outboxLimits) outbox = watchOutbox(database, options.outboxLimits, logger, stopping.signal)
      void repeatEach(hourMs, stopping.signal, logger, 'inbox maintenance', () =>
        maintainInbox(database, logger, stopping.signal),
      )
    },
    async stop() {
      stopping.abort()
      const watched = watching && withTimeLimit(watching, watchEndMs, 'the last look').catch(() => undefined)
      await Promise.all([consumer?.close(), retrier?.close(), watched])
      await relay?.close() // last: what came in has gone out
      await bus.close()
    },
  }
}

function must(condition: boolean, reason: string): void {
  if (!condition) throw new Error(reason)
}

/** Runs `work` now and each `ms` milliseconds, sooner again when it failed. */
async function repeatEach(
  ms: number,
  stop: AbortSignal,
  logger: Logger,
  what: string,
  work: () => Promise<void>,
): Promise<void> {
  while (!stop.aborted) {
    try {
      await work()
      await pause(ms, stop)
    } catch (error) {
      logger.warn({ err: error }, `${what} is tried again`)
      await pause(Math.min(ms, 5_000), stop)
    }
  }
}
