import { isDeepStrictEqual } from 'node:util'
import type { LockEntry } from '@shopstream/events/registry'
import { reasonsAgainst } from './compatibility.ts'
import { RegistryError } from './errors.ts'
import { asInLock, readSchema } from './given-schema.ts'
import { settings, subjectsOf } from './subjects.ts'

/** A schema as clients of the registry get it. */
interface RegisteredSchema {
  subject: string
  version: number
  id: number
  /** The schema as JSON text. */
  schema: string
}

/** The same for every subject. */
const config = { compatibilityLevel: 'FULL_TRANSITIVE' }
const mode = { mode: 'READONLY' }

const shown = ({ subject, version, id, schema }: LockEntry): RegisteredSchema => ({
  subject,
  version,
  id,
  schema: JSON.stringify(schema),
})

/**
 * The read side of Confluent's Schema Registry over the rows of a lock. Subjects are the full names of records
 * (RecordNameStrategy). Everything throws {@link RegistryError}.
 * Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
 */
export function answersFrom(lock: readonly LockEntry[]) {
  const subjects = subjectsOf(lock)

  const noSubject = (subject: string) =>
    new RegistryError(40401, `Subject '${subject}' not found. ${subjects.help(subject)}.`)
  const rowsOf = (subject: string): LockEntry[] => {
    const rows = subjects.rows(subject)
    if (!rows) throw noSubject(subject)
    return rows
  }
  const rowOf = (subject: string, version: string): LockEntry => {
    const number = version === 'latest' ? -1 : Number(/^(-1|[1-9]\d{0,9})$/.exec(version)?.[0])
    if (Number.isNaN(number) || number > 2 ** 31 - 1) {
      throw new RegistryError(
        42202,
        `The specified version '${version}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string "latest"`,
      )
    }
    const rows = rowsOf(subject)
    const row = number === -1 ? rows.at(-1) : rows.find((one) => one.version === number)
    if (!row) throw new RegistryError(40402, `Version ${version} not found.`)
    return row
  }
  const rowById = (id: string): LockEntry => {
    const row = lock.find((one) => String(one.id) === id)
    if (!row) throw new RegistryError(40403, `Schema ${id} not found`)
    return row
  }
  const rowBySchema = (rows: readonly LockEntry[], schema: unknown): LockEntry | undefined => {
    const wanted = asInLock(readSchema(schema))
    return wanted === undefined ? undefined : rows.findLast((row) => isDeepStrictEqual(row.schema, wanted))
  }

  return {
    subjects: (prefix = '') => subjects.names.filter((name) => name.startsWith(prefix)),
    versions: (subject: string) => rowsOf(subject).map(({ version }) => version),
    version: (subject: string, version: string) => shown(rowOf(subject, version)),
    versionSchema: (subject: string, version: string) => rowOf(subject, version).schema,
    /** Nothing refers to another schema: each has all of its types in it. */
    referencedBy(subject: string, version: string): number[] {
      rowOf(subject, version)
      return []
    },
    schemas(prefix = '', latestOnly = false) {
      const rows = lock.filter(({ subject }) => subject.startsWith(prefix))
      return rows.filter((row) => !latestOnly || rowsOf(row.subject).at(-1) === row).map(shown)
    },
    schema: (id: string) => ({ schema: JSON.stringify(rowById(id).schema) }),
    schemaText: (id: string) => rowById(id).schema,
    usesOf: (id: string) => [rowById(id)].map(({ subject, version }) => ({ subject, version })),
    /** The row that has this schema. Its text may be laid out, documented and annotated as it likes. */
    lookup(subject: string, schema: unknown) {
      const rows = subjects.candidates(subject)
      if (rows.length === 0) throw noSubject(subject) // first: reading a schema costs more
      const row = rowBySchema(rows, schema)
      if (!row) throw new RegistryError(40403, `Schema not found. ${subjects.help(subject)}.`)
      return shown(row)
    },
    /** Registering what is registered changes nothing, so clients that register before they write work as they come. */
    register(subject: string, schema: unknown) {
      const rows = subjects.candidates(subject)
      const row = rows.length > 0 ? rowBySchema(rows, schema) : undefined
      if (!row) throw readOnly(`Subject ${subject}`, `has no such schema. ${subjects.help(subject)}`)
      return { id: row.id }
    },
    /** Whether a schema could be the next version beside one or all of a subject; with `verbose`, why not. */
    compatibility(subject: string, version: string | undefined, schema: unknown, verbose: boolean) {
      const rows = version === undefined ? rowsOf(subject) : [rowOf(subject, version)]
      const messages = reasonsAgainst(readSchema(schema), rows)
      return { is_compatible: messages.length === 0, ...(verbose && { messages }) }
    },
    config: () => config,
    subjectConfig(subject: string, defaultToGlobal: boolean) {
      if (!defaultToGlobal)
        throw new RegistryError(40408, `Subject '${subject}' does not have subject-level compatibility configured`)
      return config
    },
    mode: () => mode,
    subjectMode(subject: string, defaultToGlobal: boolean) {
      if (!defaultToGlobal)
        throw new RegistryError(40409, `Subject '${subject}' does not have subject-level mode configured`)
      return mode
    },
    readOnly: (): never => {
      throw readOnly('The registry', `is as the repository has it. ${settings}`)
    },
  }
}

const readOnly = (what: string, why: string) =>
  new RegistryError(
    42205,
    `${what} is in read-only mode, and ${why}. New schemas are registered in the repository: npm run schemas -- register.`,
  )
