import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import fastJsonStringify, { type AnySchema } from 'fast-json-stringify'
import type { FastifySchemaCompiler, FastifySerializerCompiler, FastifyServerOptions } from 'fastify'
import { type TSchema, Type } from 'typebox'
import type { FieldError } from './errors.ts'
import { isLine, isLines, isPrintable } from './text.ts'

/**
 * Formats of text. They are stricter than usual ones where that keeps bad input out of SQL and mails: `uuid` takes no
 * `urn:uuid:`, and `line`, `lines` and `printable` take no control characters, see text.ts.
 */
const formats: Record<string, RegExp | ((text: string) => boolean)> = {
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i,
  email: (text) => text.length <= 254 && email.test(text),
  'date-time': (text) => dateTime.test(text) && !Number.isNaN(Date.parse(text)),
  line: isLine,
  lines: isLines,
  printable: isPrintable,
}
const email =
  /^[^\s@"<>(),:;\\[\]\p{Cc}.]+(\.[^\s@"<>(),:;\\[\]\p{Cc}.]+)*@[\p{L}\p{N}]([\p{L}\p{N}-]*[\p{L}\p{N}])?(\.[\p{L}\p{N}]([\p{L}\p{N}-]*[\p{L}\p{N}])?)+$/u
const dateTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/

const formatWords: Record<string, string> = {
  uuid: 'must be a UUID',
  email: 'must be an email address',
  'date-time': 'must be a time in ISO 8601 with its offset',
  line: 'must be one line of text that can be seen, without control characters and bidirectional overrides',
  lines:
    'must be text that can be seen, without bidirectional overrides and control characters but line breaks and tabs',
  printable: 'must be text without bidirectional overrides and control characters but line breaks and tabs',
}

const strict = {
  verbose: true, // errors carry their schema, for better words
  useDefaults: true,
  strict: true,
  formats,
}

/** Two validators of one kind: up to the first error, or with one for every field. */
const ajvOf = (coerceTypes: boolean) => ({
  first: new Ajv({ ...strict, coerceTypes }),
  all: new Ajv({ ...strict, coerceTypes, allErrors: true }),
})
const bodies = ajvOf(false)
/** Query, path and headers are text on the wire. */
const texts = ajvOf(true)

const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const ajv = httpPart === 'body' ? bodies : texts
  let first: ValidateFunction | undefined
  let all: ValidateFunction | undefined
  return (given: unknown) => {
    const value = httpPart === 'body' ? (given ?? null) : given // no body is null, which a union with Type.Null() takes
    const flaw = flawOf(value, 0)
    if (flaw) return { error: new InvalidParts([{ field: fieldName(flaw.path) || 'body', message: flaw.message }]) }
    first ??= ajv.first.compile(schema)
    if (first(value)) return { value }
    // 1 MiB of `{}` makes 600,000 errors: 0.3 s and 300 MB, for which nobody needs to be logged in.
    if (isLarge(value)) return { error: new InvalidParts(fieldErrors(first.errors ?? [], httpPart)) }
    all ??= ajv.all.compile(schema)
    all(value)
    return { error: new InvalidParts(fieldErrors(all.errors ?? [], httpPart)) }
  }
}

/** Writes an answer's fields that its schema names, and no others. Throws when a required one is missing. */
const serializerCompiler: FastifySerializerCompiler<AnySchema> = ({ schema }) => {
  let stringify: ((value: unknown) => string) | undefined
  return (value: unknown) => {
    stringify ??= fastJsonStringify(schema, { ajv: { formats } })
    return stringify(value)
  }
}

/** How fastify compiles schemas: each when its route is first used, which makes every service's start 150 ms shorter. */
export const compilersFactory = {
  buildValidator: () => validatorCompiler,
  buildSerializer: () => serializerCompiler,
} as unknown as NonNullable<NonNullable<FastifyServerOptions['schemaController']>['compilersFactory']>

/** A part of a request (path, query, headers or body) does not keep its schema. */
export class InvalidParts extends Error {
  readonly fields: FieldError[]

  constructor(fields: FieldError[]) {
    super('the request does not keep its schema')
    this.fields = fields
  }
}

const maxFieldErrors = 50
const maxDepth = 32
/** Values in a body of which every error is told. */
const maxValues = 10_000

interface Flaw {
  path: string[]
  message: string
}

/**
 * What no schema sees: text that Postgres cannot store, which is NUL and halves of surrogate pairs (JSON can spell them
 * `\u0000` and `\ud800`), and nesting that would overflow the stack later.
 */
function flawOf(value: unknown, depth: number): Flaw | undefined {
  if (typeof value === 'string') {
    if (value.isWellFormed() && !value.includes('\0')) return undefined
    return { path: [], message: 'must be text without NUL and without halves of surrogate pairs' }
  }
  if (typeof value !== 'object' || value === null) return undefined
  if (depth === maxDepth) return { path: [], message: `must not be nested deeper than ${maxDepth} levels` }
  for (const name in value) {
    const flaw = flawOf(name, 0) ?? flawOf((value as Record<string, unknown>)[name], depth + 1)
    if (flaw) return { ...flaw, path: [name, ...flaw.path] }
  }
  return undefined
}

function isLarge(value: unknown): boolean {
  let count = 0
  const visit = (item: unknown): boolean =>
    ++count > maxValues || (typeof item === 'object' && item !== null && Object.values(item).some(visit))
  return visit(value)
}

/** One entry per field, in the schema's order, with words of our own where Ajv's would puzzle a reader. */
function fieldErrors(found: ErrorObject[], part = 'body'): FieldError[] {
  const byField = new Map<string, string>()
  const unions = new Set(found.filter(({ keyword }) => keyword === 'anyOf').map(({ instancePath }) => instancePath))
  for (const error of found) {
    if (byField.size === maxFieldErrors) break
    if (isNoise(error, found, unions)) continue
    const field = fieldOf(error) || part
    if (!byField.has(field)) byField.set(field, messageOf(error))
  }
  return [...byField].map(([field, message]) => ({ field, message }))
}

/**
 * A union reports that the value is of none of its branches, each branch's reason, and its own. The first is of no use;
 * its own is of use when nothing more precise was found, as in a union of literals.
 */
function isNoise({ keyword, instancePath }: ErrorObject, found: ErrorObject[], unions: Set<string>): boolean {
  if (!unions.has(instancePath)) return false
  if (keyword !== 'anyOf') return mismatches.has(keyword)
  return found.some(
    (other) =>
      other.keyword !== 'anyOf' &&
      (other.instancePath === instancePath
        ? !mismatches.has(other.keyword)
        : other.instancePath.startsWith(`${instancePath}/`)),
  )
}
const mismatches = new Set(['type', 'const', 'enum'])

function fieldOf({ instancePath, keyword, params }: ErrorObject): string {
  const names = instancePath.split('/').slice(1).map(unescapePointer)
  if (keyword === 'required') names.push(params.missingProperty)
  if (keyword === 'additionalProperties') names.push(params.additionalProperty)
  return fieldName(names)
}

/** As one would write it in JavaScript: `items[0].sku`. */
const fieldName = (path: string[]) =>
  path.map((name, i) => (/^\d+$/.test(name) ? `[${name}]` : `${i > 0 ? '.' : ''}${name.slice(0, 100)}`)).join('')

const unescapePointer = (name: string) => name.replaceAll('~1', '/').replaceAll('~0', '~')

function messageOf({ keyword, params, parentSchema = {}, message = 'is not valid' }: ErrorObject): string {
  switch (keyword) {
    case 'required':
      return 'is required'
    case 'additionalProperties':
      return 'is not a known field'
    case 'type':
      return `must be of the type ${params.type}`
    case 'enum':
      return `must be one of ${params.allowedValues.join(', ')}`
    case 'anyOf':
      return alternatives(parentSchema.anyOf)
    case 'format':
      return formatWords[params.format] ?? `must be a valid ${params.format}`
    case 'minimum':
      return `must be at least ${params.limit}`
    case 'maximum':
      return `must be at most ${params.limit}`
    case 'minLength':
      return params.limit === 1 ? 'must not be empty' : `must have at least ${params.limit} characters`
    case 'maxLength':
      return `must have at most ${params.limit} characters`
    case 'minItems':
      return `must have at least ${params.limit} entries`
    case 'maxItems':
      return `must have at most ${params.limit} entries`
    default:
      return message
  }
}

function alternatives(branches: { const?: unknown; type?: string }[]): string {
  const names = branches.map((branch) => branch.const ?? branch.type ?? 'something else')
  return `must be one of ${names.join(', ')}`
}

/** A copy of a schema in which objects with declared fields take no others, at every depth. */
export function closed(schema: TSchema): TSchema {
  const closedOf = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(closedOf)
    if (typeof value !== 'object' || value === null || value instanceof RegExp) return value
    const copy = Object.fromEntries(Object.entries(value).map(([name, item]) => [name, closedOf(item)]))
    const isOpenObject =
      copy.type === 'object' && copy.properties !== undefined && copy.additionalProperties === undefined
    return isOpenObject ? { ...copy, additionalProperties: false } : copy
  }
  return closedOf(schema) as TSchema
}

/** 1 to 255 visible ASCII characters. */
export const idempotencyKeyHeader = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      pattern: '^[\\x21-\\x7e]{1,255}$',
      description: 'Any text of your own; a repeated request with it gets the first answer again, for 24 h.',
    }),
  ),
})

export const preferHeader = Type.Object({
  prefer: Type.Optional(
    Type.String({
      pattern: '^wait=\\d+$',
      description: '`wait=N`: answer when it is decided, or after N seconds (at most 30) as it stands then.',
    }),
  ),
})

/** An error, RFC 9457. */
export const problemSchema = Type.Object({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  code: Type.String({ description: 'Stable; decide by this.' }),
  detail: Type.String(),
  instance: Type.String(),
  requestId: Type.String(),
  traceId: Type.Optional(Type.String({ description: "Of the request's trace and of what is logged about it." })),
  errors: Type.Optional(Type.Array(Type.Object({ field: Type.String(), message: Type.String() }))),
})
