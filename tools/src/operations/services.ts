import { readConfig, Type } from '@shopstream/config'
import type { Ownership } from '@shopstream/messaging'
import { type ServiceWiring, wiringOf } from '@shopstream/testing/wiring'
import { perService, type ServiceName, serviceNames } from '../services.ts'

/** Set by whoever bundles. */
declare const isBundled: true | undefined
/** Then nothing is beside this program but Node and its environment. */
export const isBundle = typeof isBundled !== 'undefined'

/** A service that has a database, which is also a consumer group and the source of its events. */
export type Owner = ServiceName
export const owners = serviceNames
export const perOwner = perService

/** What each service writes and reads, as its own tables say. Throws where one of the two is missing or none. */
export const readServices = (): Promise<ServiceWiring[]> =>
  Promise.all(
    owners.map(async (name) =>
      wiringOf(
        name,
        await import(`../../../services/${name}/src/produces.ts`),
        await import(`../../../services/${name}/src/consumes.ts`),
        name === 'bridge' ? await import(`../../../services/bridge/src/forwards.ts`) : {},
      ),
    ),
  )

/**
 * The bridges of a deployment, as the environment of their service says: BRIDGES or BRIDGES_FILE, and the variables that its rows name.
 * Throws a ConfigError with all that is wrong or missing.
 */
export async function readBridgeTable(env: NodeJS.ProcessEnv) {
  const { readBridges } = await import('../../../services/bridge/src/bridges.ts')
  const { configSchema } = await import('../../../services/bridge/src/config.ts')
  const { BRIDGES, BRIDGES_FILE } = configSchema.properties
  return readBridges(readConfig(Type.Object({ BRIDGES, BRIDGES_FILE }), env), env)
}

/** A service's `owns.ts`. */
export async function ownershipOf(name: string): Promise<Ownership> {
  const { owns } = await import(`../../../services/${name}/src/owns.ts`)
  return owns as Ownership
}
