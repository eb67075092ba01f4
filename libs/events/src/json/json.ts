import { registry } from '../catalogue/registry.ts'
import type { EventName, EventTypes } from '../generated/events.ts'
import { readJson } from '../schema/json.ts'
import { parseSchema, type RecordSchema, shortName } from '../schema/schema.ts'
import { type FromJson, fromJsonOf, type Problem } from './reading.ts'
import { TimeBeyond, type Write, writeOf } from './writing.ts'

export { jsonSchemaOf } from './json-schema.ts'
export { timeText } from './writing.ts'

/** JSON that is no event, or an event that JSON cannot say. Shows the start of a value at most, on one line. */
export class JsonError extends Error {
  readonly event: string
  /** All that is wrong, at most {@link maxProblems}. */
  readonly problems: readonly Problem[]

  constructor(event: string, problems: readonly Problem[]) {
    super(inWords(event, problems, ({ problem, found }) => (found === undefined ? problem : `${problem}: ${found}`)))
    this.name = 'JsonError'
    this.event = event
    this.problems = problems
  }

  /** The message without any piece of what was read, which may be personal: for what is kept or sent on. */
  get withoutValues(): string {
    return inWords(this.event, this.problems, ({ problem }) => problem)
  }
}

const inWords = (event: string, problems: readonly Problem[], tell: (problem: Problem) => string) =>
  `${event}: ${problems.map((one) => (one.path === '' ? tell(one) : `${one.path}: ${tell(one)}`)).join('; ')}`

const maxProblems = 10

/**
 * The longest text that is read, in UTF-16 units: twice the bytes that an event may have in Avro. The worst of that length,
 * `1.0` after `1.0`, took 0.5 s and 240 MiB; one of four times the length 2 s and 810 MiB.
 */
export const maxJsonLength = 2 * 1024 * 1024

const newest = new Map(registry.map(({ subject, schema }) => [shortName(subject), schema]))

/** What {@link compile} made, of the events that were asked for. */
const compiled = new Map<string, EventJson>()

function jsonFor(event: string): EventJson {
  const known = compiled.get(event)
  if (known) return known
  if (!newest.has(event)) throw new JsonError(event, [{ path: '', problem: 'is no event of the registry' }])
  const made = compile(parseSchema(newest.get(event)))
  compiled.set(event, made)
  return made
}

/**
 * An event as JSON, in the form of its `schemas/**\/*.schema.json`: fields in the order of the schema and none left out;
 * a `long` as a number where a double holds it exactly, else as text of its digits; NaN and the infinities as text;
 * bytes in base64; times as RFC 3339 in UTC with milliseconds; all else as it is here. Minus zero becomes zero in text.
 * `data` is as `decode` gives it and is not checked. Throws {@link JsonError} for a time outside of the years 1 to 9999.
 */
export function toJson<N extends EventName>(event: N, data: EventTypes[N]): unknown {
  return jsonFor(event).to(data)
}

/** {@link toJson} as text. */
export function jsonOf<N extends EventName>(event: N, data: EventTypes[N]): string {
  return JSON.stringify(toJson(event, data))
}

/**
 * Reads what {@link jsonOf} writes, from whoever wrote it, so it takes nothing else: no unknown field, no missing one but
 * what has a default, no `1.0` for an `int`. Times may have any offset and are cut to milliseconds. What it returns is
 * what `encode` takes, unless it is too long. Throws {@link JsonError} with all that is wrong, at most ten things.
 */
export function fromJson<N extends EventName>(event: N, text: string): EventTypes[N] {
  return jsonFor(event).from(text) as EventTypes[N]
}

/** {@link fromJson} of what `readJson` has read already, such as a part of a larger text. */
export function fromJsonValue<N extends EventName>(event: N, json: unknown): EventTypes[N] {
  return jsonFor(event).fromValue(json) as EventTypes[N]
}

export interface EventJson {
  to(data: unknown): unknown
  from(text: string): unknown
  /** Of what `readJson` has read. */
  fromValue(json: unknown): unknown
}

/** {@link toJson} and {@link fromJson} of any schema. */
export function compile(schema: RecordSchema): EventJson {
  const event = shortName(schema.name)
  const write: Write = writeOf(schema)
  const read: FromJson = fromJsonOf(schema)
  const fromValue = (json: unknown): unknown => {
    const problems: Problem[] = []
    const value = read(json, '', (problem) => {
      if (problems.push(problem) === maxProblems) throw new JsonError(event, problems)
    })
    if (problems.length > 0) throw new JsonError(event, problems)
    return value
  }
  return {
    to(data) {
      try {
        return write(data)
      } catch (error) {
        throw error instanceof TimeBeyond ? new JsonError(event, [{ path: '', problem: error.message }]) : error
      }
    },
    from: (text) => fromValue(parsed(event, text)),
    fromValue,
  }
}

function parsed(event: string, text: string): unknown {
  if (text.length > maxJsonLength) {
    const problem = `is ${text.length} characters long, more than ${maxJsonLength}`
    throw new JsonError(event, [{ path: '', problem }])
  }
  try {
    return readJson(text)
  } catch (error) {
    // the message of V8 has a piece of the text in it, with line breaks and all
    const why = (error as Error).message.replace(/[\p{C}\s]+/gu, ' ')
    throw new JsonError(event, [{ path: '', problem: 'is no JSON', found: why }])
  }
}
