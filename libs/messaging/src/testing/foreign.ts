import { setTimeout as delay } from 'node:timers/promises'
import kafkajs from 'kafkajs'
import { createCarrier } from '../broker/kafka/kafkajs/carrier.ts'
import { produceRequest } from './batches.ts'

const notYet = new Set(['NOT_LEADER_FOR_PARTITION', 'UNKNOWN_TOPIC_OR_PARTITION', 'LEADER_NOT_AVAILABLE'])

/** A producer that is none of ours: writes batches byte by byte, and transactions. Names of topics as on the wire. */
export interface ForeignProducer {
  /** Throws with what the broker says against it; waits for a topic that was just made. */
  write(topic: string, partition: number, batch: Buffer): Promise<void>
  /** Begins a transaction. */
  transaction(topic: string): Promise<ForeignTransaction>
  /** Returns when it is gone. */
  deleteTopic(topic: string): Promise<void>
  /** Deletes a topic and makes it again at once, before anybody has noticed. */
  makeAnew(topic: string, numPartitions: number): Promise<void>
  close(): Promise<void>
}

export interface ForeignTransaction {
  send(messages: { partition: number; value: string }[]): Promise<unknown>
  commit(): Promise<void>
  abort(): Promise<void>
}

/** For a broker of one node. */
export function openForeignProducer(brokers: readonly string[]): ForeignProducer {
  const [host = '', port = ''] = (brokers[0] ?? '').split(':')
  const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
  const carrier = createCarrier(kafka, {
    clientId: 'foreign',
    brokerCount: 1,
    connectionTimeout: 3_000,
    requestTimeout: 10_000,
  })
  return {
    async write(topic, partition, batch) {
      for (let attempt = 1; ; attempt++) {
        const answer = await carrier.send({ host, port: Number(port) }, produceRequest({ topic, partition }, batch))
        if (answer.errorCode === 0) return
        const name = carrier.nameOf(answer.errorCode)
        if (!notYet.has(name) || attempt === 50) throw new Error(`the broker said ${name}`)
        await delay(100)
      }
    },
    transaction: (topic) => beginTransaction(kafka, topic),
    deleteTopic: (topic) =>
      asAdmin(kafka, async (admin) => {
        await admin.deleteTopics({ topics: [topic] })
        while ((await admin.listTopics()).includes(topic)) await delay(20)
      }),
    makeAnew: (topic, numPartitions) =>
      asAdmin(kafka, async (admin) => {
        await admin.deleteTopics({ topics: [topic] })
        await admin.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions, replicationFactor: 1 }] })
      }),
    close: () => carrier.close(),
  }
}

async function asAdmin(kafka: kafkajs.Kafka, work: (admin: kafkajs.Admin) => Promise<void>): Promise<void> {
  const admin = kafka.admin()
  await admin.connect()
  await work(admin).finally(() => admin.disconnect())
}

async function beginTransaction(kafka: kafkajs.Kafka, topic: string): Promise<ForeignTransaction> {
  const producer = kafka.producer({
    transactionalId: `foreign-${Math.random()}`,
    idempotent: true,
    maxInFlightRequests: 1,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  const transaction = await producer.transaction()
  const end = async (how: 'commit' | 'abort') => {
    await transaction[how]()
    await producer.disconnect()
  }
  return {
    send: (messages) => transaction.send({ topic, messages }),
    commit: () => end('commit'),
    abort: () => end('abort'),
  }
}
