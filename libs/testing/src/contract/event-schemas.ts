import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LockEntry } from '@shopstream/events/codec'
import { breakages, listed, type Parties, tellBreakage, undeclaredFields } from '@shopstream/events/contract'
import { shortName } from '@shopstream/events/schema'
import { repository } from '@shopstream/local-servers'
import { type Golden, readGolden } from '../golden.ts'

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
 * What a service that uses these fields of an event would lose by the event's `.avsc` as it is now: one text each, which
 * names the service and says what to do. A field that is declared differently is left to {@link versionProblems}.
 */
export function fieldProblems(service: string, fields: readonly string[], { event, file, schema, rows }: EventSchemas) {
  if (schema === undefined) return [`${service} consumes ${event}, and ${file} is missing: restore it`]
  const use = { service, event, fields }
  return [
    ...undeclaredFields(use, file, fieldsOf(schema)),
    ...undeclaredFields(use, 'schemas/registry.lock.json', fieldsOf(rows.at(-1)?.schema)),
  ]
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
 * What an event's current `.avsc` would break between the services and the versions in the lock, which may still be
 * stored or deployed: one text each, which names the service under test and all that read and write the event.
 * @param role how the service is concerned.
 * @param readParties asked only when something is wrong.
 */
export async function versionProblems(
  service: string,
  role: 'consumes' | 'produces',
  { event, file, schema, rows }: EventSchemas,
  readParties: () => Promise<Parties & { topic?: string }>,
): Promise<string[]> {
  if (schema === undefined) {
    const { consumers } = await readParties()
    return [`${service} ${role} ${event}, and ${file} is missing: restore it. Its consumers: ${listed(consumers)}`]
  }
  const found = breakages(schema, rows)
  if (found.length === 0) return []
  const place = { event, path: file, ...(await readParties()) }
  return found.map((breakage) => `${service} ${role} ${event}: ${tellBreakage(breakage, place)}`)
}
