import { defaultProblem } from './defaults.ts'
import { isJsonObject } from './json.ts'
import { isName, qualify } from './names.ts'
import {
  type DecimalSchema,
  type EnumSchema,
  type Field,
  type FixedSchema,
  type Named,
  type RecordSchema,
  type ScalarKind,
  type Schema,
  scalarKinds,
} from './schema-model.ts'

export { shortName } from './names.ts'
export * from './schema-model.ts'

/** A schema that is refused; `path` says where in it (`OrderPlaced.lines.sku`). */
export class SchemaError extends Error {
  readonly path: string

  constructor(path: string, problem: string) {
    super(`${path}: ${problem}`)
    this.name = 'SchemaError'
    this.path = path
  }
}

/** Deeper schemas are refused, so that neither reading a schema nor data can exhaust the stack. */
const maxDepth = 32

const logicalTypes: Record<string, { base: string; kind: ScalarKind }> = {
  uuid: { base: 'string', kind: 'uuid' },
  date: { base: 'int', kind: 'date' },
  'timestamp-millis': { base: 'long', kind: 'timestamp-millis' },
}

/** The attributes of each type. Others are refused: avsc would take a misspelt `default` for no default. */
const attributes: Record<string, readonly string[]> = {
  record: ['name', 'namespace', 'doc', 'aliases', 'fields'],
  enum: ['name', 'namespace', 'doc', 'aliases', 'symbols', 'default'],
  fixed: ['name', 'namespace', 'doc', 'aliases', 'size'],
  array: ['items'],
  map: ['values'],
  field: ['name', 'doc', 'aliases', 'type', 'default'],
}

interface Scope {
  readonly path: string
  readonly depth: number
  readonly namespace: string
  /** The named types seen so far; undefined while one is being read. */
  readonly names: Map<string, Schema | undefined>
}

type Json = Record<string, unknown>

/**
 * Reads the JSON of an Avro record schema and refuses what this library does not promise to keep: unions other than
 * `["null", X]`, logical types other than `uuid`, `date`, `timestamp-millis` and `decimal` (avsc would drop them silently), records that
 * contain themselves, values that take no byte, unknown attributes, names that every JavaScript object has, and defaults
 * that do not fit. `json` is what {@link readJson} or `JSON.parse` makes of a text; the latter hides whether it had `1.0`.
 * Throws {@link SchemaError}.
 */
export function parseSchema(json: unknown): RecordSchema {
  const name = isJsonObject(json) && typeof json.name === 'string' ? json.name : 'schema'
  const schema = parse(json, { path: name, depth: 0, namespace: '', names: new Map() })
  if (schema.kind !== 'record') throw new SchemaError(name, 'an event is a record')
  return schema
}

function parse(json: unknown, scope: Scope): Schema {
  if (scope.depth > maxDepth) throw new SchemaError(scope.path, `nested deeper than ${maxDepth}`)
  if (typeof json === 'string') return parseName(json, scope)
  if (Array.isArray(json)) return parseUnion(json, scope)
  if (!isJsonObject(json)) throw new SchemaError(scope.path, 'a type is a name, a union or an object')
  switch (json.type) {
    case 'record':
    case 'enum':
    case 'fixed':
      return parseNamed(json, json.type, scope)
    case 'array':
      only(json, ['type', ...(attributes.array ?? [])], scope.path)
      return { kind: 'array', items: parse(json.items, { ...scope, depth: scope.depth + 1 }) }
    case 'map':
      only(json, ['type', ...(attributes.map ?? [])], scope.path)
      return { kind: 'map', values: parse(json.values, { ...scope, depth: scope.depth + 1 }) }
    default:
      return parseScalar(json, scope)
  }
}

function parseName(name: string, scope: Scope): Schema {
  if (name === 'null') throw new SchemaError(scope.path, 'null is allowed only in a union ["null", X]')
  if (isBase(name)) return { kind: name }
  const full = qualify(name, scope.namespace)
  if (!scope.names.has(full)) throw new SchemaError(scope.path, `type ${name} is not defined here`)
  const schema = scope.names.get(full)
  if (schema === undefined) throw new SchemaError(scope.path, `${full} contains itself`)
  return schema
}

function parseUnion(branches: unknown[], scope: Scope): Schema {
  const [first, second] = branches
  if (branches.length !== 2 || first !== 'null' || Array.isArray(second)) {
    throw new SchemaError(scope.path, 'a union is ["null", X], in this order')
  }
  return { kind: 'nullable', of: parse(second, { ...scope, depth: scope.depth + 1 }) }
}

function parseScalar(json: Json, scope: Scope): Schema {
  if (json.logicalType === 'decimal') return parseDecimal(json, scope.path)
  only(json, ['type', 'logicalType'], scope.path)
  const { type, logicalType } = json
  if (logicalType === undefined) {
    if (typeof type !== 'string') throw new SchemaError(scope.path, 'a type object names its type')
    return parseName(type, scope)
  }
  const known = Object.hasOwn(logicalTypes, String(logicalType)) ? logicalTypes[String(logicalType)] : undefined
  if (known === undefined) throw new SchemaError(scope.path, `logical type ${String(logicalType)} is not registered`)
  if (type !== known.base) throw new SchemaError(scope.path, `logical type ${String(logicalType)} is of ${known.base}`)
  return { kind: known.kind }
}

/** More digits than any sum of money has, few enough that reading one takes no time. */
const maxPrecision = 100

function parseDecimal(json: Json, path: string): DecimalSchema {
  only(json, ['type', 'logicalType', 'precision', 'scale'], path)
  const { type, precision, scale } = json
  if (type !== 'bytes') throw new SchemaError(path, 'logical type decimal is of bytes')
  if (!isWhole(precision, 1, maxPrecision)) throw new SchemaError(path, `precision is 1 to ${maxPrecision} digits`)
  if (!isWhole(scale, 0, precision)) throw new SchemaError(path, 'scale is given, 0 to precision')
  return { kind: 'decimal', precision, scale }
}

const isWhole = (value: unknown, least: number, most: number): value is number =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most

function parseNamed(json: Json, type: 'record' | 'enum' | 'fixed', outer: Scope): Schema {
  only(json, ['type', ...(attributes[type] ?? [])], outer.path)
  const given = nameIn(json, outer.path)
  const namespace = json.namespace === undefined ? outer.namespace : String(json.namespace)
  const name = qualify(given, namespace)
  for (const part of name.split('.')) requireName(part, outer.path)
  if (outer.names.has(name)) throw new SchemaError(outer.path, `${name} is defined twice; use its name the second time`)
  const scope = { ...outer, namespace: name.slice(0, Math.max(0, name.lastIndexOf('.'))) }
  const named = { name, aliases: aliasesIn(json, outer.path), ...docIn(json, outer.path) }
  scope.names.set(name, undefined)
  const schema =
    type === 'record'
      ? record(json, named, scope)
      : type === 'enum'
        ? enumeration(json, named, scope)
        : fixed(json, named, scope)
  scope.names.set(name, schema)
  return schema
}

function record(json: Json, named: Named, scope: Scope): RecordSchema {
  const fields = json.fields
  // a record without fields takes no byte, so a few bytes could announce a million of them
  if (!Array.isArray(fields) || fields.length === 0) throw new SchemaError(scope.path, 'a record has fields')
  const parsed = fields.map((field) => parseField(field, scope))
  unique(
    parsed.map(({ name }) => name),
    'field',
    scope.path,
  )
  return { kind: 'record', ...named, fields: parsed }
}

function parseField(json: unknown, scope: Scope): Field {
  if (!isJsonObject(json)) throw new SchemaError(scope.path, 'a field is an object')
  const name = nameIn(json, scope.path)
  const path = `${scope.path}.${name}`
  requireName(name, path)
  only(json, attributes.field ?? [], path)
  const type = parse(json.type, { ...scope, path, depth: scope.depth + 1 })
  return { name, ...docIn(json, path), aliases: aliasesIn(json, path), type, ...defaultIn(json, type, path) }
}

/** The default of a field, its numbers as `JSON.parse` has them. */
function defaultIn(json: Json, type: Schema, path: string): { default?: unknown } {
  if (!Object.hasOwn(json, 'default')) return {}
  const problem = defaultProblem(type, json.default)
  if (problem !== undefined) throw new SchemaError(path, `incompatible field default: ${problem}`)
  return { default: JSON.parse(JSON.stringify(json.default)) }
}

function enumeration(json: Json, named: Named, { path }: Scope): EnumSchema {
  const { symbols, default: standIn } = json
  if (!Array.isArray(symbols) || symbols.length === 0) throw new SchemaError(path, 'an enum has symbols')
  for (const symbol of symbols) requireName(symbol, path)
  unique(symbols, 'symbol', path)
  if (standIn === undefined) return { kind: 'enum', ...named, symbols }
  if (!symbols.includes(standIn)) throw new SchemaError(path, 'the default of an enum is one of its symbols')
  return { kind: 'enum', ...named, symbols, default: String(standIn) }
}

function fixed(json: Json, named: Named, { path }: Scope): FixedSchema {
  const size = json.size
  if (typeof size !== 'number' || !Number.isInteger(size) || size < 1) throw new SchemaError(path, 'size is 1 or more')
  return { kind: 'fixed', ...named, size }
}

const isBase = (name: string): name is ScalarKind =>
  (scalarKinds as readonly string[]).includes(name) && !Object.hasOwn(logicalTypes, name)

function requireName(name: unknown, path: string): asserts name is string {
  if (!isName(name)) throw new SchemaError(path, `${JSON.stringify(name)} is no name`)
  // avsc keeps names as keys of plain objects: `constructor` would pass as a field or symbol of everything
  if (name in Object.prototype) throw new SchemaError(path, `the name ${name} is taken by JavaScript`)
}

function nameIn(json: Json, path: string): string {
  const { name } = json
  if (typeof name !== 'string') throw new SchemaError(path, 'the name is missing')
  return name
}

function docIn({ doc }: Json, path: string): { doc?: string } {
  if (doc === undefined) return {}
  if (typeof doc !== 'string') throw new SchemaError(path, 'doc is text')
  return { doc }
}

function aliasesIn({ aliases = [] }: Json, path: string): string[] {
  if (!Array.isArray(aliases) || !aliases.every((alias) => typeof alias === 'string')) {
    throw new SchemaError(path, 'aliases are names')
  }
  for (const alias of aliases) for (const part of alias.split('.')) requireName(part, path)
  return aliases
}

function only(json: Json, known: readonly string[], path: string): void {
  const other = Object.keys(json).find((key) => !known.includes(key))
  if (other !== undefined) throw new SchemaError(path, `attribute ${other} is not known`)
}

function unique(names: readonly string[], what: string, path: string): void {
  const seen = new Set<string>()
  const twice = names.find((name) => seen.size === seen.add(name).size)
  if (twice !== undefined) throw new SchemaError(path, `${what} ${twice} is there twice`)
}

/**
 * A schema as JSON with full names, in a fixed order of attributes, and without docs: two schemas that read and write
 * the same have the same text. Unlike Avro's Parsing Canonical Form it keeps defaults, aliases and logical types,
 * because readers depend on them.
 */
export function normalise(schema: Schema): unknown {
  return normalised(schema, new Set())
}

function normalised(schema: Schema, seen: Set<string>): unknown {
  switch (schema.kind) {
    case 'array':
      return { type: 'array', items: normalised(schema.items, seen) }
    case 'map':
      return { type: 'map', values: normalised(schema.values, seen) }
    case 'nullable':
      return ['null', normalised(schema.of, seen)]
    case 'decimal':
      return { type: 'bytes', logicalType: 'decimal', precision: schema.precision, scale: schema.scale }
    case 'record':
    case 'enum':
    case 'fixed': {
      if (seen.has(schema.name)) return schema.name
      seen.add(schema.name)
      return { type: schema.kind, name: schema.name, ...aliases(schema), ...body(schema, seen) }
    }
    default: {
      const logical = logicalTypes[schema.kind]
      return logical ? { type: logical.base, logicalType: schema.kind } : schema.kind
    }
  }
}

function body(schema: RecordSchema | EnumSchema | FixedSchema, seen: Set<string>): Json {
  if (schema.kind === 'fixed') return { size: schema.size }
  if (schema.kind === 'enum') return { symbols: schema.symbols, ...standIn(schema) }
  return {
    fields: schema.fields.map((field) => ({
      name: field.name,
      type: normalised(field.type, seen),
      ...standIn(field),
      ...aliases(field),
    })),
  }
}

const standIn = (held: { default?: unknown }): Json => (Object.hasOwn(held, 'default') ? { default: held.default } : {})

const aliases = (held: { aliases: readonly string[] }): Json => (held.aliases.length ? { aliases: held.aliases } : {})
