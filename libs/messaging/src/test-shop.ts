import { createDatabase, type Database, migrate, sql, type Transaction } from '@shopstream/database'
import { createLogger, createMetrics } from '@shopstream/observability'
import { testBroker, testDatabase } from '@shopstream/testing'
import type { Bus, OutgoingMessage } from './bus.ts'
import { type Consumption, type FailurePolicy, on } from './consumption.ts'
import type { Message } from './envelope.ts'
import { createMessaging, messagingMigrations } from './index.ts'
import { createKafkaBus } from './kafka.ts'
import type { Messaging } from './messaging.ts'
import { producer } from './outbox.ts'
import { ensureTopics } from './topics.ts'

export const produces = producer('shop', ['StockLevelChanged', 'ProductListed'])
export const logger = createLogger({ service: 'test', level: process.env.LOG_LEVEL ?? 'silent', format: 'json' })

/** The payload with a number by which tests tell events apart. */
export const stockEvent = (sku: string, sequence: bigint) => ({
  type: 'StockLevelChanged' as const,
  key: sku,
  sequence,
  data: { sku, onHand: Number(sequence), reserved: 0, available: Number(sequence) },
})

/** Decides on a message before its effect is written: throws to make it fail. */
export type Trouble = (message: Message) => void

/** A service of its own against real parts: emits stock events and writes each one that it consumes to `effect`. */
export async function openTestShop({
  trouble = () => {},
  policy = {},
}: {
  trouble?: Trouble
  policy?: Partial<FailurePolicy>
} = {}) {
  const { url, drop } = await testDatabase('messaging')
  const broker = testBroker()
  await ensureTopics({ ...broker, groups: ['shop'], logger })
  const database = createDatabase<unknown>({ url, poolSize: 30, applicationName: 'test', logger })
  await migrate(database, [
    ...messagingMigrations,
    {
      source: 'test',
      name: 'effect',
      sql: 'create table effect (id bigint generated always as identity, event_id uuid, key text, sequence bigint)',
    },
  ])
  const bus = createKafkaBus({ ...broker, clientId: 'observer', logger })
  const running: Messaging[] = []

  const consumption: Consumption = on(
    { StockLevelChanged: ['sku', 'onHand', 'reserved', 'available'] },
    async (tx: Transaction, messages) => {
      for (const message of messages) {
        trouble(message)
        await sql`insert into effect (event_id, key, sequence) values (${message.id}, ${message.key}, ${message.sequence})`.execute(
          tx,
        )
      }
    },
    { backoffMs: 20, maxBackoffMs: 50, ...policy },
  )

  return {
    database,
    bus,
    url,
    /** Starts an instance; without `consumes` it only publishes. */
    start(consumes: readonly Consumption[] = [consumption]): Messaging {
      const messaging = createMessaging({
        service: 'shop',
        database,
        databaseUrl: url,
        ...broker,
        consumes,
        produces,
        logger,
        metrics: createMetrics('shop'),
      })
      messaging.start()
      running.push(messaging)
      return messaging
    },
    emit: (...events: ReturnType<typeof stockEvent>[]) => database.transaction((tx) => produces.emit(tx, events)),
    effects: () =>
      rowsOf<{ event_id: string; key: string; sequence: bigint }>(
        database,
        'select event_id, key, sequence from effect order by id',
      ),
    /** Those that wait or are dead. */
    parked: () =>
      rowsOf<{ key: string; state: string; attempts: number; error: string | null; bytes: Buffer }>(
        database,
        'select * from parked_message where ended_at is null order by id',
      ),
    outbox: () =>
      rowsOf<{ id: bigint; refused: string | null }>(database, 'select id, refused from outbox order by id'),
    async close() {
      for (const messaging of running) await messaging.stop()
      await bus.close()
      await database.close()
      await drop()
    },
  }
}

export type TestShop = Awaited<ReturnType<typeof openTestShop>>

async function rowsOf<Row>(database: Database<unknown>, query: string): Promise<Row[]> {
  return (await sql.raw<Row>(query).execute(database.query)).rows
}

/** Reads a topic from the beginning into the returned list, until closed. */
export function collect(bus: Bus, topic: string, group = `collector-${Math.random()}`) {
  const messages: (OutgoingMessage & { offset: bigint })[] = []
  const consumer = bus.consume({
    group,
    topics: [topic],
    async handle(batch) {
      messages.push(...batch.messages)
      const last = batch.messages.at(-1)
      if (last) batch.resolve(last)
    },
  })
  return { messages, close: () => consumer.close() }
}
