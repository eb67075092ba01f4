import { randomBytes } from 'node:crypto'
import { createDatabase, migrate } from '@shopstream/database'
import type { EventName } from '@shopstream/events'
import { createMessaging, ensureTopics, type Message, messagingMigrations, on, producer } from '@shopstream/messaging'
import { createLogger, createMetrics } from '@shopstream/observability'
import { testBroker, testDatabase } from '@shopstream/testing'
import { buildUser } from './app.ts'
import type { Config } from './config.ts'

/** What a test undoes at its end, last first. */
export type Undo = (() => Promise<void>)[]

export const logger = createLogger({ service: 'test', level: process.env.TEST_LOG ?? 'error', format: 'pretty' })

/** A Kafka of this test's own, with all topics. */
export async function testTopics(): Promise<{ brokers: string[]; topicPrefix: string }> {
  const broker = testBroker()
  await ensureTopics({ ...broker, groups: ['user', 'listener'], logger })
  return broker
}

/** The environment of a user service for tests. */
export function testConfig(
  url: string,
  { brokers, topicPrefix }: { brokers: string[]; topicPrefix: string },
  more: Partial<Config> = {},
): Config {
  return {
    NODE_ENV: 'test',
    LOG_LEVEL: 'error',
    LOG_FORMAT: 'pretty',
    HOST: '127.0.0.1',
    PORT: 0,
    SHUTDOWN_TIMEOUT_MS: 10_000,
    DATABASE_URL: url,
    DATABASE_POOL_SIZE: 5,
    KAFKA_BROKERS: brokers,
    KAFKA_TOPIC_PREFIX: topicPrefix,
    KEY_ENCRYPTION_SECRET: 'a secret of at least thirty-two characters',
    ACCESS_TOKEN_SECONDS: 900,
    REFRESH_TOKEN_DAYS: 30,
    SIGNING_KEY_DAYS: 30,
    SIGNING_KEY_LEAD_SECONDS: 600,
    ...more,
  }
}

/** Starts a user service and returns calls to its declared routes. */
export async function startUser(config: Config, undo: Undo) {
  const service = await buildUser(config, logger)
  undo.push(() => service.stop())
  await service.start()
  return {
    service,
    async call(method: 'GET' | 'POST' | 'DELETE', url: string, body?: unknown, token?: string) {
      const response = await service.http.inject({
        method,
        url,
        ...(body !== undefined && { payload: body as object }),
        headers: {
          'x-request-id': randomBytes(8).toString('hex'),
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
        },
      })
      const text = response.body
      return { status: response.statusCode, headers: response.headers, body: text ? JSON.parse(text) : undefined }
    },
  }
}

/** Another service that reads some events from the beginning of their topics; delivered twice, one is seen once. */
export async function startListener<N extends EventName>(
  { brokers, topicPrefix }: { brokers: string[]; topicPrefix: string },
  events: N[],
  undo: Undo,
): Promise<Message<N>[]> {
  const { url, drop } = await testDatabase('listener')
  undo.push(drop)
  const database = createDatabase<unknown>({ url, poolSize: 3, applicationName: 'listener', logger })
  undo.push(() => database.close())
  await migrate(database, messagingMigrations)
  const seen: Message<N>[] = []
  const isNew = ({ id }: Message<N>) => !seen.some((known) => known.id === id)
  const messaging = createMessaging({
    service: 'listener',
    database,
    databaseUrl: url,
    brokers,
    topicPrefix,
    consumes: [on(events, async (_tx, messages) => void seen.push(...messages.filter(isNew)))],
    produces: producer('listener', []),
    logger,
    metrics: createMetrics('listener'),
  })
  undo.push(() => messaging.stop())
  messaging.start()
  return seen
}

/** Undoes everything, last first. */
export async function undoAll(undo: Undo): Promise<void> {
  for (const step of undo.splice(0).reverse()) await step()
}
