import { createCodec, type LockEntry } from '@shopstream/events/codec'
import { shortName } from '@shopstream/events/schema'
import type { EventSchemas } from './event-schemas.ts'

/** Two builds that run side by side during a deployment, as the locks that are bundled with them. */
export interface Pair {
  name: string
  /** The lock of N-1. */
  previous: readonly LockEntry[]
  /** The lock of N. */
  current: readonly LockEntry[]
  /** The newest row of the event in each. */
  rows: { previous: LockEntry; current: LockEntry }
  /** Whether N is not there yet, but made up here. */
  isTomorrow: boolean
}

type Data = Record<string, unknown>

const mend = 'run `npm run schemas -- register`'

/** The fields that only tomorrow's event has, with their default values. */
export const defaultsOfTomorrow = { addedTomorrow: 'not said', perhapsAddedTomorrow: null }
const addedFields = [
  { name: 'addedTomorrow', type: 'string', default: defaultsOfTomorrow.addedTomorrow },
  { name: 'perhapsAddedTomorrow', type: ['null', 'long'], default: defaultsOfTomorrow.perhapsAddedTomorrow },
]

/** The ids of tomorrow's versions, far from those that are given: every event has its own. */
const tomorrowsIds = 1_000_000

/**
 * Every pair of builds that may meet with this event: today's build with each older one that has another newest version
 * of the event, and tomorrow's, which adds fields to the event, with today's.
 */
export function pairsOf({ event, rows }: EventSchemas, lock: readonly LockEntry[]): Pair[] {
  const newest = rows.at(-1)
  if (!newest) throw new Error(`${event} has no version in schemas/registry.lock.json: ${mend}`)
  const older = rows.slice(0, -1).map((row, at): Pair => {
    const next = rows[at + 1] as LockEntry
    return {
      name: `today's version ${newest.version} and version ${row.version} before it`,
      previous: lock.slice(0, lock.indexOf(next)),
      current: lock,
      rows: { previous: row, current: newest },
      isTomorrow: false,
    }
  })
  const tomorrow = tomorrowsVersion(newest)
  return [
    ...older,
    {
      name: `a version ${tomorrow.version} with more fields and today's version ${newest.version}`,
      previous: lock,
      current: [...lock, tomorrow],
      rows: { previous: newest, current: tomorrow },
      isTomorrow: true,
    },
  ]
}

function tomorrowsVersion(newest: LockEntry): LockEntry {
  const schema = newest.schema as { fields: object[] }
  return {
    ...newest,
    id: newest.id + tomorrowsIds,
    version: newest.version + 1,
    schema: { ...schema, fields: [...schema.fields, ...addedFields] },
  }
}

/**
 * The golden payload of a row; tomorrow's row has today's with values for what it adds. Throws when a row of the lock
 * has no golden bytes.
 */
export function exampleOf(row: LockEntry, schemas: EventSchemas): Data {
  const newest = schemas.rows.at(-1)
  if (newest && row.id === newest.id + tomorrowsIds)
    return { ...exampleOf(newest, schemas), addedTomorrow: 'said', perhapsAddedTomorrow: 5n }
  const own = schemas.golden.find(({ schemaId }) => schemaId === row.id)
  if (!own) throw new Error(`version ${row.version} of ${schemas.event} has no golden bytes: ${mend}`)
  return createCodec<Record<string, Data>>([row]).decode(Buffer.from(own.hex, 'hex')).data
}

/**
 * The builds that may still be deployed and have different versions of the event, oldest first: the lock of each, and
 * the rows that came after it.
 */
export function buildsWith(event: string, lock: readonly LockEntry[]) {
  return lock.flatMap((row, at) =>
    shortName(row.subject) === event
      ? [{ version: row.version, lock: lock.slice(0, at + 1), later: lock.slice(at + 1) }]
      : [],
  )
}
