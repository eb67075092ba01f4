import { nameOf, pointer } from './avro-model.ts'
import type { AvroNode } from './avro-nodes.ts'
import type { Part, Problem } from './comparison.ts'
import type { Incompatibility } from './incompatibility.ts'
import type { Pair } from './pairs.ts'
import { named } from './wording.ts'

/** A pair and the way to it, as a chain, so that long ways take no more memory than their steps. */
interface Place {
  readonly pair: Pair
  readonly up?: Place
  readonly part?: Part
}

/**
 * What is wrong from a place on, without the pairs already seen. With `deep`, a union that cannot read is followed to
 * the reason.
 */
export function walk(start: Place, deep: boolean, seen = new Set<Pair>(), most = Number.POSITIVE_INFINITY): Walked {
  const found: Incompatibility[] = []
  const places = [start]
  let steps = 0
  for (let place = places.pop(); place; place = places.pop()) {
    if (seen.has(place.pair)) continue
    if (steps++ === most) return { found, complete: false }
    seen.add(place.pair)
    const { problems, follow } = place.pair.comparison.choice ? chosen(place, deep) : everything(place)
    for (const problem of problems) found.push(incompatibility(problem, place))
    places.push(...follow.reverse())
  }
  return { found, complete: true }
}

interface Walked {
  readonly found: Incompatibility[]
  /** Whether all was looked at. */
  readonly complete: boolean
}

interface Step {
  readonly problems: readonly Problem[]
  /** The places to look at next. */
  readonly follow: Place[]
}

const everything = (place: Place): Step => ({
  problems: place.pair.comparison.problems,
  follow: placesIn(place),
})

const placesIn = (place: Place): Place[] =>
  place.pair.inner.map((pair, at) => ({ pair, up: place, part: place.pair.comparison.parts[at] as Part }))

/** Of a reader's union: the branches that would read, or why none does. */
function chosen(place: Place, deep: boolean): Step {
  const { reader, writer } = place.pair
  const branches = placesIn(place)
  const first = branches.find(({ pair }) => pair.fits)
  const exact = branches.find(({ pair }) => nameOf(pair.reader) === nameOf(writer))
  if (first === undefined) {
    const nearest = exact ?? branches[0]
    if (nearest === undefined) return { problems: [missingBranch(reader, writer)], follow: [] }
    if (deep) return { problems: [], follow: [nearest] }
    // inside of the very pair that fails there is no reason: it is told there
    const because = becauseOf(nearest)
    return { problems: because ? [missingBranch(reader, writer, because)] : [], follow: [] }
  }
  // Java's reader takes the branch of the same type, whatever comes first; so a schema always reads itself
  if (exact?.pair.fits) return { problems: [], follow: [exact] }
  const rival = exact ?? branches.find((branch) => branch.pair.fits && branch !== first)
  if (!('name' in writer) || rival === undefined) return { problems: [], follow: [first] }
  return { problems: [ambiguousBranch(first.pair, rival.pair)], follow: [] }
}

function missingBranch(reader: AvroNode, writer: AvroNode, because?: Because): Problem {
  const branches = reader.kind === 'union' ? reader.branches.map(named) : []
  const has = branches.length > 0 ? branches.join(', ') : 'empty'
  const about = { type: 'MISSING_UNION_BRANCH', reader: [], writer: [] } as const
  if (because) {
    const reason = `no branch of the reader's union (${has}) can read the written ${named(writer)}: ${because.reasons}`
    const advice = [...new Set(because.found.map(({ advice }) => advice))].join('; ')
    return { ...about, reason, advice: advice || 'Keep the branch as it was', because: because.found }
  }
  const reason = `the reader's union (${has}) has no branch for the written ${named(writer)}, so such a value could not be read`
  return { ...about, reason, advice: 'Add the branch to the reader, or keep it where it was removed' }
}

/** At most as many reasons are told of one branch. */
const maxReasons = 3

/** At most as many pairs are looked at for them; else a chain of unions would take time in the square of its length. */
const maxSteps = 1000

interface Because {
  readonly reasons: string
  readonly found: readonly Incompatibility[]
}

/** Why a branch cannot read; nothing when the reason is around it. */
function becauseOf(nearest: Place): Because | undefined {
  const around = new Set<Pair>()
  for (let at = nearest.up; at; at = at.up) around.add(at.pair)
  const { found, complete } = walk(nearest, true, around, maxSteps)
  const told = found.slice(0, maxReasons)
  const reasons = told.map(({ readerPath, reason }) => `at ${readerPath}: ${reason}`)
  if (found.length > maxReasons) reasons.push(`and ${found.length - maxReasons} more`)
  if (!complete && reasons.length === 0) reasons.push('a type far inside of it cannot be read')
  return reasons.length === 0 ? undefined : { reasons: reasons.join('; '), found: told }
}

function ambiguousBranch(first: Pair, rival: Pair): Problem {
  const [one, other, written] = [nameOf(first.reader), nameOf(rival.reader), nameOf(first.writer)]
  const reason =
    `written as ${written}, which the reader's branches ${one} and ${other} both claim, and implementations differ in ` +
    'which of them they take'
  const advice = 'Rename one of them or remove its alias, or let the branch of the same full name read it'
  return { type: 'AMBIGUOUS_UNION_BRANCH', reader: [], writer: [], reason, advice }
}

function incompatibility(problem: Problem, place: Place): Incompatibility {
  const chain: Part[] = []
  let root = place
  for (; root.up; root = root.up) chain.push(root.part as Part)
  chain.reverse()
  const where = `${named(root.pair.reader)}${chain.map(({ label }) => label).join('')}`
  const { type, advice, aliases, because } = problem
  const reason = `${where}: ${problem.reason}`
  return {
    type,
    readerPath: pointer([...chain.flatMap(({ readerSteps }) => readerSteps), ...problem.reader]),
    writerPath: pointer([...chain.flatMap(({ writerSteps }) => writerSteps), ...problem.writer]),
    reason,
    advice,
    message: `${reason}. ${advice}`,
    ...(aliases && { aliases }),
    ...(because && { because }),
  }
}
