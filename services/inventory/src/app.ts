import type { Static } from '@shopstream/config'
import { createDatabase, readMigrations } from '@shopstream/database'
import { createHttp, dataService, httpMigrations, signingKeyMigrations, signingKeys } from '@shopstream/http'
import { createMessaging, kafkaOptions, type Messaging, messagingMigrations, openKafkaBus } from '@shopstream/messaging'
import { createMetrics, type Logger } from '@shopstream/observability'
import { seedCatalogue } from './catalogue/seed.ts'
import type { configSchema } from './config.ts'
import { consumes } from './consumes.ts'
import { produces } from './produces.ts'
import { routes } from './routes.ts'
import type { Tables } from './tables.ts'

const migrations = [
  ...messagingMigrations,
  ...httpMigrations,
  ...signingKeyMigrations,
  ...readMigrations('inventory', import.meta.url),
]

/** Builds the inventory service: products, stock and reservations. */
export async function buildInventory(config: Readonly<Static<typeof configSchema>>, logger: Logger) {
  const metrics = createMetrics('inventory')
  const database = createDatabase<Tables>({
    url: config.DATABASE_URL,
    directUrl: config.DATABASE_DIRECT_URL,
    poolSize: config.DATABASE_POOL_SIZE,
    applicationName: 'inventory',
    logger,
  })
  const messaging = createMessaging({
    service: 'inventory',
    database: database.withPool(config.DATABASE_CONSUMER_POOL_SIZE),
    bus: await openKafkaBus({ ...kafkaOptions(config), clientId: 'inventory', logger, metrics }),
    parkedLimits: { count: config.PARKED_LIMIT_COUNT, ageSeconds: config.PARKED_LIMIT_AGE_SECONDS },
    consumes,
    produces,
    outboxLimits: config,
    logger,
    metrics,
  })
  const seeds = { published: !config.SEED_CATALOGUE }
  const http = await createHttp({
    service: 'inventory',
    title: 'Inventory',
    tags: { products: 'What is on sale, and how much of it is there.' },
    routes: routes(database),
    database,
    keys: signingKeys(database),
    checks: [...messaging.checks, { name: 'seeds', check: () => checkSeeds(seeds, messaging) }],
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
    async begin() {
      if (config.SEED_CATALOGUE) seeds.published = !(await seedCatalogue(database))
      return undefined
    },
  })
}

/** Just seeded, the catalogue counts once it is in its topic, where the order service learns of it. */
async function checkSeeds(seeds: { published: boolean }, messaging: Pick<Messaging, 'hasPublished'>): Promise<void> {
  seeds.published ||= await messaging.hasPublished()
  if (!seeds.published) throw new Error('the catalogue is not published yet')
}
