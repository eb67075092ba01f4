import type { Static } from '@shopstream/config'
import { readMigrations } from '@shopstream/database'
import { createDataService } from '@shopstream/http'
import type { Messaging } from '@shopstream/messaging'
import type { Logger } from '@shopstream/observability'
import { seedCatalogue } from './catalogue/seed.ts'
import type { configSchema } from './config.ts'
import { consumes } from './consumes.ts'
import { produces } from './produces.ts'
import { routes } from './routes.ts'
import type { Tables } from './tables.ts'

/** Builds the inventory service: products, stock and reservations. */
export const buildInventory = (config: Readonly<Static<typeof configSchema>>, logger: Logger) =>
  createDataService<Tables>({
    service: 'inventory',
    title: 'Inventory',
    tags: { products: 'What is on sale, and how much of it is there.' },
    config,
    logger,
    consumes,
    produces,
    migrations: readMigrations('inventory', import.meta.url),
    parts({ database, messaging }) {
      const seeds = { published: !config.SEED_CATALOGUE }
      return {
        routes: routes(database),
        checks: [{ name: 'seeds', check: () => checkSeeds(seeds, messaging) }],
        async begin() {
          if (config.SEED_CATALOGUE) seeds.published = !(await seedCatalogue(database))
          return undefined
        },
      }
    },
  })

/** A new catalogue counts once it is in its topic, from which the order service learns of it. */
async function checkSeeds(seeds: { published: boolean }, messaging: Pick<Messaging, 'hasPublished'>): Promise<void> {
  seeds.published ||= await messaging.hasPublished()
  if (!seeds.published) throw new Error('the catalogue is not published yet')
}
