import { globSync } from 'node:fs'
import { join } from 'node:path'
import type { Ownership } from '@shopstream/messaging'
import { type ServiceWiring, wiringOf } from '@shopstream/testing/wiring'

/** In a bundle, which holds the services' tables but no folders: their names, put here by whoever bundles. */
declare const bundledServices: readonly string[] | undefined
/** Then nothing is beside this program but Node and its environment. */
export const isBundle = typeof bundledServices !== 'undefined'

/** The services that have topics and a database, by name. Paths are relative: bundlers follow them, as Node does. */
export const serviceNames: readonly string[] =
  typeof bundledServices === 'undefined'
    ? globSync('*/src/produces.ts', { cwd: join(import.meta.dirname, '../../../services') })
        .map((path) => path.split(/[\\/]/)[0] as string)
        .sort()
    : bundledServices

/** What each service writes and reads, as its own tables say. Throws where one of the two is missing or none. */
export const readServices = (): Promise<ServiceWiring[]> =>
  Promise.all(
    serviceNames.map(async (name) =>
      wiringOf(
        name,
        await import(`../../../services/${name}/src/produces.ts`),
        await import(`../../../services/${name}/src/consumes.ts`),
      ),
    ),
  )

/** A service's `owns.ts`. */
export async function ownershipOf(name: string): Promise<Ownership> {
  const { owns } = await import(`../../../services/${name}/src/owns.ts`)
  return owns as Ownership
}
