import { randomBytes } from 'node:crypto'
import {
  createDatabase,
  createServiceDatabase,
  type Database,
  dropServiceDatabase,
  migrate,
  signal,
  sql,
  type Transaction,
} from '@shopstream/database'
import { createLogger, createMetrics, type Logger } from '@shopstream/observability'
import { eventually, type TestDatabase, testBroker } from '@shopstream/testing'
import type { Bus, OutgoingMessage } from './bus.ts'
import { type Consumption, type FailurePolicy, on } from './consumption.ts'
import type { Message } from './envelope.ts'
import { createMessaging, messagingMigrations } from './index.ts'
import { openKafkaBus } from './kafka/open.ts'
import type { Messaging } from './messaging.ts'
import { producer } from './outbox.ts'
import { type ChildLife, type ChildShop, gate, startChild } from './test-shop-child.ts'
import { ensureTopics } from './topics.ts'

export const produces = producer('shop', ['StockLevelChanged', 'ProductListed'])
export const silent = createLogger({ service: 'test', level: process.env.LOG_LEVEL ?? 'silent', format: 'json' })

/** The payload with a number by which tests tell events apart. */
export const stockEvent = (sku: string, sequence: bigint) => ({
  type: 'StockLevelChanged' as const,
  key: sku,
  sequence,
  data: { sku, onHand: Number(sequence), reserved: 0, available: Number(sequence) },
})

/** Decides on a message before its effect is written: throws to make it fail. */
export type Trouble = (message: Message, tx: Transaction) => void | Promise<void>

/** The row of `consumes.ts`: writes each stock event to `effect`, with the instance (application name) that did it. */
export const writeEffects = (trouble: Trouble, policy: Partial<FailurePolicy> = {}): Consumption =>
  on(
    { StockLevelChanged: ['sku', 'onHand', 'reserved', 'available'] },
    async (tx: Transaction, messages) => {
      for (const message of messages) {
        await trouble(message, tx)
        await sql`insert into effect (event_id, key, sequence) values (${message.id}, ${message.key}, ${message.sequence})`.execute(
          tx,
        )
      }
    },
    { backoffMs: 20, maxBackoffMs: 50, ...policy },
  )

const troubleByKey: Trouble = async ({ id, key, sequence }, tx) => {
  if (key.startsWith('gated')) await sql`select pg_advisory_xact_lock_shared(${gate})`.execute(tx)
  if (key.startsWith('computing')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 7_000) // no event is served meanwhile
  if (key.startsWith('slow')) await sql`select pg_sleep(7)`.execute(tx)
  if (key.startsWith('stopping')) signal(tx, 'stop')
  if (key.startsWith('faulty')) await failByChance(tx, key, sequence)
  if (key.startsWith('echoed')) await produces.emit(tx, [stockEvent(`echo of ${key}`, sequence)])
  if (key.startsWith('dying') && sequence === 2n) throw new Error('never')
  if (key.startsWith('failing') && sequence === 2n) {
    const tried = await sql`select 1 from parked_message where event_id = ${id} and attempts >= 2`.execute(tx)
    if (tried.rows.length === 0) throw new Error('not before the third attempt')
  }
}

/** The test says in a table how likely each event fails, and may change its mind. */
async function failByChance(tx: Transaction, key: string, sequence: bigint): Promise<void> {
  const { rows } = await sql<{ chance: number }>`
    select chance from fault where key = ${key} and sequence = ${sequence}`.execute(tx)
  if (Math.random() < (rows[0]?.chance ?? 0)) throw new Error(`${key} fails at ${sequence}`)
}

/** The row of `consumes.ts` of instances in a process of their own. */
export const toldByKeys = writeEffects(troubleByKey, { attempts: 3 })

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
  if (deployed) await deploy()
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
        databaseUrl: url,
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
