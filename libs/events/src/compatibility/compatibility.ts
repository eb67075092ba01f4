import { type AvroSchema, lastName, nameOf, pointer, readAvro } from './avro-model.ts'
import type { AvroField, AvroNode, EnumNode, FixedNode, NamedNode, Path, RecordNode, UnionNode } from './avro-nodes.ts'

/** A reason why a reader cannot be relied on to read what a writer wrote. */
export interface Incompatibility {
  /** {@link IncompatibilityType}; a string, because a table of them may grow. */
  readonly type: string
  /** JSON pointer into the reader's schema, `/fields/0/type`; `/` is the whole schema. References are followed. */
  readonly readerPath: string
  /** The same for the writer's schema; to the record when a field is missing in it. */
  readonly writerPath: string
  /** What is wrong, and why. */
  readonly reason: string
  /** What to do so that this reader reads this writer, whatever others need. */
  readonly advice: string
  /** Both. */
  readonly message: string
  /**
   * Of a field that was not written: the written fields that nothing reads and that have a default. As aliases of the
   * field they help in both directions; others help this reader alone.
   */
  readonly aliases?: readonly string[]
  /** Of a union that cannot read what it has a branch for: the first reasons inside of that branch. */
  readonly because?: readonly Incompatibility[]
}

/** The rules of Avro's Java implementation, by its names. */
export const javaRules = [
  'NAME_MISMATCH',
  'FIXED_SIZE_MISMATCH',
  'MISSING_ENUM_SYMBOLS',
  'READER_FIELD_MISSING_DEFAULT_VALUE',
  'TYPE_MISMATCH',
  'MISSING_UNION_BRANCH',
] as const

/** Rules beyond Java's checker, each with what it holds against a pair that Java passes. */
export const strictRules = {
  LOGICAL_TYPE_CHANGED:
    'The logical type, its precision, scale or unit differs: the bytes can be read, but mean something else.',
  BYTES_READ_AS_STRING:
    'Bytes need be no text, and implementations differ in what they make of those that are none: an error or another text.',
  AMBIGUOUS_FIELD:
    'A field of the reader names several fields of the writer, by its name and aliases. Java throws instead of answering.',
  WRITER_FIELD_READ_TWICE: 'Two fields of the reader read the same field of the writer: one of them has a new meaning.',
  DUPLICATE_ALIAS:
    'An alias is already the name or alias of something else in the reader, or is there twice. A type may repeat its own name, a field may not: Java throws.',
  AMBIGUOUS_UNION_BRANCH:
    'Several branches of the reader claim a named type, and the one of the same full name is missing or cannot read it: implementations differ in which of them they take.',
} as const

export type IncompatibilityType = (typeof javaRules)[number] | keyof typeof strictRules

/** What is wrong between two types, with the steps from them to the place. */
interface Problem {
  readonly type: IncompatibilityType
  readonly reader: Path
  readonly writer: Path
  readonly reason: string
  readonly advice: string
  readonly aliases?: readonly string[]
  readonly because?: readonly Incompatibility[]
}

/** Two types that meet, and the steps from the pair before to each of them. */
interface Part {
  readonly reader: AvroNode
  readonly writer: AvroNode
  readonly readerSteps: Path
  readonly writerSteps: Path
  /** The step for people: `.name`, `[]`, `{}` or nothing. */
  readonly label: string
}

/** Two types without regard to what they contain. */
interface Comparison {
  readonly problems: readonly Problem[]
  /** The pairs inside. All of them have to fit or, where the reader is a union and the writer is none, one. */
  readonly parts: readonly Part[]
  readonly choice: boolean
}

/** A pair of types and whether it fits, by Java's rules, with all that it contains. */
interface Pair {
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

/** A pair and the way to it, as a chain, so that long ways take no more memory than their steps. */
interface Place {
  readonly pair: Pair
  readonly up?: Place
  readonly part?: Part
}

/**
 * All reasons why `reader` cannot read everything that `writer` wrote; empty when it can. Both are JSON of any Avro
 * schema. Follows Avro's schema resolution as `SchemaCompatibility` of its Java implementation (1.12) applies it, and
 * {@link strictRules} beyond. Each pair of types is reported once, at the first place where they meet.
 *
 * Throws `SchemaError` for what is no Avro schema; its path starts with `reader#` or `writer#`.
 */
export function incompatibilities(reader: unknown, writer: unknown): Incompatibility[] {
  const readerSchema = readAvro(reader, 'reader')
  const writerSchema = readAvro(writer, 'writer')
  const root = judge(readerSchema.root, writerSchema.root)
  return [...duplicateAliases(readerSchema), ...walk({ pair: root }, false).found]
}

/**
 * Makes the pairs that meet, and finds which of them fit: all do until proven otherwise, and what does not is carried
 * outwards (the greatest fixed point). So recursive schemas terminate, and no pair passes because of one that fails
 * later, as can happen in a recursion that remembers results. Linear in the number of pairs; no recursion here.
 */
function judge(reader: AvroNode, writer: AvroNode): Pair {
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

/** Reading a type of the first kind as one of these; each type can also be read as itself. */
const promotions: Readonly<Record<string, readonly string[]>> = {
  int: ['long', 'float', 'double'],
  long: ['float', 'double'],
  float: ['double'],
  string: ['bytes'],
  bytes: ['string'],
}

const canPromote = (reader: AvroNode, writer: AvroNode): boolean =>
  reader.kind === writer.kind || (promotions[writer.kind]?.includes(reader.kind) ?? false)

function compare(reader: AvroNode, writer: AvroNode): Comparison {
  if (writer.kind === 'union') {
    const parts = writer.branches.map((branch, at) => part(reader, branch, [], [at]))
    return { problems: [], parts, choice: false }
  }
  if (reader.kind === 'union') return { problems: [], parts: candidates(reader, writer), choice: true }
  if (!canPromote(reader, writer)) return { problems: [typeMismatch(reader, writer)], parts: [], choice: false }
  const found = [...textProblems(reader, writer), ...logicalProblems(reader, writer), ...nameProblems(reader, writer)]
  const { problems, parts } = contents(reader, writer)
  return { problems: [...found, ...problems], parts, choice: false }
}

const part = (reader: AvroNode, writer: AvroNode, readerSteps: Path, writerSteps: Path, label = ''): Part => ({
  reader,
  writer,
  readerSteps,
  writerSteps,
  label,
})

/** The branches of the reader that could read the writer's type, to judge by its kind and name. */
function candidates(reader: UnionNode, writer: AvroNode): Part[] {
  return reader.branches.flatMap((branch, at) =>
    canPromote(branch, writer) && !isRenamed(branch, writer) ? [part(branch, writer, [at], [])] : [],
  )
}

/** Unqualified names count, as in Java; aliases are full names. */
const isRenamed = (reader: AvroNode, writer: AvroNode): boolean =>
  'name' in reader &&
  'name' in writer &&
  lastName(reader.name) !== lastName(writer.name) &&
  !reader.aliases.includes(writer.name)

type Contents = Pick<Comparison, 'problems' | 'parts'>

function contents(reader: AvroNode, writer: AvroNode): Contents {
  if (reader.kind === 'array' && writer.kind === 'array') {
    return { problems: [], parts: [part(reader.items, writer.items, ['items'], ['items'], '[]')] }
  }
  if (reader.kind === 'map' && writer.kind === 'map') {
    return { problems: [], parts: [part(reader.values, writer.values, ['values'], ['values'], '{}')] }
  }
  if (reader.kind === 'fixed' && writer.kind === 'fixed') return { problems: sizeProblems(reader, writer), parts: [] }
  if (reader.kind === 'enum' && writer.kind === 'enum') return { problems: symbolProblems(reader, writer), parts: [] }
  if (reader.kind === 'record' && writer.kind === 'record') return fieldContents(reader, writer)
  return { problems: [], parts: [] }
}

function typeMismatch(reader: AvroNode, writer: AvroNode): Problem {
  const reason = `written as ${named(writer)} and read as ${named(reader)}, which Avro does not convert (${promotable(writer.kind)})`
  const advice = 'Keep the type, or add a new field of the new type with a default and stop using this one'
  return { type: 'TYPE_MISMATCH', reader: [], writer: [], reason, advice }
}

function promotable(kind: string): string {
  const targets = kind === 'bytes' ? undefined : promotions[kind] // of bytes no conversion is advised
  return targets ? `it reads ${kind} as ${kind} or ${targets.join(', ')}` : `it reads ${kind} as ${kind} only`
}

function textProblems(reader: AvroNode, writer: AvroNode): Problem[] {
  if (reader.kind !== 'string' || writer.kind !== 'bytes') return []
  const reason =
    'written as bytes and read as string: bytes need be no text, and those that are none would be refused or become ' +
    'another text'
  const advice = 'Keep bytes, or add a new field of type string with a default and stop using this one'
  return [{ type: 'BYTES_READ_AS_STRING', reader: [], writer: [], reason, advice }]
}

function logicalProblems(reader: AvroNode, writer: AvroNode): Problem[] {
  if (reader.kind === 'union' || writer.kind === 'union' || reader.logical === writer.logical) return []
  const [from, to] = [writer.logical ?? 'no logical type', reader.logical ?? 'no logical type']
  const reason =
    `written as ${writer.kind} with ${from} and read as ${reader.kind} with ${to}: the bytes can be read, but would ` +
    'mean something else'
  const advice = 'Keep the logical type with its parameters, or add a new field with a default'
  return [{ type: 'LOGICAL_TYPE_CHANGED', reader: [], writer: [], reason, advice }]
}

function nameProblems(reader: AvroNode, writer: AvroNode): Problem[] {
  if (!isRenamed(reader, writer)) return []
  const [mine, theirs] = [nameOf(reader), nameOf(writer)]
  const reason = `written as ${theirs} and read as ${mine}: types are told apart by their names`
  const advice = `If it was renamed, add "aliases": ["${theirs}"] to ${mine}; if it is another type, use a new field`
  return [{ type: 'NAME_MISMATCH', reader: ['name'], writer: ['name'], reason, advice }]
}

function sizeProblems(reader: FixedNode, writer: FixedNode): Problem[] {
  if (reader.size === writer.size) return []
  const reason = `written with ${writer.size} bytes and read with ${reader.size}: the size of a fixed is not in the bytes`
  const advice = 'Keep the size, or add a new field of a new type'
  return [{ type: 'FIXED_SIZE_MISMATCH', reader: ['size'], writer: ['size'], reason, advice }]
}

function symbolProblems(reader: EnumNode, writer: EnumNode): Problem[] {
  const known = new Set(reader.symbols)
  const unknown = writer.symbols.filter((symbol) => !known.has(symbol))
  if (unknown.length === 0 || reader.default !== undefined) return []
  const reason = `the writer can write ${listed(unknown)}, which the reader's ${reader.name} does not have`
  const advice =
    'Keep the symbols in the reader, or give its enum a "default" to stand in for symbols that it does not know'
  return [{ type: 'MISSING_ENUM_SYMBOLS', reader: ['symbols'], writer: ['symbols'], reason, advice }]
}

function fieldContents(reader: RecordNode, writer: RecordNode): Contents {
  const written = new Map(writer.fields.map((field, at) => [field.name, at]))
  const problems: Problem[] = []
  const parts: Part[] = []
  const readBy = new Map<number, AvroField>()
  let unread: readonly AvroField[] | undefined
  reader.fields.forEach((field, at) => {
    const steps = ['fields', at]
    const matches = new Set([field.name, ...field.aliases].flatMap((name) => written.get(name) ?? []))
    const [match, other] = matches
    if (match === undefined) {
      if ('default' in field) return
      unread ??= unreadFields(reader, writer) // once: for each field it took time in the square of their number
      problems.push(missingDefault(field, steps, unread))
      return
    }
    if (other !== undefined) {
      problems.push(ambiguousField(field, steps, matches, writer))
      return
    }
    const before = readBy.get(match)
    if (before) problems.push(readTwice(field, steps, before, match, writer))
    readBy.set(match, field)
    const from = writer.fields[match] as AvroField
    parts.push(part(field.type, from.type, [...steps, 'type'], ['fields', match, 'type'], `.${field.name}`))
  })
  return { problems, parts }
}

/** The written fields that no field of the reader names. */
function unreadFields(reader: RecordNode, writer: RecordNode): readonly AvroField[] {
  const readable = new Set(reader.fields.flatMap(({ name, aliases }) => [name, ...aliases]))
  return writer.fields.filter(({ name }) => !readable.has(name))
}

function missingDefault(field: AvroField, steps: Path, unread: readonly AvroField[]): Problem {
  const names = unread.map(({ name }) => name)
  const renamed =
    unread.length > 0 ? `; if it was renamed, add its old name as an alias (unread: ${listed(names)})` : ''
  const reason = `the reader's field ${field.name} was not written and has no default, so nothing could be put there`
  const advice = `Give the field a "default"${renamed}`
  const aliases = unread.filter((written) => 'default' in written).map(({ name }) => name)
  return { type: 'READER_FIELD_MISSING_DEFAULT_VALUE', reader: steps, writer: ['fields'], reason, advice, aliases }
}

function ambiguousField(field: AvroField, steps: Path, matches: Set<number>, writer: RecordNode): Problem {
  const names = [...matches].map((at) => (writer.fields[at] as AvroField).name)
  const reason = `the reader's field ${field.name} would read any of the written fields ${listed(names)}, by its name and aliases`
  const advice = 'Remove the alias, and give the field another name if it means something new'
  return { type: 'AMBIGUOUS_FIELD', reader: steps, writer: ['fields', [...matches][0] as number], reason, advice }
}

function readTwice(field: AvroField, steps: Path, before: AvroField, match: number, writer: RecordNode): Problem {
  const { name } = writer.fields[match] as AvroField
  const reason =
    `the reader's fields ${before.name} and ${field.name} would both read the written field ${name}, ` +
    'so one of them uses its name for something else'
  const advice = 'Remove the alias, or take a name that was never used'
  return { type: 'WRITER_FIELD_READ_TWICE', reader: steps, writer: ['fields', match], reason, advice }
}

/** Aliases of the reader that claim what something else in it claims, whatever the writer has. */
function duplicateAliases({ named: types }: AvroSchema): Incompatibility[] {
  const records = types.filter((type): type is RecordNode => type.kind === 'record')
  const groups: { items: readonly Claimant[]; places: (at: number) => Path; areTypes: boolean }[] = [
    { items: types, places: (at) => (types[at] as NamedNode).path, areTypes: true },
    ...records.map(({ fields, path }) => ({
      items: fields,
      places: (at: number) => [...path, 'fields', at],
      // an alias that is another field's name depends on what was written: ambiguous or read twice
      areTypes: false,
    })),
  ]
  return groups.flatMap(({ items, places, areTypes }) =>
    claimedTwice(items, areTypes).map(({ at, reason }) => ({
      type: 'DUPLICATE_ALIAS' satisfies IncompatibilityType,
      readerPath: pointer([...places(at), 'aliases']),
      writerPath: '/',
      reason,
      advice: 'Remove one of them',
      message: `${reason}. Remove one of them`,
    })),
  )
}

interface Claimant {
  readonly name: string
  readonly aliases: readonly string[]
}

/** A type may repeat its own name, which claims nothing; a field may not: Java finds the written field twice, and throws. */
function claimedTwice(items: readonly Claimant[], areTypes: boolean): { at: number; reason: string }[] {
  const claims = new Map<string, string>(areTypes ? items.map(({ name }) => [name, name]) : [])
  return items.flatMap(({ name, aliases }, at) =>
    aliases.flatMap((alias) => {
      if (areTypes && alias === name) return []
      const before = alias === name ? name : claims.get(alias)
      claims.set(alias, name)
      if (before === undefined) return []
      const owner = before === name ? 'itself' : before
      return [{ at, reason: `the alias ${alias} of ${name} is already taken by ${owner}` }]
    }),
  )
}

/**
 * What is wrong from a place on, without the pairs already seen. With `deep`, a union that cannot read is followed to
 * the reason.
 */
function walk(start: Place, deep: boolean, seen = new Set<Pair>(), most = Number.POSITIVE_INFINITY): Walked {
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

/** A type for people. */
const named = (type: AvroNode): string => ('name' in type ? `${type.kind} ${type.name}` : type.kind)

/** At most as many names are told in one message. */
const maxListed = 10

const listed = (names: readonly string[]): string =>
  names.length <= maxListed
    ? names.join(', ')
    : `${names.slice(0, maxListed).join(', ')} and ${names.length - maxListed} more`
