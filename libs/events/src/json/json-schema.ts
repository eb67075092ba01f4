import {
  type DecimalSchema,
  type Field,
  type RecordSchema,
  type ScalarKind,
  type Schema,
  shortName,
} from '../schema/schema.ts'
import { standInOf } from './reading.ts'
import { writeOf } from './writing.ts'

type Json = Record<string, unknown>

/**
 * The JSON Schema (draft 2020-12) of an event as `toJson` writes it. Named types of Avro are in `$defs` by their full
 * name. It asks a little less than `fromJson` does, as JSON Schema has no word for it: `1.0` passes for an integer.
 */
export function jsonSchemaOf(event: RecordSchema): Json {
  const defs = new Map<string, Json>()
  const body = record(event, defs)
  const parts = Object.fromEntries([...defs].sort(([one], [other]) => (one < other ? -1 : 1)))
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: event.name,
    title: shortName(event.name),
    ...body,
    ...(defs.size > 0 && { $defs: parts }),
  }
}

function schemaOf(schema: Schema, defs: Map<string, Json>): Json {
  switch (schema.kind) {
    case 'nullable':
      return { anyOf: [schemaOf(schema.of, defs), { type: 'null' }] }
    case 'array':
      return { type: 'array', items: schemaOf(schema.items, defs) }
    case 'map':
      return { type: 'object', additionalProperties: schemaOf(schema.values, defs) }
    case 'record':
      return defined(schema, defs, () => record(schema, defs))
    case 'enum':
      return defined(schema, defs, () => ({ ...about(schema), type: 'string', enum: schema.symbols }))
    case 'fixed': {
      const length = Math.ceil(schema.size / 3) * 4
      return defined(schema, defs, () => ({ ...about(schema), ...base64, minLength: length, maxLength: length }))
    }
    case 'decimal':
      return { type: 'string', pattern: decimalPattern(schema) }
    default:
      return scalars[schema.kind]
  }
}

/** A reference to a named type, which is written once however often it is used. */
function defined({ name }: { name: string }, defs: Map<string, Json>, make: () => Json): Json {
  if (!defs.has(name)) defs.set(name, make())
  return { $ref: `#/$defs/${name}` }
}

function record(schema: RecordSchema, defs: Map<string, Json>): Json {
  const needed = schema.fields.filter((field) => !Object.hasOwn(field, 'default'))
  return {
    ...about(schema),
    type: 'object',
    properties: Object.fromEntries(schema.fields.map((field) => [field.name, property(schema, field, defs)])),
    ...(needed.length > 0 && { required: needed.map(({ name }) => name) }),
    additionalProperties: false,
  }
}

function property(record: RecordSchema, field: Field, defs: Map<string, Json>): Json {
  const standIn = standInOf(record, field)
  return {
    ...about(field),
    ...schemaOf(field.type, defs),
    ...(standIn && { default: writeOf(field.type)(standIn()) }),
  }
}

const about = ({ doc }: { doc?: string }): Json => (doc === undefined ? {} : { description: doc })

function decimalPattern({ precision, scale }: DecimalSchema): string {
  const most = precision - scale
  const whole = most === 0 ? '0' : `(0|[1-9][0-9]{0,${most - 1}})`
  return `^-?${whole}${scale === 0 ? '' : `\\.[0-9]{${scale}}`}$`
}

const base64 = { type: 'string', contentEncoding: 'base64' }

const real = { anyOf: [{ type: 'number' }, { enum: ['NaN', 'Infinity', '-Infinity'] }] }

const scalars: Record<ScalarKind, Json> = {
  boolean: { type: 'boolean' },
  int: { type: 'integer', minimum: -(2 ** 31), maximum: 2 ** 31 - 1 },
  long: {
    anyOf: [
      { type: 'integer', minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
      { type: 'string', pattern: '^(0|-?[1-9][0-9]{0,18})$' },
    ],
  },
  float: real,
  double: real,
  string: { type: 'string' },
  bytes: base64,
  uuid: { type: 'string', format: 'uuid' },
  date: { type: 'string', format: 'date' },
  'timestamp-millis': { type: 'string', format: 'date-time' },
}
