/**
 * An instance of the test shop in a process of its own, so that it can be stopped, killed, and live by another clock.
 * It is told by messages what to do with them, because it cannot be handed a function.
 */
import { createDatabase, signal, sql, type Transaction } from '@shopstream/database'
import { createLogger, createMetrics } from '@shopstream/observability'
import { createMessaging } from './index.ts'
import { produces, type Trouble, writeEffects } from './test-shop.ts'
import { gate } from './test-shop-child.ts'

const setting = (name: string) => process.env[name] ?? ''
const logger = createLogger({ service: 'shop', level: 'info', format: 'json' })
const database = createDatabase<unknown>({
  url: setting('DATABASE_URL'),
  poolSize: 10,
  applicationName: setting('INSTANCE'),
  logger,
})

/** The key says what to do. */
const trouble: Trouble = async ({ key, sequence }, tx) => {
  if (key.startsWith('gated')) await sql`select pg_advisory_xact_lock_shared(${gate})`.execute(tx)
  if (key.startsWith('computing')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 7_000) // no event is served meanwhile
  if (key.startsWith('stopping')) signal(tx, 'stop')
  if (key.startsWith('faulty')) await failByChance(tx, key, sequence)
}

/** The test says in a table how likely each event fails, and may change its mind. */
async function failByChance(tx: Transaction, key: string, sequence: bigint): Promise<void> {
  const { rows } = await sql<{ chance: number }>`
    select chance from fault where key = ${key} and sequence = ${sequence}`.execute(tx)
  if (Math.random() < (rows[0]?.chance ?? 0)) throw new Error(`${key} fails at ${sequence}`)
}

database.on('stop', () => process.kill(process.pid, 'SIGSTOP')) // after the commit, before anything else

createMessaging({
  service: 'shop',
  database,
  databaseUrl: setting('DATABASE_URL'),
  brokers: setting('KAFKA_BROKERS').split(','),
  topicPrefix: setting('TOPIC_PREFIX'),
  consumes: [writeEffects(trouble)],
  produces,
  logger,
  metrics: createMetrics('shop'),
}).start()

process.stdin.on('end', () => process.exit(1)).resume()
