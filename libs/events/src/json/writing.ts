import type { RecordSchema, ScalarKind, Schema } from '../schema/schema.ts'

/** Makes of a value, as `decode` gives it, what `JSON.stringify` can write. */
export type Write = (value: unknown) => unknown

/** A time that RFC 3339 has no form for. */
export class TimeBeyond extends Error {}

/**
 * Compiles a schema into what makes JSON of its values. A value is not checked: it comes from `decode`, or goes to
 * `encode` as well.
 */
export function writeOf(schema: Schema): Write {
  return build(schema, new Map()) ?? ((value) => value)
}

/** Undefined for what is in JSON as it is here. */
function build(schema: Schema, made: Map<Schema, Write | undefined>): Write | undefined {
  if (!made.has(schema)) made.set(schema, buildNew(schema, made))
  return made.get(schema)
}

function buildNew(schema: Schema, made: Map<Schema, Write | undefined>): Write | undefined {
  switch (schema.kind) {
    case 'nullable': {
      const of = build(schema.of, made)
      return of && ((value) => (value === null ? null : of(value)))
    }
    case 'array': {
      const item = build(schema.items, made)
      return item && ((value) => (value as unknown[]).map((each) => item(each)))
    }
    case 'map': {
      const held = build(schema.values, made)
      return held && ((value) => mapped(value as Record<string, unknown>, held))
    }
    case 'record':
      return recordOf(schema, made)
    case 'fixed':
      return base64
    case 'enum':
    case 'decimal':
      return undefined
    default:
      return scalars[schema.kind]
  }
}

function mapped(value: Record<string, unknown>, write: Write): Record<string, unknown> {
  const entries: Record<string, unknown> = {}
  for (const key of Object.keys(value)) entries[key] = write(value[key])
  return entries
}

/**
 * In generated code, as the reading of records is: `codec/reading.ts`. An OrderPlaced of three lines takes 0.9 us, by a
 * walk over its schema 1.7 us; as text 1.9 and 2.9 us.
 */
function recordOf({ fields }: RecordSchema, made: Map<Schema, Write | undefined>): Write {
  const writes = fields.map(({ type }) => build(type, made))
  const literal = fields.map(({ name }, at) => `${name}: ${writes[at] ? `p${at}(value.${name})` : `value.${name}`}`)
  return new Function(...writes.map((_, at) => `p${at}`), `return (value) => ({ ${literal.join(', ')} })`)(...writes)
}

const base64: Write = (value) => (value as Buffer).toString('base64')

const real: Write = (value) => (Number.isFinite(value) ? value : String(value))

const safest = BigInt(Number.MAX_SAFE_INTEGER)

const scalars: Record<ScalarKind, Write | undefined> = {
  boolean: undefined,
  int: undefined,
  // most who read JSON round what a double cannot hold, so it goes as text
  long: (value) => ((value as bigint) <= safest && (value as bigint) >= -safest ? Number(value) : String(value)),
  float: real,
  double: real,
  string: undefined,
  bytes: base64,
  uuid: undefined,
  date: undefined,
  'timestamp-millis': (value) => timeText(value as Date),
}

/** The first and the last millisecond of the years 1 to 9999. */
export const earliest = Date.parse('0001-01-01T00:00:00.000Z')
export const latest = Date.parse('9999-12-31T23:59:59.999Z')

/** Seconds as text, up to their point. Times of events are close to one another, and `toISOString` takes ten times as long. */
const seconds = new Map<number, string>()
const mostSeconds = 1_000

/** RFC 3339 in UTC with milliseconds. Throws {@link TimeBeyond} for a time outside of the years 1 to 9999. */
export function timeText(time: Date): string {
  const at = time.getTime()
  if (!(at >= earliest && at <= latest))
    throw new TimeBeyond('has a time outside of the years 1 to 9999, for which RFC 3339 has no form')
  const second = Math.floor(at / 1_000)
  let text = seconds.get(second)
  if (text === undefined) {
    text = time.toISOString().slice(0, 20)
    if (seconds.size >= mostSeconds) seconds.clear()
    seconds.set(second, text)
  }
  return `${text}${String(at - second * 1_000).padStart(3, '0')}Z`
}
