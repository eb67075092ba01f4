import { createHash } from 'node:crypto'

/** Texts that are remembered at the most: those of lists of any length are many, and each costs every session memory. */
const most = { seen: 2_000, named: 300 }
const seen = new Set<string>()
const names = new Map<string, string>()

/**
 * The name under which a session keeps a statement that has come before, so that Postgres parses it once and, after five
 * times, plans it no more; undefined for one that is new here, or one too many.
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
