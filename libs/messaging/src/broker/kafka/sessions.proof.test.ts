import { pbkdf2Sync, randomBytes } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { alterUserScramCredentialsV0 } from '@platformatic/kafka'
import { topicOf } from '@shopstream/events'
import { createLogger, createMetrics } from '@shopstream/observability'
import { eventually, lacksForSecuredKafka, type SecuredKafka, startSecuredKafka } from '@shopstream/testing'
import { type KafkaClient, kafkaClients, openKafkaBus } from './open.ts'
import { createConnections } from './platformatic/connections.ts'

/** A Kafka that ends sessions which are not renewed; run with each client. */

const lacking = await lacksForSecuredKafka()
const topic = topicOf('OrderPlaced')
const patience = { timeoutMs: 30_000, everyMs: 50 }
let secured: SecuredKafka

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
}, 60_000)

async function open(client: KafkaClient) {
  const errors: string[] = []
  const kept = new PassThrough().on('data', (chunk) => errors.push(String(chunk)))
  const metrics = createMetrics('test')
  const bus = await openKafkaBus({
    brokers: secured.brokers,
    client,
    identity: secured.as('admin'),
    metrics,
    topicPrefix: '',
    clientId: 'sessions',
    logger: createLogger({ service: 'test', level: 'error', format: 'json' }, kept),
  })
  undo.push(() => bus.close())
  return { bus, metrics, errors }
}

const ifHad = lacking ? describe.skip : describe
ifHad(`sessions that end${lacking ? ` (skipped: ${lacking})` : ''}`, () => {
  beforeAll(async () => {
    secured = await startSecuredKafka([], 5_000)
    const { bus } = await open('kafkajs')
    await bus.ensureTopics([topic])
  }, 120_000)

  afterAll(async () => secured?.stop(), 60_000)

  describe.each(kafkaClients)('by %s', (client) => {
    test('are renewed while it works: nothing fails, no consumer is built anew', async () => {
      const { bus, metrics } = await open(client)
      const keys: (string | null)[] = []
      const consumer = bus.consume({
        group: `reader-${client}`,
        topics: [topic.name],
        async handle(batch, partition) {
          keys.push(...batch.messages.map(({ key }) => key))
          partition.done(batch.next)
        },
      })
      undo.push(() => consumer.close())
      const begun = performance.now()
      for (let n = 0; performance.now() - begun < 12_000; n++) {
        const key = `${client} ${n}`
        const message = { topic: topic.name, partition: 0, key, value: Buffer.from(key), headers: {} }
        expect(await bus.publish([message])).toEqual([{ message }])
        await eventually(key, () => keys.includes(key), patience)
      }
      bus.check()
      expect(await metrics.metrics()).toMatch(/shopstream_consumer_rebuilt_total\S* 0\n/)
    })

    test('and a password that is changed meanwhile end nothing: it is told, and goes on when it is right again', async () => {
      const { bus, errors } = await open(client)
      const isThere = () => !throws(() => bus.check(), /./)
      await eventually('the sign of life', isThere, patience)
      await changePassword('another-1')
      try {
        await eventually('the words', () => throws(() => bus.check(), /KAFKA_SASL_PASSWORD/), patience)
        expect(errors).toHaveLength(1)
        expect(errors[0]).toContain('KAFKA_SASL_PASSWORD')
      } finally {
        await changePassword('admin-secret-1')
      }
      await eventually('the sign of life', isThere, patience)
    })
  })
})

function throws(work: () => void, says: RegExp): boolean {
  try {
    work()
    return false
  } catch (error) {
    return says.test(String(error))
  }
}

/** As an administrator does it with kafka-configs, who comes in by a certificate here. */
async function changePassword(password: string): Promise<void> {
  const { certificates, certificateBrokers } = secured
  const identity = { tls: { ca: certificates.ca, ...certificates.of('admin') } }
  const connections = createConnections({ clientId: 'administrator', identity })
  const [host = '', port] = certificateBrokers[0]?.split(':') ?? []
  const salt = randomBytes(16)
  const saltedPassword = pbkdf2Sync(password, salt, 4_096, 64, 'sha512')
  const change = [{ name: 'admin', mechanism: 2, iterations: 4_096, salt, saltedPassword }]
  const answer = await connections.call({ host, port: Number(port) }, alterUserScramCredentialsV0.api, [[], change])
  connections.close()
  expect(answer.results.map(({ errorCode }) => errorCode)).toEqual([0])
}
