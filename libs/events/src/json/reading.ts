import { defaultBytes } from '../codec/avsc.ts'
import { readingOf } from '../codec/reading.ts'
import { brief, isInteger, isJsonNumber, isJsonObject } from '../schema/json.ts'
import { floatProblem, isDay, isDecimal, isUuid } from '../schema/logical-types.ts'
import type { Field, RecordSchema, ScalarKind, Schema } from '../schema/schema.ts'
import { earliest, latest } from './writing.ts'

/** What is wrong in JSON, and where: `lines[2].quantity`, or nothing for the whole. */
export interface Problem {
  readonly path: string
  readonly problem: string
  /** The start of what was read in its place. */
  readonly found?: string
}

/** Takes in what is wrong; throws when that is enough. */
export type Report = (problem: Problem) => void

/** Makes of JSON what the schema calls it, or reports what is wrong, in which case the value is of no use. */
export type FromJson = (json: unknown, path: string, report: Report) => unknown

/** Compiles a schema into what reads its values of JSON that `readJson` has read. It goes no deeper than the schema. */
export function fromJsonOf(schema: Schema, made: Map<Schema, FromJson> = new Map()): FromJson {
  const known = made.get(schema) ?? build(schema, made)
  made.set(schema, known)
  return known
}

function build(schema: Schema, made: Map<Schema, FromJson>): FromJson {
  switch (schema.kind) {
    case 'nullable': {
      const of = fromJsonOf(schema.of, made)
      return (json, path, report) => (json === null ? null : of(json, path, report))
    }
    case 'array':
      return array(fromJsonOf(schema.items, made))
    case 'map':
      return map(fromJsonOf(schema.values, made))
    case 'record':
      return record(schema, made)
    case 'enum': {
      const symbols = new Set<unknown>(schema.symbols)
      return single(`is none of ${schema.symbols.join(', ')}`, (json) => (symbols.has(json) ? json : undefined))
    }
    case 'fixed':
      return single(`is no base64 of ${schema.size} bytes`, (json) => {
        const bytes = bytesOf(json)
        return bytes?.length === schema.size ? bytes : undefined
      })
    case 'decimal': {
      const { precision, scale } = schema
      const wanted = `is no text of a decimal of ${scale} digits behind the point and at most ${precision} in all`
      return single(wanted, (json) => (isDecimal(json, schema) ? json : undefined))
    }
    default:
      return single(...scalars[schema.kind])
  }
}

/** For a value without parts; `take` gives undefined for what is none. */
function single(problem: string, take: (json: unknown) => unknown): FromJson {
  return (json, path, report) => {
    const value = take(json)
    if (value === undefined) report({ path, problem, found: brief(json) })
    return value
  }
}

function array(item: FromJson): FromJson {
  return (json, path, report) => {
    if (Array.isArray(json)) return json.map((each, index) => item(each, `${path}[${index}]`, report))
    return report({ path, problem: 'is no array', found: brief(json) })
  }
}

function map(value: FromJson): FromJson {
  return (json, path, report) => {
    if (!isJsonObject(json)) return report({ path, problem: 'is no object', found: brief(json) })
    const entries: Record<string, unknown> = {}
    // keys of maps are data, such as somebody's address, so they are counted and not told
    for (const [index, key] of Object.keys(json).entries()) {
      const at = `${path}{${index}}`
      if (key === '__proto__' || !key.isWellFormed()) report({ path: at, problem: 'has a key that a map cannot have' })
      else entries[key] = value(json[key], at, report)
    }
    return entries
  }
}

function record(schema: RecordSchema, made: Map<Schema, FromJson>): FromJson {
  const names = new Set(schema.fields.map(({ name }) => name))
  const parts = schema.fields.map((field) => {
    return { name: field.name, read: fromJsonOf(field.type, made), standIn: standInOf(schema, field) }
  })
  return (json, path, report) => {
    if (!isJsonObject(json)) return report({ path, problem: 'is no object', found: brief(json) })
    for (const key of Object.keys(json)) {
      if (!names.has(key)) report({ path, problem: 'has a field that the schema does not have', found: brief(key) })
    }
    const fields: Record<string, unknown> = {}
    for (const { name, read, standIn } of parts) {
      const at = path === '' ? name : `${path}.${name}`
      if (Object.hasOwn(json, name)) fields[name] = read(json[name], at, report)
      else if (standIn) fields[name] = standIn()
      else report({ path: at, problem: 'is missing' })
    }
    return fields
  }
}

/** What makes the default of a field, a new value each time; undefined when it has none. */
export function standInOf(record: RecordSchema, field: Field): (() => unknown) | undefined {
  if (!Object.hasOwn(field, 'default')) return undefined
  const alone = { ...record, fields: [field] }
  const bytes = defaultBytes(alone, field.name)
  const read = readingOf(alone, alone)
  return () => (read(bytes, 0) as Record<string, unknown>)[field.name]
}

/** Canonical base64: with its padding, in the standard alphabet, and no bit that is in none of the bytes. */
function bytesOf(json: unknown): Buffer | undefined {
  if (typeof json !== 'string') return undefined
  const bytes = Buffer.from(json, 'base64')
  return bytes.toString('base64') === json ? bytes : undefined
}

const longText = /^(?:0|-?[1-9]\d{0,18})$/

function longOf(json: unknown): bigint | undefined {
  if (isInteger(json, 64)) return BigInt(String(json))
  if (typeof json !== 'string' || !longText.test(json)) return undefined
  const value = BigInt(json)
  return BigInt.asIntN(64, value) === value ? value : undefined
}

const noNumbers: Record<string, number> = { NaN: Number.NaN, Infinity: Infinity, '-Infinity': -Infinity }

function realOf(json: unknown): number | undefined {
  if (typeof json === 'string') return Object.hasOwn(noNumbers, json) ? noNumbers[json] : undefined
  if (!isJsonNumber(json)) return undefined
  const value = Number(json)
  return Number.isFinite(value) ? value : undefined // 1e400
}

function floatOf(json: unknown): number | undefined {
  const value = realOf(json)
  return value === undefined || (Number.isFinite(value) && floatProblem(value) !== undefined) ? undefined : value
}

const timeForm =
  /^(\d{4}-\d\d-\d\d)T((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d{1,9}))?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))$/i

/** RFC 3339. What is behind the milliseconds is cut off: Python writes microseconds, and a Date holds none. */
function timeOf(json: unknown): Date | undefined {
  const [, day, clock, fraction = '', sign, hours = 0, minutes = 0] =
    (typeof json === 'string' && timeForm.exec(json)) || []
  if (!isDay(day)) return undefined
  const local = Date.parse(`${day}T${clock}.${fraction.slice(0, 3).padEnd(3, '0')}Z`)
  const offset = (Number(hours) * 60 + Number(minutes)) * 60_000
  const time = sign === '-' ? local + offset : local - offset
  return time >= earliest && time <= latest ? new Date(time) : undefined
}

/** What each kind is called when it is missed, and what takes it. */
const scalars: Record<ScalarKind, [problem: string, take: (json: unknown) => unknown]> = {
  boolean: ['is neither true nor false', (json) => (typeof json === 'boolean' ? json : undefined)],
  int: ['is no whole number of 32 bits', (json) => (isInteger(json, 32) ? Number(json) + 0 : undefined)], // no -0
  long: ['is no whole number of 64 bits, nor text of its digits', longOf],
  float: ['is no number in the range of a float, nor "NaN", "Infinity" or "-Infinity"', floatOf],
  double: ['is no number in the range of a double, nor "NaN", "Infinity" or "-Infinity"', realOf],
  string: ['is no well-formed text', (json) => (typeof json === 'string' && json.isWellFormed() ? json : undefined)],
  bytes: ['is no base64', bytesOf],
  uuid: ['is no UUID', (json) => (isUuid(json) ? json : undefined)],
  date: ['is no day YYYY-MM-DD of the years 1 to 9999', (json) => (isDay(json) ? json : undefined)],
  'timestamp-millis': ['is no time of RFC 3339 in the years 1 to 9999, such as 2026-11-30T10:00:00.000Z', timeOf],
}
