import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LockEntry } from '@shopstream/events/codec'
import { incompatibilities } from '@shopstream/events/compatibility'
import { shortName } from '@shopstream/events/schema'
import { type Golden, readGolden } from '../golden.ts'
import { repository } from '../paths.ts'

/** Everything that the repository says about one event. */
export interface EventSchemas {
  event: string
  /** Path of its `.avsc` from the top of the repository. */
  file: string
  /** What is in that file; undefined when it is missing. */
  schema: unknown
  /** Its rows of the lock, by version. */
  rows: readonly LockEntry[]
  /** Its golden bytes, by version. */
  golden: readonly Golden[]
}

/** Reads what there is of an event. Throws when its `.avsc` is no JSON. */
export function readEventSchemas(event: string, lock: readonly LockEntry[], root = repository): EventSchemas {
  const [file] = globSync(`schemas/*/${event}.avsc`, { cwd: root })
  const ofEvent = ({ subject }: { subject: string }) => shortName(subject) === event
  return {
    event,
    file: file ?? `schemas/*/${event}.avsc`,
    schema: file && readJson(join(root, file), file),
    rows: lock.filter(ofEvent),
    golden: readGolden(root).filter(ofEvent),
  }
}

function readJson(path: string, file: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw new Error(`${file} is no JSON: ${(error as Error).message}`, { cause: error })
  }
}

/**
 * What a service that uses these fields of an event would lose by the event's `.avsc` as it is now: one line each, which
 * names the service and says what to do. A field that is declared differently is left to {@link versionProblems}.
 */
export function fieldProblems(service: string, fields: readonly string[], { event, file, schema, rows }: EventSchemas) {
  const uses = `${service} consumes ${event} and uses`
  if (schema === undefined) return [`${service} consumes ${event}, and ${file} is missing: restore it`]
  const places = [
    { place: file, declared: fieldsOf(schema) },
    { place: 'schemas/registry.lock.json', declared: fieldsOf(rows.at(-1)?.schema) },
  ]
  return places.flatMap(({ place, declared }) =>
    fields
      .filter((field) => !declared.includes(field))
      .map(
        (field) =>
          `${uses} the field ${field}, which ${place} does not declare: restore it, or let services/${service} do without it first`,
      ),
  )
}

/** What nx watches for the contract of a service that has to do with this event: its `.avsc` and its golden bytes. */
export function watchedFiles({ event, file }: EventSchemas): string {
  const folder = file.split('/').at(-2)
  return `{workspaceRoot}/schemas/{${folder},golden}/{${event},*.${event}}.*`
}

/** Names of the fields of a record's schema as JSON; none when it is no record. */
function fieldsOf(schema: unknown): string[] {
  const { fields = [] } = (schema ?? {}) as { fields?: { name: string }[] }
  return fields.map(({ name }) => name)
}

/**
 * What an event's `.avsc` as it is now would break between a service and the versions in the lock, which may be stored
 * or deployed still: one line each, which names the service.
 * @param role how the service is concerned, such as `consumes`.
 */
export function versionProblems(service: string, role: 'consumes' | 'produces', schemas: EventSchemas): string[] {
  const { event, file, schema, rows } = schemas
  if (schema === undefined) return [`${service} ${role} ${event}, and ${file} is missing: restore it`]
  return rows.flatMap((row) => {
    const told = (loss: string, [reader, writer]: [unknown, unknown]) =>
      incompatibilities(reader, writer).map(
        ({ type, readerPath, message }) => `${service} ${role} ${event}: ${loss}: ${type} at ${readerPath}: ${message}`,
      )
    return [
      ...told(`with ${file} as it is now, version ${row.version} cannot be read any more`, [schema, row.schema]),
      ...told(`who is deployed with version ${row.version} cannot read ${file} as it is now`, [row.schema, schema]),
    ]
  })
}
