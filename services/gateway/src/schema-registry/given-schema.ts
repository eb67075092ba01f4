import { type AvroSchema, readAvro } from '@shopstream/events/avro-model'
import { readJson } from '@shopstream/events/read-json'
import { normalise, parseSchema } from '@shopstream/events/schema'
import { RegistryError } from './errors.ts'

type Json = Record<string, unknown>

/** Messages tell names several times, so a few long ones would make an answer of many megabytes. */
const longestName = 256

/** The text of the schema in the body of a request. Throws 42201 for what can be none, such as another type of schema. */
export function schemaIn(body: unknown): unknown {
  const { schema, schemaType, references } = (body ?? {}) as Json
  if (schemaType !== undefined && schemaType !== null && schemaType !== 'AVRO') {
    throw invalid(`its type ${brief(schemaType)} is not AVRO`)
  }
  if (Array.isArray(references) && references.length > 0) throw invalid('it cannot refer to other subjects here')
  return schema
}

/** A schema as JSON. Throws 42201 for what is no Avro schema; what is one may still be none that this shop could have. */
export function readSchema(text: unknown): unknown {
  if (typeof text !== 'string') throw invalid('it is the text of an Avro schema, in a body {"schema": "..."}')
  try {
    const json = readJson(text)
    const name = namesIn(readAvro(json, 'schema')).find(({ length }) => length > longestName)
    if (name !== undefined) throw new Error(`the name ${name.slice(0, 20)}... has more than ${longestName} letters`)
    return json
  } catch (error) {
    throw invalid(brief((error as Error).message))
  }
}

const namesIn = ({ named }: AvroSchema): string[] =>
  named.flatMap((type) => [
    type.name,
    ...(type.kind === 'record' ? type.fields.map((field) => field.name) : []),
    ...(type.kind === 'enum' ? type.symbols : []),
  ])

const invalid = (why: string) => new RegistryError(42201, `Invalid schema: ${why}`)

const brief = (value: unknown): string => String(value).slice(0, 1_000)

/**
 * A schema as the lock has it, so that it is found however it was written down: with docs, in any order of attributes,
 * with what other programs add to it. Undefined when no schema of this shop can be meant.
 */
export function asInLock(schema: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(normalise(parseSchema(bare(schema)))))
  } catch {
    return undefined
  }
}

const attributes: Record<string, readonly string[]> = {
  record: ['name', 'namespace', 'aliases'],
  enum: ['name', 'namespace', 'aliases', 'symbols', 'default'],
  fixed: ['name', 'namespace', 'aliases', 'size'],
}

/** Of what {@link readAvro} has read, without the attributes that Avro ignores: `avro.java.string`, `connect.name`, `order`. */
function bare(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(bare)
  if (typeof schema !== 'object') return schema
  const json = schema as Json
  switch (json.type) {
    case 'record':
      return { type: json.type, ...pick(json, attributes.record), fields: (json.fields as Json[]).map(bareField) }
    case 'enum':
    case 'fixed':
      return { type: json.type, ...pick(json, attributes[json.type]) }
    case 'array':
      return { type: json.type, items: bare(json.items) }
    case 'map':
      return { type: json.type, values: bare(json.values) }
    default:
      return {
        type: json.type,
        ...(json.logicalType !== undefined && pick(json, ['logicalType', 'precision', 'scale'])),
      }
  }
}

const bareField = (field: Json): Json => ({ ...pick(field, ['name', 'aliases', 'default']), type: bare(field.type) })

const pick = (json: Json, keys: readonly string[] = []): Json =>
  Object.fromEntries(keys.filter((key) => Object.hasOwn(json, key)).map((key) => [key, json[key]]))
