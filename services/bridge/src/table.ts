import { Type } from '@shopstream/config'
import { topicOf } from '@shopstream/events'
import type { TObject, TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { forwards } from './forwards.ts'
import { produces } from './produces.ts'
import { type BridgeRow, formNames, sourceOf } from './row.ts'
import { targets } from './targets/index.ts'

const name = Type.String({ pattern: '^[a-z][a-z0-9-]{0,40}$', description: 'small letters, digits and hyphens' })
const oneOf = (names: readonly string[]) => Type.Enum([...names], { description: `one of ${names.join(', ')}` })
const listOf = (names: readonly string[]) =>
  Type.Array(oneOf(names), {
    minItems: 1,
    uniqueItems: true,
    description: `a list of some of ${names.join(', ')}, each once`,
  })
const broker = Type.Record(Type.String(), Type.Unknown(), {
  description: 'one broker with what it needs, such as { rabbitmq: { url: RABBITMQ_URL } }',
})
const closed = { additionalProperties: false }

/** By direction, a row whose part of the target is judged apart. */
const schemas = {
  send: Type.Object(
    {
      name,
      send: listOf(forwards),
      form: Type.Optional(oneOf(formNames)),
      tasks: Type.Optional(Type.Record(Type.String(), Type.String({ minLength: 1, maxLength: 200 }))),
      to: broker,
      maxBytes: Type.Optional(
        Type.Integer({ minimum: 1, maximum: 2 ** 30, description: 'a whole number of bytes, up to 2^30' }),
      ),
      attempts: Type.Optional(
        Type.Integer({ minimum: 1, maximum: 1_000, description: 'a whole number from 1 to 1,000' }),
      ),
    },
    closed,
  ),
  receive: Type.Object(
    {
      name,
      receive: listOf(produces.events),
      source: Type.Optional(name),
      keyPrefix: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
      from: broker,
    },
    closed,
  ),
}

/** Everything that is wrong with a table, in words that begin with the row; none for a good one. */
export function problemsOf(rows: readonly BridgeRow[]): string[] {
  const problems = rows.flatMap((row, n) => rowProblems(row).map((problem) => `${called(row, n)}: ${problem}`))
  return problems.length > 0 ? problems : [...sameNames(rows), ...sharedKeys(rows)]
}

const called = (row: unknown, n: number) => {
  const found = (row as { name?: unknown } | null)?.name
  return typeof found === 'string' && found !== '' ? `bridge ${found}` : `bridge ${n + 1} of the table`
}

function rowProblems(row: unknown): string[] {
  if (typeof row !== 'object' || row === null)
    return ['is no row: it needs a name, and send and to, or receive and from']
  if ('send' in row && 'receive' in row) return ['says both `send` and `receive`: make two rows of it']
  const direction = 'send' in row ? 'send' : 'receive' in row ? 'receive' : undefined
  if (!direction) return ['says neither `send` nor `receive`']
  const side = direction === 'send' ? 'to' : 'from'
  return [...schemaProblems(schemas[direction], row), ...targetProblems(row as BridgeRow, direction, side)]
}

function targetProblems(row: BridgeRow, direction: 'send' | 'receive', side: 'to' | 'from'): string[] {
  const held: unknown = row[side]
  if (typeof held !== 'object' || held === null) return []
  const [entry, ...more] = Object.entries(held)
  if (!entry || more.length > 0) return [`${side} has to name one broker`]
  const [kind, options] = entry
  const way = Object.hasOwn(targets, kind) ? targets[kind]?.[direction === 'send' ? 'out' : 'in'] : undefined
  if (!way) {
    const able = Object.entries(targets).flatMap(([one, target]) =>
      target[direction === 'send' ? 'out' : 'in'] ? one : [],
    )
    return [`${side} names ${kind}; there are ${able.join(', ')}`]
  }
  const at = `${side}.${kind}`
  const problems = schemaProblems(way.options, options ?? {}, at)
  if (problems.length > 0) return problems
  return (way.problems?.(options, row.form) ?? []).map((problem) => `${at} ${problem}`)
}

/** A line for each place that does not fit, with what belongs there. */
function schemaProblems(schema: TObject, value: unknown, at = ''): string[] {
  const problems = Compile(schema).Errors(value)
  const lines = [...problems].flatMap(({ instancePath, keyword, params, message, schemaPath }) => {
    if (keyword === 'boolean') return [] // of a name that there is not, which is told by itself
    const path = [at, ...instancePath.split('/').slice(1)].filter((part) => part !== '').join('.')
    const where = path === '' ? '' : `${path} `
    if (keyword === 'additionalProperties') {
      const { additionalProperties = [] } = params as { additionalProperties?: string[] }
      return additionalProperties.map(
        (name) => `${where}has ${name}, which there is not: there are ${namesOf(schema, instancePath)}`,
      )
    }
    if (keyword === 'required') {
      const { requiredProperties = [] } = params as { requiredProperties?: string[] }
      return requiredProperties.map((name) => `${where}lacks ${name}`)
    }
    return [`${where}${wanted(schema, schemaPath) ?? message}`]
  })
  return [...new Set(lines)]
}

/** By the path of a place in a value. */
function schemaAt(schema: TSchema, path: readonly string[]): TSchema | undefined {
  let at = schema as { properties?: Record<string, TSchema>; items?: TSchema } | undefined
  for (const part of path) at = (at?.properties?.[part] ?? at?.items) as typeof at
  return at as TSchema | undefined
}

const namesOf = (schema: TObject, instancePath: string) =>
  Object.keys((schemaAt(schema, instancePath.split('/').slice(1)) as TObject | undefined)?.properties ?? {}).join(', ')

/** `#/properties/send/items` leads to a description. */
function wanted(schema: TObject, schemaPath: string): string | undefined {
  const parts = schemaPath.split('/').slice(1)
  let at: unknown = schema
  let description: string | undefined
  for (const part of parts) {
    at = (at as Record<string, unknown> | undefined)?.[part]
    const found = (at as { description?: string } | undefined)?.description
    if (found) description = found
  }
  return description && `must be ${description}`
}

function sameNames(rows: readonly BridgeRow[]): string[] {
  const names = rows.map((row) => row.name)
  return [...new Set(names.filter((one, n) => names.indexOf(one) !== n))].map(
    (one) => `there are several bridges ${one}`,
  )
}

/** A key belongs to one source, who alone says what comes next of it. */
function sharedKeys(rows: readonly BridgeRow[]): string[] {
  const sources = rows.filter(({ receive }) => receive)
  const topicsOf = ({ receive = [] }: BridgeRow) => receive.map((event) => topicOf(event).name)
  return sources.flatMap((one, n) =>
    sources.slice(n + 1).flatMap((other) => {
      const topic = topicsOf(one).find((name) => topicsOf(other).includes(name))
      const [a, b] = [one.keyPrefix ?? '', other.keyPrefix ?? '']
      if (!topic || sourceOf(one) === sourceOf(other) || !(a.startsWith(b) || b.startsWith(a))) return []
      return `bridges ${one.name} and ${other.name} both bring ${topic}: give each a keyPrefix that no key of the other begins with`
    }),
  )
}
