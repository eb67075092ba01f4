import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { createCodec, type LockEntry } from '@shopstream/events/codec'
import { normalise, type RecordSchema, shortName } from '@shopstream/events/schema'
import { readIfThere } from './files.ts'
import type { Finding } from './findings.ts'

export const lockFile = 'schemas/registry.lock.json'

/** How two branches that registered at the same time are brought together: main's ids have been given for good. */
const takeMains =
  'two branches registered at the same time. Take those of main (git checkout origin/main -- ' +
  'schemas/registry.lock.json schemas/topics.lock.json schemas/golden), delete the golden files that `check` then ' +
  "names, and run `npm run schemas -- register`, which gives this branch's versions the next ids"

/** A lock that is no JSON; while a merge goes on, that is so because of its marks. */
export function unreadable(path: string, text: string, problem: string): Finding {
  const isConflict = /^(<{7}|>{7})/m.test(text)
  const why = isConflict ? 'as it has the marks of a merge conflict' : `as ${problem}`
  const mend = isConflict
    ? takeMains
    : 'restore it from main, and run `npm run schemas -- register` for what this branch adds'
  const message = `cannot be read, ${why}; what is compared with it was not checked: ${mend}`
  return { rule: 'lock', path, message }
}

/** Every reader has this schema built in: it is how all others are learned, so its id and text are for good. */
export const pinned = { subject: 'shopstream.schema.SchemaRegistered', id: 100_001 }

export interface Lock {
  lock: LockEntry[]
  /** What is wrong with it. */
  findings: Finding[]
  /** Otherwise `lock` is empty and says nothing. */
  isReadable: boolean
}

/** The rows of the lock. No file is an empty lock. */
export function readLock(root: string): Lock {
  const text = readIfThere(join(root, lockFile))
  if (text === undefined) return { lock: [], findings: [], isReadable: true }
  try {
    const lock = JSON.parse(text) as LockEntry[]
    if (!Array.isArray(lock)) throw new Error('it is no list')
    return { lock, findings: lock.flatMap(rowFindings), isReadable: true }
  } catch (error) {
    return { lock: [], findings: [unreadable(lockFile, text, (error as Error).message)], isReadable: false }
  }
}

/** What is wrong with a row, given those before it: rows are appended and never altered. */
function rowFindings(row: LockEntry, at: number, lock: readonly LockEntry[]): Finding[] {
  const before = lock[at - 1]?.id ?? pinned.id - 1
  const version = lock.slice(0, at).filter(({ subject }) => subject === row.subject).length + 1
  const namesake = lock.slice(0, at).find((other) => isNamesake(other, row))
  const restore = 'restore the row as it was committed'
  const problems = [
    !(row.id > before) && `id ${row.id} is not above ${before} of the row before: ${takeMains}`,
    row.version !== version && `version of ${row.id} ${row.subject} is ${row.version}, not ${version}: ${restore}`,
    row.fingerprint !== fingerprint(row.schema) &&
      `the schema of ${row.id} ${row.subject} is not the one that was registered: ${restore}`,
    at === 0 && (row.subject !== pinned.subject || row.id !== pinned.id)
      ? `${pinned.subject} is not its first row, with the id ${pinned.id}: ${restore}`
      : false,
    namesake &&
      `${row.subject} has the short name of ${namesake.subject}, and readers find events by it: take another name`,
  ]
  return problems
    .filter((problem) => typeof problem === 'string')
    .map((message) => ({ rule: 'lock', path: lockFile, subject: row.subject, message }))
}

const isNamesake = (one: LockEntry, other: LockEntry) =>
  one.subject !== other.subject && shortName(one.subject) === shortName(other.subject)

/** The rows that the lock lacks: one for each event that differs from its newest version, with the next free ids. */
export function newRows(lock: readonly LockEntry[], events: readonly RecordSchema[]): LockEntry[] {
  const newest = new Map(lock.map((row) => [row.subject, row]))
  const first = (lock.at(-1)?.id ?? pinned.id - 1) + 1
  return events
    .toSorted((one, other) => Number(other.name === pinned.subject) - Number(one.name === pinned.subject))
    .map((event) => ({ subject: event.name, schema: normalise(event) }))
    .filter(({ subject, schema }) => newest.get(subject)?.fingerprint !== fingerprint(schema))
    .map(({ subject, schema }, at) => {
      const version = (newest.get(subject)?.version ?? 0) + 1
      return { id: first + at, subject, version, fingerprint: fingerprint(schema), schema }
    })
}

/** Some faults are seen only by the codec, such as a default of another type than its field. */
export function loadProblem(row: LockEntry): string | undefined {
  try {
    createCodec([row])
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** SHA-256 of a schema as compact JSON, in hex. */
export const fingerprint = (schema: unknown): string =>
  createHash('sha256')
    .update(JSON.stringify(schema) ?? '')
    .digest('hex')

/** Two lines a row, so that a new version is a diff of two added lines. */
export function printLock(lock: readonly LockEntry[]): string {
  const rows = lock.map(
    ({ schema, ...row }) => `${JSON.stringify(row).slice(0, -1)},\n "schema":${JSON.stringify(schema)}}`,
  )
  return `[\n${rows.join(',\n')}\n]\n`
}
