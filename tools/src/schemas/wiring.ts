import { existsSync, globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { deadLetterTopic, type EventName, type Topic } from '@shopstream/events'
import type { LockEntry } from '@shopstream/events/codec'
import type { RecordSchema } from '@shopstream/events/schema'
import type { Consumption, Producer } from '@shopstream/messaging'

/** What a service writes and reads, as its `produces.ts` and `consumes.ts` say. */
export interface ServiceWiring {
  /** Also its consumer group and, to the broker, its principal. */
  service: string
  produces: EventName[]
  /** By event, the fields of its payload that a handler uses. */
  consumes: { event: EventName; fields: string[] }[]
}

/** Everything that the generated documents follow from. */
export interface Model {
  events: RecordSchema[]
  lock: LockEntry[]
  topics: readonly Topic[]
  wiring: ServiceWiring[]
}

/** Who creates the topics and makes new schemas known, before any service starts. */
export const deployment = 'deployment'

/** What libs/messaging adds to the table of each service that consumes anything: newer producers' schemas. */
const schemaConsumption: ServiceWiring['consumes'][number] = {
  event: 'SchemaRegistered',
  fields: ['schemaId', 'subject', 'schema'],
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
  const { produces } = (await read('produces.ts')) as { produces?: Producer }
  const { consumes } = (await read('consumes.ts')) as { consumes?: readonly Consumption[] }
  if (!produces?.events) throw new Error(`${folder}/produces.ts exports no \`produces\`, made by producer()`)
  if (!Array.isArray(consumes)) throw new Error(`${folder}/consumes.ts exports no \`consumes\`, a list of on()`)
  const uses = consumes.flatMap((row: Consumption) => Object.entries(row.uses))
  return {
    service: produces.service,
    produces: [...produces.events],
    consumes: uses.map(([event, fields]) => ({ event: event as EventName, fields: [...fields] })),
  }
}

/** The services' tables with what the platform adds: the deployment writes schemas, and every consumer reads them. */
export function withSchemas(wiring: readonly ServiceWiring[]): ServiceWiring[] {
  return [
    { service: deployment, produces: [schemaConsumption.event], consumes: [] },
    ...wiring.map((one) => (consumesAny(one) ? { ...one, consumes: [...one.consumes, schemaConsumption] } : one)),
  ]
}

/** Whether it has a consumer group, and with it something to give up on. */
export const consumesAny = ({ consumes }: ServiceWiring): boolean => consumes.length > 0

/** The dead-letter topics that a service writes to: one for each consumer group. */
export const deadLetterTopics = (wiring: readonly ServiceWiring[]): Topic[] =>
  wiring.filter(consumesAny).map(({ service }) => deadLetterTopic(service))
