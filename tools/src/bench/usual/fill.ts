/** Databases, tables, topics and some products: `fill.ts CUSTOMERS SKUS`. Environment: POSTGRES_URL (a superuser's), KAFKA_BROKERS. */
import { readFileSync } from 'node:fs'
import { Kafka, logLevel } from 'kafkajs'
import pg from 'pg'

const { POSTGRES_URL, KAFKA_BROKERS = '' } = process.env
const [customers, skus] = process.argv.slice(2).map(Number)
const tables = readFileSync(new URL('tables.sql', import.meta.url), 'utf8')

async function run(url: string | undefined, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(text)
  await client.end()
}

const products = `insert into product select 'sku-' || n, 'A thing', 1000, false from generate_series(0, ${skus} - 1) as n`
const fillings = {
  order: products,
  inventory: `${products}; insert into stock select sku, 1000000000 from product`,
  notification: `insert into recipient select 'customer-' || n, 'customer-' || n || '@example.com'
    from generate_series(0, ${customers} - 1) as n`,
}
for (const [name, filling] of Object.entries(fillings)) {
  await run(POSTGRES_URL, `create database "${name}"`)
  await run(POSTGRES_URL?.replace('/postgres?', `/${name}?`), `${tables}; ${filling}`)
}

const admin = new Kafka({ brokers: KAFKA_BROKERS.split(','), logLevel: logLevel.ERROR }).admin()
await admin.connect()
const topics = ['usual.order', 'usual.reservation', 'usual.notification']
await admin.createTopics({ topics: topics.map((topic) => ({ topic, numPartitions: 6, replicationFactor: 1 })) })
await admin.disconnect()
