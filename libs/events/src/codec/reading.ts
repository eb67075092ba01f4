import { dayOf, decimalOf, timeOf } from '../schema/logical-types.ts'
import {
  type EnumSchema,
  type Field,
  type RecordSchema,
  type ScalarKind,
  type Schema,
  shortName,
} from '../schema/schema.ts'
import { defaultBytes } from './avsc.ts'
import {
  BoundsError,
  blocks,
  boolean,
  type Cursor,
  choice,
  counted,
  digits,
  fail,
  int,
  isAscii,
  key,
  long,
  skip,
  smallest,
  walkOf,
} from './bounds.ts'

/** Reads the value that starts at `at` and ends with the bytes; throws `BoundsError` and others when there is none. */
export type Read = (bytes: Buffer, at: number) => unknown

interface Source extends Cursor {
  /** The bytes as one string, or nothing when they are many. */
  readonly latin1: string
}

/** Reads the value at the cursor and moves behind it. */
type Part = (source: Source) => unknown

/** The parts made for records so far, by the writer's and the reader's schema: one each, however often it is used. */
type Made = Map<RecordSchema, Map<RecordSchema, Part>>

/**
 * Compiles what reads values of one schema as values of another, by Avro's rules of schema resolution, trusting no byte
 * (`bounds.ts`). A logical type is read as itself only, and bytes are not read as text. Throws when the reader cannot
 * read all that the writer may have written; it can whenever `incompatibilities` finds nothing.
 *
 * avsc trusts the bytes, so they had to be walked over before it read them; both in one go takes two thirds of the time.
 */
export function readingOf(writer: RecordSchema, reader: RecordSchema): Read {
  const read = pair(writer, reader, new Map())
  return (bytes, at) => {
    const source = sourceOf(bytes, at)
    const value = read(source)
    if (source.at !== bytes.length) throw new BoundsError(`${bytes.length - source.at} bytes too many`)
    return value
  }
}

/**
 * Making a string of bytes takes 40 ns, however short it is, and cutting it from another string 5. But what is cut
 * keeps the whole in memory, so this is for messages of at most so many bytes.
 */
const maxLatin1 = 4 * 1024

const sourceOf = (bytes: Buffer, at: number): Source => ({
  bytes,
  at,
  latin1: bytes.length > maxLatin1 ? '' : (bytes as Sliced).latin1Slice(0, bytes.length),
})

/** Methods of Buffer that its declarations leave out: quicker than `toString`, which looks at its arguments first. */
type Sliced = Buffer & Record<'latin1Slice' | 'utf8Slice', (start: number, end: number) => string>

function pair(writer: Schema, reader: Schema, made: Made): Part {
  if (writer.kind === 'nullable' && reader.kind === 'nullable') return nullable(pair(writer.of, reader.of, made))
  if (reader.kind === 'nullable') return pair(writer, reader.of, made)
  if (writer.kind === 'array' && reader.kind === 'array') {
    return array(pair(writer.items, reader.items, made), smallest(writer.items))
  }
  if (writer.kind === 'map' && reader.kind === 'map') {
    return map(pair(writer.values, reader.values, made), 1 + smallest(writer.values))
  }
  if ('name' in writer && 'name' in reader) requireName(writer, reader)
  if (writer.kind === 'record' && reader.kind === 'record') return recordOnce(writer, reader, made)
  if (writer.kind === 'enum' && reader.kind === 'enum') return enumeration(writer, reader)
  if (writer.kind === 'fixed' && reader.kind === 'fixed' && writer.size === reader.size) return fixed(writer.size)
  if (writer.kind === 'decimal' && reader.kind === 'decimal') {
    const { precision, scale } = reader
    if (writer.precision === precision && writer.scale === scale) {
      return (source) => decimalOf(source.bytes.subarray(digits(source, reader), source.at), reader)
    }
  }
  const read = isScalar(writer) && isScalar(reader) ? scalar(writer.kind, reader.kind) : undefined
  if (!read) throw new Error(`${writer.kind} cannot be read as ${reader.kind}`)
  return read
}

/** Unqualified names count, as everywhere in Avro's resolution. */
function requireName(writer: { name: string }, reader: { name: string; aliases: readonly string[] }): void {
  if ([reader.name, ...reader.aliases].map(shortName).includes(shortName(writer.name))) return
  throw new Error(`${writer.name} cannot be read as ${reader.name}`)
}

const nullable =
  (of: Part): Part =>
  (source) =>
    choice(source, 2) === 0 ? null : of(source)

const array =
  (item: Part, least: number): Part =>
  (source) => {
    const items: unknown[] = []
    blocks(source, least, () => items.push(item(source)))
    return items
  }

const map =
  (value: Part, least: number): Part =>
  (source) => {
    const entries: Record<string, unknown> = {}
    blocks(source, least, () => {
      const name = textFrom(source, key(source))
      entries[name] = value(source)
    })
    return entries
  }

const fixed =
  (size: number): Part =>
  (source) =>
    copy(source, skip(source, size))

function enumeration(writer: EnumSchema, reader: EnumSchema): Part {
  const symbols = writer.symbols.map((symbol) => (reader.symbols.includes(symbol) ? symbol : reader.default))
  if (symbols.includes(undefined)) throw new Error(`${reader.name} lacks a symbol of the writer and has no default`)
  return (source) => symbols[choice(source, symbols.length)]
}

function recordOnce(writer: RecordSchema, reader: RecordSchema, made: Made): Part {
  const row = made.get(writer) ?? new Map<RecordSchema, Part>()
  made.set(writer, row)
  const read = row.get(reader) ?? record(writer, reader, made)
  row.set(reader, read)
  return read
}

/**
 * An object literal in generated code has the shape of its keys from the start, which makes it several times as fast
 * as setting one key after the other. Names are letters, digits and underscores (`parseSchema`).
 */
function record(writer: RecordSchema, reader: RecordSchema, made: Made): Part {
  const sources = sourcesOf(writer, reader)
  const parts = writer.fields.map((field) => {
    const target = reader.fields.find(({ name }) => sources.get(name) === field.name)
    return target ? pair(field.type, target.type, made) : walkOf(field.type)
  })
  const values = reader.fields.map((field) => {
    const source = sources.get(field.name)
    if (source !== undefined) return `v${writer.fields.findIndex(({ name }) => name === source)}`
    return `p${parts.push(standIn(reader, field, made)) - 1}()`
  })
  const lines = writer.fields.map((_, at) => `const v${at} = p${at}(source)`)
  const literal = reader.fields.map(({ name }, at) => `${name}: ${values[at]}`).join(', ')
  const body = `return (source) => {\n${lines.join('\n')}\nreturn { ${literal} }\n}`
  return new Function(...parts.map((_, at) => `p${at}`), body)(...parts)
}

/** Which field of the writer a field of the reader reads, by name. */
function sourcesOf(writer: RecordSchema, reader: RecordSchema): Map<string, string> {
  const written = new Set(writer.fields.map(({ name }) => name))
  const sources = new Map<string, string>()
  for (const { name, aliases } of reader.fields) {
    const [source, other] = new Set([name, ...aliases].filter((candidate) => written.has(candidate)))
    if (source === undefined) continue
    if (other !== undefined) throw new Error(`${reader.name}.${name} would read ${source} and ${other}`)
    if ([...sources.values()].includes(source)) throw new Error(`two fields of ${reader.name} would read ${source}`)
    sources.set(name, source)
  }
  return sources
}

/** A field's default: read from its bytes each time, so that no two events share a value that can be changed. */
function standIn(record: RecordSchema, field: Field, made: Made): Part {
  const { name } = field
  if (!Object.hasOwn(field, 'default')) throw new Error(`${record.name}.${name} was not written and has no default`)
  const bytes = defaultBytes(record, name)
  const read = pair(field.type, field.type, made)
  return () => read(sourceOf(bytes, 0))
}

const isScalar = (schema: Schema): schema is { kind: ScalarKind } => Object.hasOwn(scalars, schema.kind)

const scalar = (writer: ScalarKind, reader: ScalarKind): Part | undefined =>
  writer === reader ? scalars[writer] : promotions[writer]?.[reader]

const float: Part = (source) => source.bytes.readFloatLE(skip(source, 4))

const bytes: Part = (source) => copy(source, counted(source))

const scalars: Record<ScalarKind, Part> = {
  boolean,
  int,
  long: (source) => BigInt(long(source)),
  float,
  double: (source) => source.bytes.readDoubleLE(skip(source, 8)),
  string: (source) => textFrom(source, counted(source)),
  bytes,
  uuid,
  date: (source) => dayOf(int(source)),
  'timestamp-millis': (source) => timeOf(long(source)),
}

/** How Avro reads a type as a wider one. Bytes need not be text, so they are not read as such. */
const promotions: Partial<Record<ScalarKind, Partial<Record<ScalarKind, Part>>>> = {
  int: { long: (source) => BigInt(int(source)), float: (source) => Math.fround(int(source)), double: int },
  long: { float: (source) => Math.fround(Number(long(source))), double: (source) => Number(long(source)) },
  float: { double: float },
  string: { bytes: textBytes },
}

/** Copies the bytes from `start` to the cursor: a view would keep the broker's whole batch in memory. */
const copy = ({ bytes, at }: Source, start: number): Buffer => Buffer.from(bytes.subarray(start, at))

const ascii = ({ bytes, at, latin1 }: Source, start: number): string =>
  latin1 === '' ? (bytes as Sliced).latin1Slice(start, at) : latin1.slice(start, at)

/** Text as bytes: it is text all the same. */
function textBytes(source: Source): Buffer {
  const start = counted(source)
  isAscii(source, start)
  return copy(source, start)
}

const textFrom = (source: Source, start: number): string =>
  isAscii(source, start) ? ascii(source, start) : (source.bytes as Sliced).utf8Slice(start, source.at)

/** 0 for the bytes of hexadecimal digits in either case, 1 for all others. */
const noHex = Uint8Array.from({ length: 256 }, (_, byte) => (/[0-9a-f]/i.test(String.fromCharCode(byte)) ? 0 : 1))

/** `isUuid` on bytes, in a third of the time. */
function uuid(source: Source): string {
  const { bytes, at } = source
  const start = counted(source)
  const dashes =
    bytes[start + 8] === 45 && bytes[start + 13] === 45 && bytes[start + 18] === 45 && bytes[start + 23] === 45
  let wrong = 0
  if (dashes) for (let next = start; next < source.at; next++) wrong += noHex[bytes[next] as number] as number
  if (source.at - start !== 36 || wrong !== 4) return fail(at, 'what is no UUID')
  return ascii(source, start)
}
