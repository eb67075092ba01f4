import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { registry, topics } from '@shopstream/events'
import { parseSchema } from '@shopstream/events/schema'
import { type Model, readWiring } from './wiring.ts'

/** The workspace of this checkout: its schemas, lock, topics and tables. */
export async function readModel(): Promise<Model> {
  const root = join(import.meta.dirname, '../../..')
  const files = globSync('schemas/**/*.avsc', { cwd: root }).sort()
  const events = files.map((file) => parseSchema(JSON.parse(readFileSync(join(root, file), 'utf8'))))
  return { events, lock: [...registry], topics, wiring: await readWiring(root) }
}
