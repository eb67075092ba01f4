import { randomBytes } from 'node:crypto'
import {
  createDatabase,
  createServiceDatabase,
  type Database,
  dropServiceDatabase,
  migrate,
  sql,
} from '@shopstream/database'
import { deadLetterTopic, topicOf } from '@shopstream/events'
import { createMetrics, type Logger } from '@shopstream/observability'
import { eventually, type TestDatabase, testBroker, testLogger } from '@shopstream/testing'
import type { Bus, OutgoingMessage } from '../broker/bus.ts'
import { openKafkaBus } from '../broker/kafka/open.ts'
import type { Consumption, FailurePolicy } from '../event/consumption.ts'
import { createMessaging, messagingMigrations } from '../index.ts'
import type { Messaging } from '../messaging.ts'
import { ensureTopics } from '../operations/topics.ts'
import { openForeignProducer } from './foreign.ts'
import { type ChildLife, type ChildShop, startChild } from './shop-child.ts'
import { produces, stockEvent, type Trouble, writeEffects } from './stock.ts'

export const silent = testLogger()

export interface TestShopOptions {
  trouble?: Trouble
  policy?: Partial<FailurePolicy>
  /** Default: those of the test run. */
  brokers?: string[]
  database?: TestDatabase
  poolSize?: number
  /** False: nobody has deployed yet. */
  deployed?: boolean
  logger?: Logger
}

/**
 * Makes a database in a Postgres, by its superuser's URL. As `testDatabase` does, which imports what it needs when it is
 * called: Jest refuses that to tests that run side by side.
 */
export async function databaseIn(adminUrl: string): Promise<TestDatabase> {
  const name = `messaging_${randomBytes(5).toString('hex')}`
  const url = await createServiceDatabase(adminUrl, { name, password: randomBytes(12).toString('base64url') })
  return { url, drop: () => dropServiceDatabase(adminUrl, name) }
}

/** Not the whole catalogue: a broker would have ten thousand partitions at the end of a test run. */
const usedTopics = [
  ...(['StockLevelChanged', 'ProductListed', 'SchemaRegistered'] as const).map(topicOf),
  deadLetterTopic('shop'),
]

/** A service of its own against real parts: emits stock events and writes each one that it consumes to `effect`. */
export async function openTestShop({
  trouble = () => {},
  policy = {},
  poolSize = 30,
  deployed = true,
  logger = silent,
  ...parts
}: TestShopOptions = {}) {
  const { url, drop } = parts.database ?? (await databaseIn(process.env.TEST_POSTGRES_URL ?? ''))
  const broker = { ...testBroker(), ...(parts.brokers && { brokers: parts.brokers }) }
  const bus = await openKafkaBus({ ...broker, clientId: 'observer', logger })
  const deploy = () => ensureTopics(bus, ['shop'])
  if (deployed) await bus.ensureTopics(usedTopics)
  const database = createDatabase<unknown>({ url, poolSize, applicationName: 'test', logger })
  await migrate(database, [
    ...messagingMigrations,
    {
      source: 'test',
      name: 'effect',
      sql: `create table effect (id bigint generated always as identity, event_id uuid, key text, sequence bigint,
        instance text default current_setting('application_name'))`,
    },
  ])
  const running: Messaging[] = []

  const consumption = writeEffects(trouble, policy)
  const children: ChildShop[] = []

  return {
    database,
    bus,
    broker,
    url,
    deploy,
    /** Starts an instance; without `consumes` it only publishes. */
    async start(consumes: readonly Consumption[] = [consumption], metrics = createMetrics('shop')): Promise<Messaging> {
      const messaging = createMessaging({
        service: 'shop',
        database,
        bus: await openKafkaBus({ ...broker, clientId: 'shop', logger, metrics }),
        consumes,
        produces,
        logger,
        metrics,
      })
      messaging.start()
      running.push(messaging)
      return messaging
    },
    /** Those in processes of their own. */
    children: children as readonly ChildShop[],
    /** Starts an instance in a process of its own, which writes effects under its name; see test-shop-main.ts. */
    startProcess(name: string, life?: ChildLife): ChildShop {
      const child = startChild({ ...broker, name, url }, life)
      children.push(child)
      return child
    },
    emit: (...events: ReturnType<typeof stockEvent>[]) => database.transaction((tx) => produces.emit(tx, events)),
    effects: () =>
      rowsOf<{ event_id: string; key: string; sequence: bigint; instance: string }>(
        database,
        'select event_id, key, sequence, instance from effect order by id',
      ),
    /** Those that wait or are dead. */
    parked: () =>
      rowsOf<{ key: string; state: string; attempts: number; error: string | null; bytes: Buffer }>(
        database,
        'select * from parked_message where ended_at is null order by id',
      ),
    outbox: () =>
      rowsOf<{ id: bigint; refused: string | null }>(database, 'select id, refused from outbox order by id'),
    async deleteTopic(name: string) {
      const foreign = openForeignProducer(broker.brokers)
      await foreign.deleteTopic(broker.topicPrefix + name).finally(() => foreign.close())
    },
    async close() {
      await Promise.all(children.map((child) => child.kill('SIGKILL')))
      for (const messaging of running) await messaging.stop()
      await bus.close()
      await database.close()
      await drop()
    },
  }
}

export type TestShop = Awaited<ReturnType<typeof openTestShop>>

/** Events of one key, from a sequence to a sequence. */
export const stockEvents = (key: string, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => stockEvent(key, BigInt(from + i)))

/** `{ key: [1, 2, …] }`, in the order in which they took effect. */
export const sequencesByKey = (effects: { key: string; sequence: bigint }[]): Record<string, number[]> =>
  Object.fromEntries(
    [...Map.groupBy(effects, ({ key }) => key)].map(([key, ofKey]) => [
      key,
      ofKey.map(({ sequence }) => Number(sequence)),
    ]),
  )

export const upTo = (last: number) => Array.from({ length: last }, (_, i) => i + 1)

const stockTopic = 'shop.stock.v1'

/**
 * Waits until everything emitted has been published and handled, and everything delivered has been looked at. Returns
 * what took effect and what stands in the topic, by key; a message that stands there again, or is none, is left out.
 */
export async function atRest(shop: TestShop, timeoutMs = 60_000) {
  await eventually('an empty outbox', async () => (await shop.outbox()).length === 0, { timeoutMs, everyMs: 100 })
  await eventually(
    'the group to have handled everything',
    async () => {
      const positions = await shop.bus.positions('shop', [stockTopic])
      return positions.length > 0 && positions.every(({ end, done }) => end === done)
    },
    { timeoutMs, everyMs: 100 },
  )
  const stored = new Map<string, { key: string; sequence: bigint }>()
  await shop.bus.read({
    topics: [stockTopic],
    toEnd: true,
    handle(messages) {
      for (const { key, headers } of messages) {
        const id = String(headers.ce_id)
        if (/^\d+$/.test(String(headers.ce_sequence)) && !stored.has(id))
          stored.set(id, { key: String(key), sequence: BigInt(String(headers.ce_sequence)) })
      }
    },
  })
  return { effects: sequencesByKey(await shop.effects()), stored: sequencesByKey([...stored.values()]) }
}

async function rowsOf<Row>(database: Database<unknown>, query: string): Promise<Row[]> {
  return (await sql.raw<Row>(query).execute(database.query)).rows
}

/** Reads a topic from the beginning into the returned list, until closed. */
export function collect(bus: Bus, topic: string, group = `collector-${Math.random()}`) {
  const messages: (OutgoingMessage & { offset: bigint })[] = []
  const consumer = bus.consume({
    group,
    topics: [topic],
    async handle(batch, partition) {
      messages.push(...batch.messages)
      partition.done(batch.next)
    },
  })
  return { messages, close: () => consumer.close() }
}
