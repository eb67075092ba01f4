import { existsSync, globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { EventName } from '@shopstream/events'
import type { Parties } from '@shopstream/events/contract'
import type { Consumption, Producer } from '@shopstream/messaging'

/** What a service writes and reads, as its `produces.ts` and `consumes.ts` say. */
export interface ServiceWiring {
  /** Also its consumer group and, to the broker, its principal. */
  service: string
  produces: EventName[]
  /** By event, the fields of its payload that a handler uses. */
  consumes: { event: EventName; fields: string[] }[]
  /** Events that its bridges hand on, by groups whose names begin with the service's; see `forwards.ts` of services/bridge. */
  forwards?: readonly EventName[]
}

/**
 * The tables of each service that has any, in the order of their names; those of the gateway, which has none, are left
 * out. Throws when a service has one table and not the other, or when a table cannot be imported. `root` is the
 * workspace. A table that was imported before is not read again in the same process.
 */
export async function readWiring(root: string): Promise<ServiceWiring[]> {
  const folders = new Set(globSync('services/*/src/{produces,consumes}.ts', { cwd: root }).map(dirname))
  return Promise.all([...folders].sort().map((folder) => readTables(root, folder)))
}

async function readTables(root: string, folder: string): Promise<ServiceWiring> {
  const read = async (file: string) => {
    const path = join(root, folder, file)
    if (!existsSync(path)) throw new Error(`${folder}/${file} is missing: a service has both tables, an empty one too`)
    return import(pathToFileURL(path).href)
  }
  const forwards = existsSync(join(root, folder, 'forwards.ts')) ? await read('forwards.ts') : {}
  return wiringOf(folder, await read('produces.ts'), await read('consumes.ts'), forwards)
}

/** Of the modules of a service's tables, of which a service with bridges has three. `where` is for the words of what is thrown when they hold none. */
export function wiringOf(
  where: string,
  { produces }: { produces?: Producer },
  { consumes }: { consumes?: readonly Consumption[] },
  { forwards }: { forwards?: readonly EventName[] } = {},
): ServiceWiring {
  if (!produces?.events) throw new Error(`${where}/produces.ts exports no \`produces\`, made by producer()`)
  if (!Array.isArray(consumes)) throw new Error(`${where}/consumes.ts exports no \`consumes\`, a list of on()`)
  const uses = consumes.flatMap((row: Consumption) => Object.entries(row.uses))
  return {
    service: produces.service,
    produces: [...produces.events],
    consumes: uses.map(([event, fields]) => ({ event: event as EventName, fields: [...fields] })),
    ...(forwards && { forwards }),
  }
}

/** Who reads and who writes an event, by its short name. */
export function partiesOf(wiring: readonly ServiceWiring[], event: string): Parties {
  const names = (some: (one: ServiceWiring) => boolean) => wiring.filter(some).map(({ service }) => service)
  return {
    consumers: names(({ consumes }) => consumes.some((row) => row.event === event)),
    producers: names(({ produces }) => (produces as string[]).includes(event)),
  }
}
