import { isDate } from 'node:util/types'
import { isDay, isDecimal, isLong, isTime, isUuid } from './logical.ts'
import type { Field, RecordSchema, ScalarKind, Schema } from './schema.ts'

/** What does not fit in a value: where, and why. It never tells the value itself, which may be personal data. */
export interface Misfit {
  /** Such as `lines[2].quantity`; empty for the value as a whole. */
  path: string
  problem: string
}

/** Whether a value has nothing that avsc would drop or change without a word. */
export type Strict = (value: unknown) => boolean

/**
 * Compiles a schema into the checks that avsc leaves out when it writes: keys that no field declares, a field left to
 * undefined, an enum's symbol such as `constructor`, text with half of a surrogate pair. Types and ranges are left
 * to avsc, which checks them while writing; parts of the schema that need none of this are not visited.
 */
export function strictOf(schema: Schema): Strict {
  return build(schema, new Map()) ?? (() => true)
}

function build(schema: Schema, made: Map<Schema, Strict | undefined>): Strict | undefined {
  if (!made.has(schema)) made.set(schema, buildNew(schema, made))
  return made.get(schema)
}

function buildNew(schema: Schema, made: Map<Schema, Strict | undefined>): Strict | undefined {
  switch (schema.kind) {
    case 'string':
      return isText
    case 'enum': {
      const symbols = new Set<unknown>(schema.symbols)
      return (value) => symbols.has(value)
    }
    case 'nullable': {
      const of = build(schema.of, made)
      return of && ((value) => value === null || of(value))
    }
    case 'array': {
      const item = build(schema.items, made)
      return item && ((value) => Array.isArray(value) && value.every(item))
    }
    case 'map':
      return mapOf(build(schema.values, made))
    case 'record':
      return recordOf(schema, made)
    default:
      return undefined
  }
}

const isText = (value: unknown): boolean => typeof value === 'string' && value.isWellFormed()

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function mapOf(item: Strict | undefined): Strict {
  return (value) => {
    if (!isObject(value)) return false
    for (const key of Object.keys(value)) {
      if (!isKey(key) || (item && !item(value[key]))) return false
    }
    return true
  }
}

/** What has a default may be left out: its default is written. */
const hasDefault = (field: Field): boolean => Object.hasOwn(field, 'default')

const isKey = (key: string): boolean => key !== '__proto__' && key.isWellFormed()

function recordOf(schema: RecordSchema, made: Map<Schema, Strict | undefined>): Strict {
  const names = new Set(schema.fields.map(({ name }) => name))
  const required = schema.fields.filter((field) => !hasDefault(field)).map(({ name }) => name)
  const parts = schema.fields.flatMap((field) => {
    const check = build(field.type, made)
    return check ? [{ name: field.name, check, optional: hasDefault(field) }] : []
  })
  return (value) => {
    if (!isObject(value)) return false
    let known = 0
    for (const key in value) {
      if (!names.has(key) || value[key] === undefined) return false
      known++
    }
    if (known !== names.size && !required.every((name) => value[name] !== undefined)) return false
    for (const { name, check, optional } of parts) {
      if (!check(value[name]) && !(optional && value[name] === undefined)) return false
    }
    return true
  }
}

/**
 * The first thing in `value` that does not fit the schema, or undefined. Slower than {@link strictOf} and complete: it
 * is asked only once something is known to be wrong.
 */
export function misfitOf(schema: Schema, value: unknown, path = ''): Misfit | undefined {
  switch (schema.kind) {
    case 'nullable':
      return value === null ? undefined : misfitOf(schema.of, value, path)
    case 'array':
      if (!Array.isArray(value)) return { path, problem: `must be an array, is ${kindOf(value)}` }
      return first(value, (item, index) => misfitOf(schema.items, item, `${path}[${index}]`))
    case 'map':
      if (!isObject(value)) return { path, problem: `must be an object, is ${kindOf(value)}` }
      return first(Object.keys(value), (key) => {
        const at = join(path, key)
        return isKey(key) ? misfitOf(schema.values, value[key], at) : { path: at, problem: 'is no key for a map' }
      })
    case 'record':
      return misfitOfRecord(schema, value, path)
    case 'enum':
      return schema.symbols.includes(value as string)
        ? undefined
        : { path, problem: `must be one of ${schema.symbols.join(', ')}` }
    case 'fixed':
      return Buffer.isBuffer(value) && value.length === schema.size
        ? undefined
        : { path, problem: `must be a Buffer of ${schema.size} bytes, is ${kindOf(value)}` }
    case 'decimal': {
      const wanted = `a decimal of ${schema.scale} digits behind the point and at most ${schema.precision} in all, as text`
      return isDecimal(value, schema) ? undefined : { path, problem: `must be ${wanted}, is ${kindOf(value)}` }
    }
    default: {
      const [fits, wanted] = scalars[schema.kind]
      return fits(value) ? undefined : { path, problem: `must be ${wanted}, is ${kindOf(value)}` }
    }
  }
}

function misfitOfRecord({ fields }: RecordSchema, value: unknown, path: string): Misfit | undefined {
  if (!isObject(value)) return { path, problem: `must be an object, is ${kindOf(value)}` }
  const names = new Set(fields.map(({ name }) => name))
  for (const key in value) {
    if (!names.has(key)) return { path: join(path, key), problem: 'is not declared by the schema' }
  }
  return first(fields, (field) => {
    const { name, type } = field
    const at = join(path, name)
    if (value[name] !== undefined) return misfitOf(type, value[name], at)
    return hasDefault(field) && !(name in value) ? undefined : { path: at, problem: 'is missing' }
  })
}

const scalars: Record<ScalarKind, [fits: (value: unknown) => boolean, wanted: string]> = {
  boolean: [(value) => typeof value === 'boolean', 'a boolean'],
  int: [(value) => typeof value === 'number' && value === (value | 0), 'an integer of 32 bits'],
  long: [isLong, 'a bigint of 64 bits'],
  float: [(value) => typeof value === 'number', 'a number'],
  double: [(value) => typeof value === 'number', 'a number'],
  string: [isText, 'text in well-formed Unicode'],
  bytes: [Buffer.isBuffer, 'a Buffer'],
  uuid: [isUuid, 'a UUID'],
  date: [isDay, 'a day in the form YYYY-MM-DD'],
  'timestamp-millis': [isTime, 'a valid Date'],
}

function first<T>(items: readonly T[], find: (item: T, index: number) => Misfit | undefined): Misfit | undefined {
  for (const [index, item] of items.entries()) {
    const misfit = find(item, index)
    if (misfit) return misfit
  }
  return undefined
}

const join = (path: string, key: string): string => (path === '' ? key : `${path}.${key}`)

/** What a value is, in words, without its content. */
function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'an array'
  if (isDate(value)) return Number.isNaN(value.getTime()) ? 'an invalid Date' : 'a Date'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
