import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from '@shopstream/local-servers'

/** One message of one version of an event, as it was written when that version was registered: a file of `schemas/golden`. */
export interface Golden {
  schemaId: number
  /** Full name of the record. */
  subject: string
  version: number
  /** The whole message, with the header of the wire format. */
  hex: string
  /** What the message says, as {@link asJson} gives it. */
  value: unknown
}

export const goldenFolder = 'schemas/golden'

/** Where the golden bytes of a row of the lock are, from the top of the repository. */
export const goldenFile = ({ subject, version }: Pick<Golden, 'subject' | 'version'>): string =>
  `${goldenFolder}/${subject}.v${version}.json`

/** Every golden file, in the order of the lock. Throws when one is no JSON. `root` is the top of the workspace. */
export function readGolden(root = repository): Golden[] {
  return globSync(`${goldenFolder}/*.json`, { cwd: root })
    .map((file) => JSON.parse(readFileSync(join(root, file), 'utf8')) as Golden)
    .toSorted((one, other) => one.schemaId - other.schemaId)
}

/** A decoded payload as JSON holds it: longs as decimal text, times as ISO 8601, bytes as hex. */
export function asJson(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Date) return value.toISOString()
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  if (Array.isArray(value)) return value.map(asJson)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, held]) => [key, asJson(held)]))
}
