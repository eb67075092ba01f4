import { readMigrations } from '@shopstream/database'
import { createDataService } from '@shopstream/http'
import { kafkaOptions, openKafkaBus } from '@shopstream/messaging'
import type { Logger } from '@shopstream/observability'
import { readBridges } from './bridges.ts'
import { startBridges, startNone } from './bridging.ts'
import type { Config } from './config.ts'
import { consumes } from './consumes.ts'
import { createBridgeMeters } from './meters.ts'
import { produces } from './produces.ts'
import { startForgetting } from './receiving/forget.ts'
import { routes } from './routes.ts'
import type { Tables } from './tables.ts'

/** Connections of all bridges, and one for each: it takes one for a moment, when it parks, tries again or takes in. */
const bridgeConnections = 4

/** Builds the bridge service from its settings; nothing is connected before `start`. Throws a ConfigError for a table that is wrong. */
export async function buildBridge(config: Config, logger: Logger) {
  const bridges = readBridges(config)
  return createDataService<Tables>({
    service: 'bridge',
    title: 'shopstream: bridges',
    tags: { bridges: 'Ways to and from brokers of other kinds.' },
    config,
    logger,
    consumes,
    produces,
    migrations: readMigrations('bridge', import.meta.url),
    parts: ({ database, messaging, metrics }) => ({
      routes: routes(database),
      async begin() {
        const meters = createBridgeMeters(metrics, bridges)
        if (bridges.length === 0) {
          const [stopNone, stopForgetting] = [startNone(database, logger), startForgetting(database, logger)]
          return async () => void (await Promise.all([stopNone(), stopForgetting()]))
        }
        const forBridges = database.withPool('bridges', bridgeConnections + bridges.length)
        const bus = await openKafkaBus({ ...kafkaOptions(config), clientId: 'bridge', logger })
        const started = await startBridges(bridges, {
          database: forBridges,
          bus,
          blocked: messaging.blocked,
          overloaded: messaging.overloaded,
          meters,
          logger,
        })
        const stopForgetting = startForgetting(forBridges, logger)
        return async () => {
          await started.close()
          await stopForgetting()
          await bus.close()
        }
      },
    }),
  })
}
