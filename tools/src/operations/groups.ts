import { topicOf } from '@shopstream/events'
import { consumesAny, withSchemas } from '../schemas/wiring.ts'
import { readServices } from './services.ts'
import type { Owner } from './shop-access.ts'

/** A consumer group: a service, what it consumes and from where. */
export interface Group {
  group: Owner
  types: ReadonlySet<string>
  topics: string[]
}

/** The consumer groups of this version, as the services' `consumes.ts` say. */
export async function readGroups(): Promise<Group[]> {
  const wiring = withSchemas(await readServices()).filter(consumesAny)
  return wiring.map(({ service, consumes }) => ({
    group: service as Owner,
    types: new Set(consumes.map(({ event }) => event)),
    topics: [...new Set(consumes.map(({ event }) => topicOf(event).name))],
  }))
}
