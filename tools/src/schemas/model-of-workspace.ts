import { registry, topics } from '@shopstream/events'
import { eventsOf, readSchemaFiles, workspace } from './files.ts'
import { type Model, readWiring } from './wiring.ts'

/** The workspace of this checkout: its schemas, lock, topics and tables. Throws when a schema file is refused. */
export async function readModel(): Promise<Model> {
  const files = readSchemaFiles(workspace)
  const refused = files.find(({ event }) => !event)
  if (refused) throw new Error(`${refused.path}: ${refused.problem}`)
  return { events: eventsOf(files), lock: [...registry], topics, wiring: await readWiring(workspace) }
}
