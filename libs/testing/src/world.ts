import { type EventName, newEventId, topics } from '@shopstream/events'
import { type Message, type NewEvent, openKafkaBus } from '@shopstream/messaging'
import { ensureTopics, kafkaClientFrom, outgoing, readMessage } from '@shopstream/messaging/operations'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { testBroker, testDatabase } from './broker-and-database.ts'
import { testLogger } from './test-logger.ts'

/** Who calls, for {@link World.token}. */
export interface Caller {
  /** User id. */
  id: string
  roles: string[]
}

const hourMs = 3_600_000

/**
 * What surrounds one service in a test: a database and topics of its own, the other services' events, and tokens that
 * it accepts. Nothing else of the shop runs.
 * @param groups consumer groups that need a dead-letter topic: the service's name.
 */
export async function createWorld(...groups: string[]) {
  const logger = testLogger()
  const database = await testDatabase(groups.join('-'))
  const broker = testBroker()
  const bus = await openKafkaBus({ ...broker, clientId: 'test-world', logger })
  await ensureTopics(bus, groups)
  const seen: Message[] = []
  const observer = bus.consume({
    group: 'test-world',
    topics: topics.map(({ name }) => name).filter((name) => name !== 'shop.schema.v1'),
    async handle(batch, partition) {
      for (const message of batch.messages) {
        seen.push(readMessage(message))
        partition.done(message.offset + 1n)
      }
    },
  })
  const { privateKey, publicKey } = await generateKeyPair('EdDSA', { extractable: true })
  const keyId = newEventId()

  return {
    logger,
    bus,
    /** Settings that every service with a database takes. */
    settings: {
      NODE_ENV: 'test' as const,
      LOG_LEVEL: 'silent' as const,
      LOG_FORMAT: 'json' as const,
      HOST: '127.0.0.1',
      PORT: 0,
      SHUTDOWN_TIMEOUT_MS: 10_000,
      DATABASE_URL: database.url,
      DATABASE_POOL_SIZE: 10,
      DATABASE_CONSUMER_POOL_SIZE: 6,
      KAFKA_BROKERS: broker.brokers,
      KAFKA_TOPIC_PREFIX: broker.topicPrefix,
      KAFKA_TLS: false,
      KAFKA_CLIENT: kafkaClientFrom(process.env),
      KAFKA_BATCH_LIMIT_BYTES: 16_777_216,
      PARKED_LIMIT_COUNT: 1_000,
      PARKED_LIMIT_AGE_SECONDS: 3_600,
      OUTBOX_LIMIT_AGE_SECONDS: 300,
      OUTBOX_SHED_AGE_SECONDS: 3_600,
      OUTBOX_SHED_BYTES: 1_073_741_824,
    },
    /** Publishes events as other services would; returns the messages, to be published again by `bus.publish`. */
    async publish(...events: NewEvent[]) {
      const messages = events.map((event) => outgoing('test', event))
      await bus.publish(messages)
      return messages
    },
    /** Publishes the key that tokens are signed with. */
    async publishSigningKey() {
      const data = {
        keyId,
        algorithm: 'EdDSA',
        publicKey: JSON.stringify(await exportJWK(publicKey)),
        activeFrom: new Date(Date.now() - hourMs),
        expiresAt: new Date(Date.now() + 24 * hourMs),
      }
      await bus.publish([outgoing('user', { type: 'SigningKeyPublished', key: keyId, sequence: 1n, data })])
    },
    /** An access token of the caller, as the user service would give it. */
    token({ id, roles }: Caller): Promise<string> {
      return new SignJWT({ roles, sid: newEventId() })
        .setProtectedHeader({ alg: 'EdDSA', kid: keyId })
        .setIssuer('shopstream')
        .setAudience('shopstream')
        .setSubject(id)
        .setIssuedAt()
        .setExpirationTime('15m')
        .sign(privateKey)
    },
    /** Events of this type that have been published so far, by whomever, in the order they were seen. */
    events: <N extends EventName>(type: N) => seen.filter((message): message is Message<N> => message.type === type),
    async close() {
      await observer.close()
      await bus.close()
      await database.drop()
    },
  }
}

/** See {@link createWorld}. */
export type World = Awaited<ReturnType<typeof createWorld>>
