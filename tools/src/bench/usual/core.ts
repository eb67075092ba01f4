/**
 * What the services of the usual way share: an outbox that is polled each second, a message at a time in a transaction of its
 * own with a row of the inbox, and one connection pool for all. Written as tutorials of the pattern write it, with care.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { Kafka, logLevel } from 'kafkajs'
import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'
import pg from 'pg'

export interface Event {
  id: string
  type: string
  key: string
  // biome-ignore lint/suspicious/noExplicitAny: JSON without a schema, as is usual
  data: any
}

export type Sql = (text: string, values?: unknown[]) => Promise<pg.QueryResult>

// Without this KafkaJS rearms a timer each millisecond under Node 24, which would cost this side 6 % of a core in each process.
const checkWhilePending = RequestQueue.prototype.scheduleCheckPendingRequests
RequestQueue.prototype.scheduleCheckPendingRequests = function (this: { pending: unknown[] }) {
  if (this.pending.length > 0) checkWhilePending.call(this)
}

const { KAFKA_BROKERS = '', DATABASE_URL, POOL_SIZE = '10' } = process.env
const kafka = new Kafka({ clientId: 'usual', brokers: KAFKA_BROKERS.split(','), logLevel: logLevel.ERROR })
export const database = new pg.Pool({ connectionString: DATABASE_URL, max: Number(POOL_SIZE) })

export async function transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
  const client = await database.connect()
  try {
    await client.query('begin')
    const result = await work((text, values) => client.query(text, values))
    await client.query('commit')
    client.release()
    return result
  } catch (error) {
    await client.query('rollback').catch(() => undefined)
    client.release()
    throw error
  }
}

export const enqueue = (sql: Sql, topic: string, type: string, key: string, data: unknown) =>
  sql('insert into outbox (topic, key, event_id, type, data) values ($1, $2, $3, $4, $5)', [
    topic,
    key,
    randomUUID(),
    type,
    JSON.stringify(data),
  ])

const pollMs = 1_000
const batchSize = 100

/** Looks each second, and again at once after a full batch; rows are deleted once the broker has them on all replicas. */
export async function relay(): Promise<void> {
  const producer = kafka.producer({ allowAutoTopicCreation: false })
  await producer.connect()
  for (;;) {
    const { rows } = await database.query('select * from outbox order by id limit $1', [batchSize])
    const topicMessages = [...Map.groupBy(rows, ({ topic }) => topic)].map(([topic, ofTopic]) => ({
      topic,
      messages: ofTopic.map(({ key, event_id, type, data }) => ({
        key,
        value: JSON.stringify(data),
        headers: { id: event_id, type },
      })),
    }))
    if (rows.length > 0) {
      await producer.sendBatch({ topicMessages, acks: -1 })
      await database.query('delete from outbox where id = any($1)', [rows.map(({ id }) => id)])
    }
    if (rows.length < batchSize) await delay(pollMs)
  }
}

/** Each message in a transaction of its own, in which its id is noted; partitions are handled beside each other. */
export async function consume(group: string, topics: string[], handle: (sql: Sql, event: Event) => Promise<unknown>) {
  const consumer = kafka.consumer({ groupId: group })
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true })
  await consumer.run({
    partitionsConsumedConcurrently: 6,
    eachMessage: async ({ message: { key, value, headers } }) => {
      const event = {
        id: String(headers?.id),
        type: String(headers?.type),
        key: String(key),
        data: JSON.parse(String(value)),
      }
      await transaction(async (sql) => {
        const { rowCount } = await sql('insert into inbox (event_id) values ($1) on conflict do nothing', [event.id])
        if (rowCount === 1) await handle(sql, event)
      })
    },
  })
}
