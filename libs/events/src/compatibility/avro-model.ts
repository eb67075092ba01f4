import { brief, isInteger, isJsonBytes, isJsonNumber, isJsonObject } from '../schema/json.ts'
import { isName, qualify, shortName } from '../schema/names.ts'
import { SchemaError } from '../schema/schema.ts'
import type {
  ArrayNode,
  AvroField,
  AvroNode,
  EnumNode,
  FixedNode,
  MapNode,
  NamedNode,
  Path,
  PrimitiveKind,
  RecordNode,
  UnionNode,
} from './avro-nodes.ts'

export interface AvroSchema {
  readonly root: AvroNode
  /** Each named type, in the order of definition. */
  readonly named: readonly NamedNode[]
}

/** Deeper schemas are refused, so that reading one cannot exhaust the stack. */
const maxDepth = 500

/** Each `{}` of a list is a look at every field of its record: 60 KB of text could ask for ten million of them. */
const maxLooks = 100_000

const primitives: readonly string[] = ['null', 'boolean', 'int', 'long', 'float', 'double', 'bytes', 'string']

type Json = Record<string, unknown>

/** What reading one schema builds up. */
interface Reading {
  /** `reader` or `writer`: where the path of an error starts. */
  readonly origin: string
  readonly named: Map<string, NamedNode>
  /** Defaults can be checked only when all types are complete. */
  readonly defaults: { readonly type: AvroNode; readonly json: unknown; readonly path: Path }[]
  /** How many parts of defaults were looked at. */
  looked: number
}

interface Scope {
  readonly reading: Reading
  readonly path: Path
  readonly namespace: string
}

/** A JSON pointer; the root is `/`, as Avro's Java implementation writes it. No step of a schema needs escaping. */
export const pointer = (path: Path): string => `/${path.join('/')}`

/**
 * Reads the JSON of any Avro schema (specification 1.12), unlike `parseSchema`, which reads only what this shop uses.
 * Attributes that Avro does not know are metadata and ignored, and so is a logical type that its type cannot have.
 * What {@link readJson} has read is judged by the text of its numbers: `1.0` is no int, and 2^63 - 1 is a long.
 * Throws {@link SchemaError} for what is no schema, with a path such as `reader#/fields/0/type`, where `reader` is the
 * given origin.
 */
export function readAvro(json: unknown, origin: string): AvroSchema {
  const reading: Reading = { origin, named: new Map(), defaults: [], looked: 0 }
  const root = node(json, { reading, path: [], namespace: '' })
  const known: Known = new Map()
  for (const { type, json: value, path } of reading.defaults) {
    const scope = { reading, path, namespace: '' }
    if (!fits(type, value, scope, known))
      refuse(scope, `the default ${brief(value)} does not fit the type ${type.kind}`)
  }
  return { root, named: [...reading.named.values()] }
}

function refuse({ reading, path }: Scope, problem: string): never {
  throw new SchemaError(`${reading.origin}#${pointer(path)}`, problem)
}

const inside = (scope: Scope, ...steps: Path): Scope => ({ ...scope, path: [...scope.path, ...steps] })

function node(json: unknown, scope: Scope): AvroNode {
  if (scope.path.length > maxDepth) {
    // the whole path of such a schema would be pages long
    refuse({ ...scope, path: scope.path.slice(0, 8) }, `the schema is nested deeper than ${maxDepth} steps; flatten it`)
  }
  if (typeof json === 'string') return reference(json, scope)
  if (Array.isArray(json)) return union(json, scope)
  if (!isJsonObject(json)) refuse(scope, 'a schema is the name of a type, a union or an object')
  const type = own(json, 'type')
  switch (type) {
    case 'record':
    case 'error':
      return record(json, scope)
    case 'enum':
      return enumeration(json, scope)
    case 'fixed':
      return fixed(json, scope)
    case 'array':
      return { kind: 'array', items: node(own(json, 'items'), inside(scope, 'items')), ...logicalOf(json, 'array') }
    case 'map':
      return { kind: 'map', values: node(own(json, 'values'), inside(scope, 'values')), ...logicalOf(json, 'map') }
    default:
      if (typeof type !== 'string') refuse(scope, 'the object has no type; it names one, such as "type": "string"')
      // attributes beside a reference would change the type elsewhere, so Avro ignores them
      return isPrimitive(type) ? { kind: type, ...logicalOf(json, type) } : reference(type, scope)
  }
}

function reference(name: string, scope: Scope): AvroNode {
  if (isPrimitive(name)) return { kind: name }
  const found = scope.reading.named.get(qualify(name, scope.namespace))
  if (found === undefined) {
    refuse(
      scope,
      `the type ${qualify(name, scope.namespace)} is not defined before this place; define it or correct its name`,
    )
  }
  return found
}

function union(json: unknown[], scope: Scope): UnionNode {
  const branches = json.map((branch, at) => node(branch, inside(scope, at)))
  const seen = new Set<string>()
  branches.forEach((branch, at) => {
    if (branch.kind === 'union') refuse(inside(scope, at), 'a union directly in a union is not allowed; merge the two')
    const name = nameOf(branch)
    if (seen.has(name)) refuse(inside(scope, at), `the union has ${name} twice; a reader could not tell them apart`)
    seen.add(name)
  })
  return { kind: 'union', branches }
}

function record(json: Json, outer: Scope): RecordNode {
  const { name, aliases, scope } = define(json, outer)
  const fields: AvroField[] = []
  const made: RecordNode = { kind: 'record', name, aliases, fields, path: scope.path, ...logicalOf(json, 'record') }
  scope.reading.named.set(name, made)
  const rows = own(json, 'fields')
  if (!Array.isArray(rows)) refuse(scope, `the record ${name} has no list of fields`)
  rows.forEach((row, at) => {
    fields.push(field(row, inside(scope, 'fields', at)))
  })
  unique(
    fields.map((each) => each.name),
    `the field`,
    inside(scope, 'fields'),
  )
  return made
}

const orders: readonly unknown[] = [undefined, 'ascending', 'descending', 'ignore']

function field(json: unknown, scope: Scope): AvroField {
  if (!isJsonObject(json)) refuse(scope, 'a field is an object')
  const name = own(json, 'name')
  if (name === undefined) refuse(scope, 'the field has no name')
  requireName(name, inside(scope, 'name'))
  if (!Object.hasOwn(json, 'type')) refuse(scope, `the field ${name} has no type`)
  if (!orders.includes(own(json, 'order'))) {
    refuse(inside(scope, 'order'), 'the order is ascending, descending or ignore')
  }
  const aliases = namesIn(json, 'aliases', scope)
  aliases.forEach((alias, at) => {
    requireName(alias, inside(scope, 'aliases', at))
  })
  const type = node(json.type, inside(scope, 'type'))
  if (!Object.hasOwn(json, 'default')) return { name, aliases, type }
  scope.reading.defaults.push({ type, json: json.default, path: [...scope.path, 'default'] })
  return { name, aliases, type, default: json.default }
}

function enumeration(json: Json, outer: Scope): EnumNode {
  const { name, aliases, scope } = define(json, outer)
  if (!Object.hasOwn(json, 'symbols')) refuse(scope, `the enum ${name} has no list of symbols`)
  const symbols = namesIn(json, 'symbols', scope)
  symbols.forEach((symbol, at) => {
    requireName(symbol, inside(scope, 'symbols', at))
  })
  unique(symbols, 'the symbol', inside(scope, 'symbols'))
  const standIn = own(json, 'default')
  if (standIn !== undefined && !(typeof standIn === 'string' && symbols.includes(standIn))) {
    refuse(inside(scope, 'default'), `the default ${brief(standIn)} of the enum ${name} is none of its symbols`)
  }
  const made: EnumNode = {
    kind: 'enum',
    name,
    aliases,
    symbols,
    path: scope.path,
    ...(standIn === undefined ? {} : { default: standIn as string }),
    ...logicalOf(json, 'enum'),
  }
  scope.reading.named.set(name, made)
  return made
}

function fixed(json: Json, outer: Scope): FixedNode {
  const { name, aliases, scope } = define(json, outer)
  const size = own(json, 'size')
  if (!isWhole(size) || size > 0x7fffffff) {
    refuse(scope, `the fixed ${name} has no size; it is a whole number of bytes`)
  }
  const made: FixedNode = { kind: 'fixed', name, aliases, size, path: scope.path, ...logicalOf(json, 'fixed', size) }
  scope.reading.named.set(name, made)
  return made
}

/** The full name and aliases of a named type, and the scope of what is inside of it. */
function define(json: Json, outer: Scope): { name: string; aliases: readonly string[]; scope: Scope } {
  const given = own(json, 'name')
  if (given === undefined) refuse(outer, `the ${String(json.type)} has no name`)
  const space = Object.hasOwn(json, 'namespace') ? json.namespace : outer.namespace
  if (typeof space !== 'string') refuse(inside(outer, 'namespace'), 'a namespace is text')
  if (typeof given !== 'string') refuse(inside(outer, 'name'), `${brief(given)} is no name`)
  const name = qualify(given, space)
  requireFullName(name, inside(outer, 'name'))
  if (isPrimitive(shortName(name))) refuse(inside(outer, 'name'), `the name ${shortName(name)} is taken by Avro`)
  if (outer.reading.named.has(name)) refuse(outer, `${name} is defined twice; use its name the second time`)
  const scope = { ...outer, namespace: name.slice(0, Math.max(0, name.lastIndexOf('.'))) }
  const aliases = namesIn(json, 'aliases', outer).map((alias) => qualify(alias, scope.namespace))
  aliases.forEach((alias, at) => {
    requireFullName(alias, inside(outer, 'aliases', at))
  })
  return { name, aliases, scope }
}

/** Which types may have which of Avro's logical types. Anything else under such a name is ignored, as Avro demands. */
const logicalTypes: Record<string, (kind: string, json: Json, size: number) => boolean> = {
  date: (kind) => kind === 'int',
  'time-millis': (kind) => kind === 'int',
  'time-micros': (kind) => kind === 'long',
  'timestamp-millis': (kind) => kind === 'long',
  'timestamp-micros': (kind) => kind === 'long',
  'timestamp-nanos': (kind) => kind === 'long',
  'local-timestamp-millis': (kind) => kind === 'long',
  'local-timestamp-micros': (kind) => kind === 'long',
  'local-timestamp-nanos': (kind) => kind === 'long',
  uuid: (kind, _json, size) => kind === 'string' || (kind === 'fixed' && size === 16),
  duration: (kind, _json, size) => kind === 'fixed' && size === 12,
  'big-decimal': (kind) => kind === 'bytes',
  decimal(kind, { precision, scale = 0 }, size) {
    const digits = kind === 'bytes' ? Number.POSITIVE_INFINITY : Math.floor(Math.log10(2) * (8 * size - 1))
    const possible = kind === 'bytes' || (kind === 'fixed' && size > 0)
    return (
      possible && isWhole(precision) && precision > 0 && precision <= digits && isWhole(scale) && scale <= precision
    )
  },
}

/** Names that Avro does not define are kept: somebody's library gives them a meaning. */
function logicalOf(json: Json, kind: string, size = 0): { logical?: string } {
  const name = own(json, 'logicalType')
  if (typeof name !== 'string') return {}
  const possible = Object.hasOwn(logicalTypes, name) ? logicalTypes[name] : undefined
  if (possible && !possible(kind, json, size)) return {}
  if (name !== 'decimal') return { logical: name }
  return { logical: `decimal(${String(json.precision)}, ${String(json.scale ?? 0)})` }
}

/** Which defaults fit which types, as far as known. It also ends defaults that would contain themselves. */
type Known = Map<AvroNode, Map<unknown, boolean>>

/** Whether JSON is a default of this type. A default of a union may be of any branch, as since Avro 1.12. */
function fits(type: AvroNode, json: unknown, scope: Scope, known: Known, depth = 0): boolean {
  if (++scope.reading.looked > maxLooks) refuse(scope, `the defaults have more than ${maxLooks} parts; shorten them`)
  if (depth > maxDepth) refuse(scope, `the default is nested deeper than ${maxDepth} levels`)
  const part = (of: AvroNode, value: unknown) => fits(of, value, scope, known, depth + 1)
  switch (type.kind) {
    case 'null':
      return json === null
    case 'boolean':
      return typeof json === 'boolean'
    case 'int':
      return isInteger(json, 32)
    case 'long':
      return isInteger(json, 64)
    case 'float':
    case 'double':
      return isJsonNumber(json) || json === 'NaN' || json === 'Infinity' || json === '-Infinity'
    case 'string':
      return typeof json === 'string'
    case 'bytes':
      return isJsonBytes(json)
    case 'fixed':
      return isJsonBytes(json) && json.length === type.size
    case 'enum':
      return typeof json === 'string' && type.symbols.includes(json)
    default:
      break
  }
  const before = known.get(type)?.get(json)
  if (before !== undefined) return before
  const verdicts = known.get(type) ?? new Map<unknown, boolean>()
  known.set(type, verdicts.set(json, false))
  const verdict = partsFit(type, json, part)
  verdicts.set(json, verdict)
  return verdict
}

function partsFit(
  type: RecordNode | ArrayNode | MapNode | UnionNode,
  json: unknown,
  part: (type: AvroNode, json: unknown) => boolean,
): boolean {
  switch (type.kind) {
    case 'array':
      return Array.isArray(json) && json.every((item) => part(type.items, item))
    case 'map':
      return isJsonObject(json) && Object.values(json).every((value) => part(type.values, value))
    case 'union':
      return type.branches.some((branch) => part(branch, json))
    case 'record':
      return (
        isJsonObject(json) &&
        type.fields.every((each) => {
          if (Object.hasOwn(json, each.name)) return part(each.type, json[each.name])
          return Object.hasOwn(each, 'default') && part(each.type, each.default)
        })
      )
  }
}

const isPrimitive = (name: string): name is PrimitiveKind => primitives.includes(name)

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

/** An attribute, unless it is JavaScript's own. */
const own = (json: Json, key: string): unknown => (Object.hasOwn(json, key) ? json[key] : undefined)

/** What tells the branches of a union apart: the full name, or the kind of what has none. */
export const nameOf = (type: AvroNode): string => ('name' in type ? type.name : type.kind)

function requireName(name: unknown, scope: Scope): asserts name is string {
  if (!isName(name)) {
    refuse(scope, `${brief(name)} is no name; names are letters, digits and _ and start with no digit`)
  }
}

function requireFullName(name: string, scope: Scope): void {
  for (const part of name.split('.')) requireName(part, scope)
}

function namesIn(json: Json, key: string, scope: Scope): readonly string[] {
  const names = own(json, key) ?? []
  if (!Array.isArray(names) || !names.every((name) => typeof name === 'string')) {
    refuse(inside(scope, key), `${key} is a list of names`)
  }
  return names
}

function unique(names: readonly string[], what: string, scope: Scope): void {
  const seen = new Set<string>()
  names.forEach((name, at) => {
    if (seen.has(name)) refuse(inside(scope, at), `${what} ${name} is there twice`)
    seen.add(name)
  })
}
