import type { dataSettings, Static, serviceSettings, TObject } from '@shopstream/config'
import { createDatabase, type Database, type Migration } from '@shopstream/database'
import {
  createMessaging,
  kafkaOptions,
  type Messaging,
  type MessagingOptions,
  messagingMigrations,
  openKafkaBus,
  type ReadinessCheck,
} from '@shopstream/messaging'
import { createMetrics, Gauge, type Logger, type Registry } from '@shopstream/observability'
import type { KeyStore } from './access.ts'
import { httpMigrations, signingKeyMigrations } from './migrations.ts'
import type { Route } from './routes.ts'
import { createHttp, type HttpOptions } from './server.ts'
import { type ServiceLifeOptions, serviceLife } from './service-life.ts'
import { signingKeys } from './signing-keys.ts'

/** What every service with a database is made from. */
export interface DataServiceOptions<Tables>
  extends Pick<HttpOptions, 'title' | 'tags'>,
    Pick<MessagingOptions, 'consumes' | 'produces'> {
  /** The name of its consumer group and of what it shows: metrics, `/readyz`, sessions of its database. */
  service: string
  config: Readonly<Static<TObject<typeof serviceSettings & typeof dataSettings>>>
  logger: Logger
  /** Of its own tables; those that every service has come before them. */
  migrations: readonly Migration[]
  /** What this service has that others have not. */
  parts(common: CommonParts<Tables>): ServiceParts | Promise<ServiceParts>
}

/** What every service has; nothing is connected yet. */
export interface CommonParts<Tables> {
  /** For requests. Loops take a pool of their own, {@link Database.withPool}, so that requests cannot hold them up. */
  database: Database<Tables>
  messaging: Messaging
  metrics: Registry
  logger: Logger
}

export interface ServiceParts extends Pick<ServiceLifeOptions, 'begin'> {
  routes: readonly Route[]
  /** Whose signatures its routes believe; default: those of its own table `signing_key`. */
  keys?: KeyStore
  /** What `/readyz` asks besides. */
  checks?: readonly ReadinessCheck[]
}

/** All SQL that makes the database of a service with a table `signing_key`. */
export const migrationsWith = (own: readonly Migration[]): Migration[] => [
  ...messagingMigrations,
  ...httpMigrations,
  ...signingKeyMigrations,
  ...own,
]

/**
 * Builds a service with a database: its pools, relay, consumers, HTTP and metrics from its settings, and what
 * {@link DataServiceOptions.parts} adds. Nothing is connected before `start`. Throws what `parts` throws.
 */
export async function createDataService<Tables>(options: DataServiceOptions<Tables>) {
  const { service, config, logger, consumes, produces, migrations } = options
  const metrics = createMetrics(service)
  const database = createDatabase<Tables>({
    url: config.DATABASE_URL,
    directUrl: config.DATABASE_DIRECT_URL,
    poolSize: config.DATABASE_POOL_SIZE,
    applicationName: service,
    logger,
  })
  measurePools(database, metrics)
  const messaging = createMessaging({
    service,
    database: database.withPool('messaging', config.DATABASE_CONSUMER_POOL_SIZE),
    bus: await openKafkaBus({ ...kafkaOptions(config), clientId: service, logger, metrics }),
    parkedLimits: { count: config.PARKED_LIMIT_COUNT, ageSeconds: config.PARKED_LIMIT_AGE_SECONDS },
    consumes,
    produces,
    outboxLimits: config,
    logger,
    metrics,
  })
  const { routes, keys, checks = [], begin } = await options.parts({ database, messaging, metrics, logger })
  const http = await createHttp({
    service,
    title: options.title,
    ...(options.tags && { tags: options.tags }),
    routes,
    database,
    keys: keys ?? signingKeys(database),
    checks: [...messaging.checks, ...checks],
    overloaded: messaging.overloaded,
    identitySecret: config.SERVICE_IDENTITY_SECRET,
    logger,
    metrics,
  })
  return serviceLife({
    http,
    address: { host: config.HOST, port: config.PORT },
    database,
    migrations: keys ? [...messagingMigrations, ...httpMigrations, ...migrations] : migrationsWith(migrations),
    messaging,
    logger,
    ...(begin && { begin }),
  })
}

function measurePools(database: Pick<Database<unknown>, 'pools'>, metrics: Registry): void {
  new Gauge({
    name: 'shopstream_database_connections',
    help: 'Connections to the database by pool and state: idle or busy; waiting is work that has none yet.',
    labelNames: ['pool', 'state'],
    registers: [metrics],
    collect() {
      for (const [pool, use] of database.pools())
        for (const [state, number] of Object.entries(use)) this.set({ pool, state }, number)
    },
  })
}
