import { createHash } from 'node:crypto'

/** Most texts remembered: lists of any length make many texts, and each prepared one costs every session memory. */
const most = { seen: 2_000, named: 300 }
const seen = new Set<string>()
const names = new Map<string, string>()

/**
 * The name of a prepared statement for a text that was seen before: Postgres parses it once and, after five times,
 * plans it no more. Undefined for a text that is new here, or when there are too many.
 */
export function preparedName(text: string): string | undefined {
  const known = names.get(text)
  if (known !== undefined || names.size >= most.named) return known
  if (!seen.has(text)) {
    if (seen.size >= most.seen) seen.clear()
    seen.add(text)
    return undefined
  }
  seen.delete(text)
  const name = createHash('sha256').update(text).digest('base64url').slice(0, 22)
  names.set(text, name)
  return name
}
