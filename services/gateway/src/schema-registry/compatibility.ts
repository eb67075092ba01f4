import { breakages } from '@shopstream/events/contract'
import type { LockEntry } from '@shopstream/events/registry'

/** Most reasons that are told, and their length: a schema that fits nowhere does not get a book. */
const most = { reasons: 20, letters: 1_000 }

/**
 * Why a schema could not become the next version beside these, in words; empty when it could. Each has to read the other
 * (FULL_TRANSITIVE), by the rules that registering in the repository goes by.
 */
export function reasonsAgainst(schema: unknown, rows: readonly LockEntry[]): string[] {
  const found = breakages(schema, rows)
  const told = found.slice(0, most.reasons).map(({ direction, problem, rows: those }) => {
    const versions = `version ${[...new Set(those.map(({ version }) => version))].join(', ')}`
    const hit =
      direction === 'backward' ? `The schema could not read ${versions}` : `${versions} could not read the schema`
    const text = `${hit}: [${problem.type}] ${problem.message}`
    return text.length > most.letters ? `${text.slice(0, most.letters)}...` : text
  })
  return found.length > most.reasons ? [...told, `and ${found.length - most.reasons} more`] : told
}
