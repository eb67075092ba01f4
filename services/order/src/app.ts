import type { Static } from '@shopstream/config'
import { createDatabase, readMigrations } from '@shopstream/database'
import { createHttp, dataService, httpMigrations, signingKeyMigrations, signingKeys } from '@shopstream/http'
import { createMessaging, kafkaOptions, messagingMigrations, openKafkaBus } from '@shopstream/messaging'
import { createMetrics, type Logger } from '@shopstream/observability'
import type { configSchema } from './config.ts'
import { consumes } from './consumes.ts'
import { produces } from './produces.ts'
import { startSweeper } from './reserving/sweep.ts'
import { routes } from './routes.ts'
import type { Tables } from './tables.ts'

const migrations = [
  ...messagingMigrations,
  ...httpMigrations,
  ...signingKeyMigrations,
  ...readMigrations('order', import.meta.url),
]

/** Builds the order service: orders and their life, and a replica of the catalogue. */
export async function buildOrder(config: Readonly<Static<typeof configSchema>>, logger: Logger) {
  const metrics = createMetrics('order')
  const database = createDatabase<Tables>({
    url: config.DATABASE_URL,
    directUrl: config.DATABASE_DIRECT_URL,
    poolSize: config.DATABASE_POOL_SIZE,
    applicationName: 'order',
    logger,
  })
  const messaging = createMessaging({
    service: 'order',
    database: database.withPool(config.DATABASE_CONSUMER_POOL_SIZE),
    bus: await openKafkaBus({ ...kafkaOptions(config), clientId: 'order', logger, metrics }),
    parkedLimits: { count: config.PARKED_LIMIT_COUNT, ageSeconds: config.PARKED_LIMIT_AGE_SECONDS },
    consumes,
    produces,
    outboxLimits: config,
    logger,
    metrics,
  })
  const http = await createHttp({
    service: 'order',
    title: 'Orders',
    tags: { orders: 'Orders, from placing to delivery.' },
    routes: routes({ database, deadlineSeconds: config.RESERVATION_DEADLINE_SECONDS }),
    database,
    keys: signingKeys(database),
    checks: messaging.checks,
    overloaded: messaging.overloaded,
    identitySecret: config.SERVICE_IDENTITY_SECRET,
    logger,
    metrics,
  })
  return dataService({
    http,
    address: { host: config.HOST, port: config.PORT },
    database,
    migrations,
    messaging,
    logger,
    // Deadlines hold also while requests hold all connections that are theirs.
    begin: async () => startSweeper(database.withPool(1), logger),
  })
}
