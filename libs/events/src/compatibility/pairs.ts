import type { AvroNode } from './avro-nodes.ts'
import { type Comparison, compare } from './comparison.ts'
import { type IncompatibilityType, javaRules } from './incompatibility.ts'

/** A pair of types and whether it fits, by Java's rules, with all that it contains. */
export interface Pair {
  readonly reader: AvroNode
  readonly writer: AvroNode
  readonly comparison: Comparison
  /** One for each of the parts. */
  readonly inner: Pair[]
  /** The pairs that this one is a part of. */
  readonly outer: Pair[]
  /** Of a choice: how many parts still fit. */
  left: number
  fits: boolean
}

/**
 * Makes the pairs that meet, and finds which of them fit: every pair fits until proven otherwise, and a misfit spreads
 * to the pairs around it (the greatest fixed point). So recursive schemas terminate, and no pair passes because of one
 * that fails later, as can happen in a recursion that remembers results. Linear in the number of pairs; no recursion
 * here.
 */
export function judge(reader: AvroNode, writer: AvroNode): Pair {
  const known = new Map<AvroNode, Map<AvroNode, Pair>>()
  const fresh: Pair[] = []
  const pairOf = (r: AvroNode, w: AvroNode): Pair => {
    const row = known.get(r) ?? new Map<AvroNode, Pair>()
    known.set(r, row)
    const before = row.get(w)
    if (before) return before
    const comparison = compare(r, w)
    const left = comparison.parts.length
    const pair: Pair = { reader: r, writer: w, comparison, inner: [], outer: [], left, fits: true }
    row.set(w, pair)
    fresh.push(pair)
    return pair
  }
  const root = pairOf(reader, writer)
  const failing: Pair[] = []
  for (let pair = fresh.pop(); pair; pair = fresh.pop()) {
    for (const part of pair.comparison.parts) {
      const inner = pairOf(part.reader, part.writer)
      pair.inner.push(inner)
      inner.outer.push(pair)
    }
    if (isBroken(pair)) failing.push(pair)
  }
  for (let pair = failing.pop(); pair; pair = failing.pop()) {
    if (!pair.fits) continue
    pair.fits = false
    for (const outer of pair.outer) {
      outer.left -= 1
      if (!outer.comparison.choice || outer.left === 0) failing.push(outer)
    }
  }
  return root
}

/** Whether a pair fails by itself. Meaning that has changed does not count: such bytes can be read. */
const isBroken = ({ comparison: { problems, parts, choice } }: Pair): boolean =>
  (choice && parts.length === 0) || problems.some(({ type }) => breaking.has(type))

const breaking: ReadonlySet<IncompatibilityType> = new Set<IncompatibilityType>([...javaRules, 'AMBIGUOUS_FIELD'])
