import type { Static } from '@shopstream/config'
import { readMigrations } from '@shopstream/database'
import { createDataService } from '@shopstream/http'
import type { Logger } from '@shopstream/observability'
import type { configSchema } from './config.ts'
import { consumes } from './consumes.ts'
import { measureOrders } from './meters.ts'
import { produces } from './produces.ts'
import { startSweeper } from './reserving/sweep.ts'
import { routes } from './routes.ts'
import type { Tables } from './tables.ts'

/** Builds the order service: orders and their life, and a replica of the catalogue. */
export const buildOrder = (config: Readonly<Static<typeof configSchema>>, logger: Logger) =>
  createDataService<Tables>({
    service: 'order',
    title: 'Orders',
    tags: { orders: 'Orders, from placing to delivery.' },
    config,
    logger,
    consumes,
    produces,
    migrations: readMigrations('order', import.meta.url),
    parts({ database, metrics, logger }) {
      measureOrders(database, metrics, logger)
      // Deadlines hold also while requests hold all connections that are theirs.
      const forSweeper = database.withPool('sweeper', 1)
      return {
        routes: routes({ database, deadlineSeconds: config.RESERVATION_DEADLINE_SECONDS }),
        begin: async () => startSweeper(forSweeper, logger),
      }
    },
  })
