import type { LockEntry } from '@shopstream/events/registry'
import { normalise, parseSchema } from '@shopstream/events/schema'

/** What the registry refuses, with the code that Confluent's Schema Registry gives it; its first three digits are the status. */
export class RegistryError extends Error {
  readonly code: number

  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }

  get status(): number {
    return Number(String(this.code).slice(0, 3))
  }
}

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
  const bySubject = Map.groupBy(lock, ({ subject }) => subject)

  const rowsOf = (subject: string): LockEntry[] => {
    const rows = bySubject.get(subject)
    if (!rows) throw new RegistryError(40401, `Subject '${subject}' not found.`)
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
  /** The row of a subject that has this schema; its text may be laid out and documented as it likes. */
  const rowBySchema = (subject: string, text: unknown): LockEntry | undefined => {
    const rows = rowsOf(subject) // first: reading a schema costs more
    const wanted = textOf(text)
    return rows.findLast(({ schema }) => JSON.stringify(schema) === wanted)
  }

  return {
    subjects: () => [...bySubject.keys()].sort(),
    versions: (subject: string) => rowsOf(subject).map(({ version }) => version),
    version: (subject: string, version: string) => shown(rowOf(subject, version)),
    versionSchema: (subject: string, version: string) => rowOf(subject, version).schema,
    schemas: () => lock.map(shown),
    schema: (id: string) => ({ schema: JSON.stringify(rowById(id).schema) }),
    schemaText: (id: string) => rowById(id).schema,
    usesOf: (id: string) => [rowById(id)].map(({ subject, version }) => ({ subject, version })),
    lookup(subject: string, schema: unknown) {
      const row = rowBySchema(subject, schema)
      if (!row) throw new RegistryError(40403, 'Schema not found')
      return shown(row)
    },
    /** Registering what is registered changes nothing, so clients that register before they write work. */
    register(subject: string, schema: unknown) {
      const row = bySubject.has(subject) ? rowBySchema(subject, schema) : undefined
      if (!row) throw readOnly(`Subject ${subject}`)
      return { id: row.id }
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
      throw readOnly('The registry')
    },
  }
}

const readOnly = (what: string) =>
  new RegistryError(42205, `${what} is in read-only mode: schemas are registered in the repository, by its own command`)

/** A schema that clients send, as the lock has it. */
function textOf(schema: unknown): string {
  try {
    return JSON.stringify(normalise(parseSchema(JSON.parse(String(schema)))))
  } catch (error) {
    throw new RegistryError(42201, `Invalid schema: ${(error as Error).message}`)
  }
}
