/**
 * Prints the events of a running shop, decoded with the shop's schema registry.
 *
 * Usage: node console-consumer.js [TOPIC ...]     (all topics of the shop by default; Ctrl-C ends it)
 * Environment: KAFKA_BROKERS, SCHEMA_REGISTRY_URL
 */
import { randomUUID } from 'node:crypto'
import { SchemaRegistry } from '@kafkajs/confluent-schema-registry'
import { Kafka, logLevel } from 'kafkajs'

const { KAFKA_BROKERS = '127.0.0.1:9092', SCHEMA_REGISTRY_URL = 'http://127.0.0.1:8080/schema-registry' } = process.env

const topics = process.argv.slice(2)
const registry = new SchemaRegistry({ host: SCHEMA_REGISTRY_URL })
const kafka = new Kafka({ brokers: KAFKA_BROKERS.split(','), logLevel: logLevel.WARN })
const consumer = kafka.consumer({ groupId: `console-${randomUUID()}` })

const withoutBigInts = (_name, value) => (typeof value === 'bigint' ? String(value) : value)

async function print({ topic, partition, message: { offset, key, value, headers } }) {
  try {
    const data = await registry.decode(value)
    const event = { topic, partition, offset, type: String(headers.ce_type), key: String(key), data }
    console.log(JSON.stringify(event, withoutBigInts))
  } catch (error) {
    // Told and passed over: a console has nobody to keep the message for.
    console.error(`${topic}/${partition}@${offset} cannot be read: ${error.message}`)
  }
}

process.once('SIGINT', () => consumer.disconnect())
await consumer.connect()
await consumer.subscribe({ topics: topics.length > 0 ? topics : [/^shop\.[a-z-]+\.v1$/], fromBeginning: true })
await consumer.run({ autoCommit: false, eachMessage: print })
