import { shortName } from '../schema/names.ts'
import { nameOf } from './avro-model.ts'
import type { AvroField, AvroNode, EnumNode, FixedNode, Path, RecordNode, UnionNode } from './avro-nodes.ts'
import type { Incompatibility, IncompatibilityType } from './incompatibility.ts'
import { listed, named } from './wording.ts'

/** What is wrong between two types, with the steps from them to the place. */
export interface Problem {
  readonly type: IncompatibilityType
  readonly reader: Path
  readonly writer: Path
  readonly reason: string
  readonly advice: string
  readonly aliases?: readonly string[]
  readonly because?: readonly Incompatibility[]
}

/** Two types that meet, and the steps from the pair before to each of them. */
export interface Part {
  readonly reader: AvroNode
  readonly writer: AvroNode
  readonly readerSteps: Path
  readonly writerSteps: Path
  /** The step for people: `.name`, `[]`, `{}` or nothing. */
  readonly label: string
}

/** Two types without regard to what they contain. */
export interface Comparison {
  readonly problems: readonly Problem[]
  /** The pairs inside. All of them have to fit or, where the reader is a union and the writer is none, one. */
  readonly parts: readonly Part[]
  readonly choice: boolean
}

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

export function compare(reader: AvroNode, writer: AvroNode): Comparison {
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
  shortName(reader.name) !== shortName(writer.name) &&
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
