import { brief, isInteger, isJsonBytes, isJsonNumber, isJsonObject } from './json.ts'
import { dayOf, decimalOf, isFloat, isUuid, maxDecimalBytes, timeOf } from './logical-types.ts'
import type { DecimalSchema, RecordSchema, ScalarKind, Schema } from './schema-model.ts'

/**
 * Why JSON is no default of a type, or undefined. Stricter than avsc, which takes `1.0` for an int, makes other bytes of
 * letters above U+00FF, and never asks whether a float is in its range; and stricter than Java where the lock, which is
 * plain JSON, could not keep the default: a long beyond what a double holds, minus zero, NaN and the infinities.
 */
export function defaultProblem(schema: Schema, json: unknown): string | undefined {
  switch (schema.kind) {
    case 'nullable':
      return json === null ? undefined : misfit(json, 'null, the first of the union')
    case 'array':
      if (!Array.isArray(json)) return misfit(json, 'array')
      return firstProblem(json, (item) => defaultProblem(schema.items, item))
    case 'map':
      if (!isJsonObject(json)) return misfit(json, 'map')
      return firstProblem(
        Object.entries(json),
        ([key, value]) => keyProblem(key) ?? defaultProblem(schema.values, value),
      )
    case 'record':
      return isJsonObject(json) ? recordProblem(schema, json) : misfit(json, `record ${schema.name}`)
    case 'enum':
      return schema.symbols.includes(json as string) ? undefined : misfit(json, 'enum: it is none of its symbols')
    case 'fixed':
      return isJsonBytes(json) && json.length === schema.size
        ? undefined
        : misfit(json, `fixed of ${schema.size} bytes`)
    case 'decimal':
      return isDigits(json, schema) ? undefined : misfit(json, 'decimal: it is not the bytes of one, as text')
    default:
      return scalars[schema.kind](json) ? undefined : misfit(json, reasons[schema.kind] ?? schema.kind)
  }
}

const misfit = (json: unknown, type: string): string => `${brief(json)} does not fit the type ${type}`

function firstProblem<T>(items: readonly T[], find: (item: T) => string | undefined): string | undefined {
  for (const item of items) {
    const problem = find(item)
    if (problem !== undefined) return problem
  }
  return undefined
}

const keyProblem = (key: string): string | undefined =>
  key === '__proto__' || !key.isWellFormed() ? `${brief(key)} is no key for a map` : undefined

function recordProblem({ name, fields }: RecordSchema, json: Record<string, unknown>): string | undefined {
  const other = Object.keys(json).find((key) => !fields.some((field) => field.name === key))
  if (other !== undefined) return `${brief(other)} is no field of ${name}`
  return firstProblem(fields, (field) => {
    if (Object.hasOwn(json, field.name)) return defaultProblem(field.type, json[field.name])
    return Object.hasOwn(field, 'default') ? undefined : `${name}.${field.name} is missing`
  })
}

function isDigits(json: unknown, schema: DecimalSchema): boolean {
  if (!isJsonBytes(json) || json === '' || json.length > maxDecimalBytes(schema)) return false
  return holds(() => decimalOf(Buffer.from(json, 'latin1'), schema))
}

/** Whether a reading succeeds. */
function holds(read: () => unknown): boolean {
  try {
    read()
    return true
  } catch {
    return false
  }
}

const isText = (json: unknown): json is string => typeof json === 'string' && json.isWellFormed()

const isSafe = (json: unknown): boolean => isInteger(json, 64) && Number.isSafeInteger(Number(json))

/** JSON has neither NaN nor Infinity, and JavaScript writes minus zero as zero. */
const isKept = (json: unknown): boolean =>
  isJsonNumber(json) && Number.isFinite(Number(json)) && !Object.is(Number(json), -0)

const scalars: Record<ScalarKind, (json: unknown) => boolean> = {
  boolean: (json) => typeof json === 'boolean',
  int: (json) => isInteger(json, 32),
  long: isSafe,
  float: (json) => isKept(json) && isFloat(Number(json)),
  double: isKept,
  string: isText,
  bytes: isJsonBytes,
  uuid: isUuid,
  date: (json) => isInteger(json, 32) && holds(() => dayOf(Number(json))),
  'timestamp-millis': (json) => isSafe(json) && holds(() => timeOf(Number(json))),
}

/** The types of which more has to be said than their name. */
const reasons: Partial<Record<ScalarKind, string>> = {
  int: 'int: it is written without point and exponent, and has 32 bits',
  long: 'long as the lock can keep it: without point and exponent, from -(2^53 - 1) to 2^53 - 1',
  float: 'float as the lock can keep it: finite, in the range of a float, not minus zero',
  double: 'double as the lock can keep it: finite, not minus zero',
  bytes: 'bytes: it is text of U+0000 to U+00FF',
  string: 'string: it is text in well-formed Unicode',
  date: 'date: it is a number of days in the years 1 to 9999, without point and exponent',
  'timestamp-millis': 'timestamp-millis: it is a number that a Date holds, without point and exponent',
}
