import { jsonSchemaOf } from '@shopstream/events/json'
import type { RecordSchema } from '@shopstream/events/schema'
import { pathOf } from './files.ts'

/** The JSON Schema of each event, by its path: beside the event's `.avsc`. */
export function printJsonSchemas(events: readonly RecordSchema[]): Record<string, string> {
  const texts = events.map((event) => [
    pathOf(event.name).replace(/\.avsc$/, '.schema.json'),
    `${JSON.stringify(jsonSchemaOf(event), null, 2)}\n`,
  ])
  return Object.fromEntries(texts)
}
