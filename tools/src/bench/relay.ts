import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createDatabase, createServiceDatabase, migrate } from '@shopstream/database'
import { topicOf } from '@shopstream/events'
import { createMessaging, messagingMigrations, openKafkaBus, producer } from '@shopstream/messaging'
import { outgoing } from '@shopstream/messaging/operations'
import { createLogger, createMetrics } from '@shopstream/observability'
import { startKafka, startPostgres, temporaryFolder } from '@shopstream/testing'
import { startArm } from './arm.ts'
import type { Say } from './measure.ts'
import { compared, inTurns, type Result } from './results.ts'

const rows = 60_000
const emittedAtOnce = 1_000
/** As many as the relay publishes at once. */
const publishedAtOnce = 500

const produces = producer('bench', ['StockLevelChanged'])
const event = (n: number) => ({
  type: 'StockLevelChanged' as const,
  key: `sku-${n % 1_000}`,
  sequence: BigInt(n + 1),
  data: { sku: `sku-${n % 1_000}`, onHand: n, reserved: 0, available: n },
})

/** Rows of an outbox that a relay publishes and deletes, beside the same messages straight from memory by the same client. */
export async function relay(say: Say): Promise<Result[]> {
  const parts = await startParts()
  try {
    const turns = await inTurns(say, { ours: () => fromOutbox(parts), reference: () => fromMemory(parts) })
    const reference = { name: 'from memory', figures: turns.reference }
    return [compared({ name: 'relay', unit: 'events/s', goal: 0.5, ours: turns.ours, reference })]
  } finally {
    await parts.stop()
  }
}

type Parts = Awaited<ReturnType<typeof startParts>>

const startParts = () =>
  startArm(async (undo) => {
    const home = temporaryFolder('bench-relay')
    undo.push(async () => rmSync(home, { recursive: true, force: true }))
    const password = 'of-a-benchmark'
    const [postgres, kafka] = await Promise.all([
      startPostgres({ dir: join(home, 'postgres'), password }),
      startKafka({ dir: join(home, 'kafka') }),
    ])
    undo.push(postgres.stop, kafka.stop)
    const logger = createLogger({ service: 'bench', level: 'warn', format: 'pretty' })
    const url = await createServiceDatabase(postgres.url, { name: 'bench', password })
    const database = createDatabase<unknown>({ url, poolSize: 5, applicationName: 'bench', logger })
    undo.push(database.close)
    await migrate(database, messagingMigrations)
    const openBus = () => openKafkaBus({ brokers: kafka.brokers, topicPrefix: 'bench.', clientId: 'bench', logger })
    const bus = await openBus()
    undo.push(bus.close)
    await bus.ensureTopics([topicOf('StockLevelChanged')])
    return { database, bus, openBus, logger }
  })

/** Events a second of an outbox that is full when its relay begins. */
async function fromOutbox({ database, openBus, logger }: Parts): Promise<number> {
  for (let n = 0; n < rows; n += emittedAtOnce) {
    const events = Array.from({ length: emittedAtOnce }, (_, i) => event(n + i))
    await database.transaction((tx) => produces.emit(tx, events))
  }
  const bus = await openBus()
  const messaging = createMessaging({
    service: 'bench',
    database,
    bus,
    consumes: [],
    produces,
    logger,
    metrics: createMetrics('bench'),
  })
  const begun = performance.now()
  messaging.start()
  while (!(await messaging.hasPublished())) await delay(10)
  const seconds = (performance.now() - begun) / 1_000
  await messaging.stop()
  return rows / seconds
}

async function fromMemory({ bus }: Parts): Promise<number> {
  const messages = Array.from({ length: rows }, (_, n) => outgoing('bench', event(n)))
  const publisher = bus.publisher('bench')
  const begun = performance.now()
  for (let at = 0; at < rows; at += publishedAtOnce) {
    const deliveries = await publisher.publish(messages.slice(at, at + publishedAtOnce))
    const failed = deliveries.find(({ error }) => error)
    if (failed) throw failed.error
  }
  const seconds = (performance.now() - begun) / 1_000
  await publisher.close()
  return rows / seconds
}
