import { Type } from '@shopstream/config'
import { topicOf } from '@shopstream/events'
import type { TObject } from 'typebox'
import { forwards } from './forwards.ts'
import { produces } from './produces.ts'
import { type BridgeRow, formNames, sourceOf } from './row.ts'
import { isName, schemaProblems } from './schema-problems.ts'
import { targets } from './targets/index.ts'
import type { Claim, OfRow, Target } from './targets/target.ts'
import { serverOf, urlOf } from './url.ts'

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

const words = {
  send: {
    send: listOf(forwards),
    form: Type.Optional(oneOf(formNames)),
    tasks: Type.Optional(
      Type.Record(Type.String(), Type.String({ minLength: 1, maxLength: 200 }), {
        description: 'names of tasks by event, each of 1 to 200 characters',
      }),
    ),
    to: broker,
    maxBytes: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 2 ** 30, description: 'a whole number of bytes, up to 2^30' }),
    ),
    attempts: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1_000, description: 'a whole number from 1 to 1,000' }),
    ),
  },
  receive: {
    receive: listOf(produces.events),
    source: Type.Optional(name),
    keyPrefix: Type.Optional(
      Type.String({ minLength: 1, maxLength: 100, description: 'a text of 1 to 100 characters' }),
    ),
    from: broker,
  },
}

/** By direction, a row whose part of the target is judged apart. One of neither direction is judged by its other words. */
const schemas: Record<Direction | 'neither', TObject> = {
  send: Type.Object({ name, ...words.send }, closed),
  receive: Type.Object({ name, ...words.receive }, closed),
  neither: Type.Object({ ...Type.Partial(Type.Object({ ...words.send, ...words.receive })).properties, name }, closed),
}

type Direction = 'send' | 'receive'
const directions = ['send', 'receive'] as const
const sideOf = { send: 'to', receive: 'from' } as const
const wayOf = { send: 'out', receive: 'in' } as const

/** A row as it was read: nothing is known of it but where it stands. */
export interface Placed {
  row: unknown
  /** The file, or what stands in its place. */
  file: string
  /** From 1 on. */
  number: number
}

/**
 * Everything that is wrong with a table and with the variables that it names, in words that begin with the file and the row, or
 * with the variable; none for a good one. What is wrong with one row hides nothing of another. No line has a value of the table: a
 * password may stand in a wrong place.
 */
export function problemsOf(rows: readonly Placed[], env: NodeJS.ProcessEnv = process.env): string[] {
  const inRows = rows.flatMap((one) => rowProblems(one.row).map((problem) => `${called(one)}: ${problem}`))
  const ends = rows.flatMap(endsOf)
  return [...inRows, ...sameNames(rows), ...sharedKeys(rows), ...urlProblems(ends, env), ...sharedPlaces(ends, env)]
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const called = ({ row, file, number }: Placed) =>
  isRecord(row) && isName(row.name) ? `${file}: bridge ${row.name}` : `${file}: row ${number}`

function rowProblems(row: unknown): string[] {
  if (!isRecord(row)) return ['is no row: it needs a name, and send and to, or receive and from']
  const said = directions.filter((one) => one in row)
  const meant = said.length > 0 ? said : directions.filter((one) => sideOf[one] in row)
  const problems = [
    ...(said.length === 2 ? ['says both `send` and `receive`: make two rows of it'] : []),
    ...(meant.length === 0 ? ['says neither `send` nor `receive`', ...schemaProblems(schemas.neither, row)] : []),
    ...meant.flatMap((one) => [
      ...schemaProblems(schemas[one], meant.length === 2 ? withoutOther(row, one) : row),
      ...targetProblems(row, one),
    ]),
    ...taskProblems(row),
  ]
  return [...new Set(problems)]
}

/** A task of a name that was not meant goes to workers who do not know it, and they throw it away. */
function taskProblems({ tasks, send, form }: Record<string, unknown>): string[] {
  if (!isRecord(tasks) || !Array.isArray(send)) return []
  const astray = Object.keys(tasks).filter((event) => !send.includes(event))
  return [
    ...astray.map((event) => `tasks names ${isName(event) ? event : 'something'}, which is not in send`),
    ...(form === 'celery' ? [] : ['has tasks, which form: celery alone uses: add it']),
  ]
}

/** Of a row that is two, the one of a direction. */
const withoutOther = (row: Record<string, unknown>, direction: Direction) =>
  Object.fromEntries(
    Object.entries(row).filter(([word]) => !(word in words[direction === 'send' ? 'receive' : 'send'])),
  )

function targetProblems(row: Record<string, unknown>, direction: Direction): string[] {
  const side = sideOf[direction]
  const held = row[side]
  if (!isRecord(held)) return [] // its schema has said so
  const kinds = Object.keys(held)
  const able = Object.keys(targets).filter((kind) => targets[kind]?.[wayOf[direction]])
  const unknown = kinds.filter((kind) => !able.includes(kind))
  return [
    ...(kinds.length === 1 ? [] : [`${side} has to name one broker`]),
    ...unknown.map((kind) => `${side} names ${isName(kind) ? kind : 'something else'}; there are ${able.join(', ')}`),
    ...able.filter((kind) => kinds.includes(kind)).flatMap((kind) => optionProblems(row, direction, kind, held[kind])),
  ]
}

function optionProblems(row: Record<string, unknown>, direction: Direction, kind: string, options: unknown): string[] {
  const at = `${sideOf[direction]}.${kind}`
  const way = targets[kind]?.[wayOf[direction]]
  if (!way) return []
  const among = isRecord(options) ? (way.problems?.(options, ofRow(row, direction)) ?? []) : []
  return [...schemaProblems(way.options, options ?? {}, at), ...among.map((problem) => `${at} ${problem}`)]
}

function ofRow({ name, form, ...row }: Record<string, unknown>, direction: Direction): OfRow {
  const named: unknown[] = Array.isArray(row[direction]) ? row[direction] : []
  const events = direction === 'send' ? forwards : produces.events
  return { name, form, events: events.filter((event) => named.includes(event)) }
}

/** Where a row leads, as far as it can be read. */
interface End {
  placed: Placed
  direction: Direction
  kind: string
  target: Target
  options: Record<string, unknown>
  /** The variable with the URL. */
  variable: string
}

function endsOf(placed: Placed): End[] {
  const { row } = placed
  if (!isRecord(row)) return []
  return directions.flatMap((direction) => {
    const held = row[sideOf[direction]]
    return Object.entries(isRecord(held) ? held : {}).flatMap(([kind, options]) => {
      const target = Object.hasOwn(targets, kind) ? targets[kind] : undefined
      if (!target || !isRecord(options) || typeof options.url !== 'string' || !/^[A-Z][A-Z0-9_]*$/.test(options.url))
        return []
      return { placed, direction, kind, target, options, variable: options.url }
    })
  })
}

/** Begins with the variable, as what is wrong with a setting does: by that it is told once. */
function urlProblems(ends: readonly End[], env: NodeJS.ProcessEnv): string[] {
  const groups = Map.groupBy(ends, ({ variable, kind }) => `${variable} ${kind}`)
  return [...groups.values()].flatMap((some) => {
    const { variable, target } = some[0] as End
    const url = urlOf(variable, target, env)
    const rows = [...new Set(some.map(({ placed }) => called(placed)))]
    return 'problems' in url ? url.problems.map((problem) => `${problem}; it is named by ${rows.join(', ')}`) : []
  })
}

/** What rows declare in two ways, read side by side, or both send into and receive from. */
function sharedPlaces(ends: readonly End[], env: NodeJS.ProcessEnv): string[] {
  const claims = ends.flatMap(({ placed, direction, kind, target, options, variable }) => {
    const found = urlOf(variable, target, env)
    const server = 'url' in found ? serverOf(found.url, target) : variable
    const row = ofRow(placed.row as Record<string, unknown>, direction)
    const claimed = target[wayOf[direction]]?.claims?.(options, row) ?? []
    return claimed.map((claim) => ({ ...claim, row: called(placed), at: [kind, server, claim.place].join() }))
  })
  return [...Map.groupBy(claims, ({ at }) => at).values()].flatMap(placeProblems)
}

function placeProblems(claims: (Claim & { row: string })[]): string[] {
  const of = (does: Claim['does']) => claims.filter((claim) => claim.does === does)
  const rowsOf = (some: readonly { row: string }[]) => [...new Set(some.map(({ row }) => row))].join(' and ')
  const [readers, declared] = [of('reads'), of('declares')]
  const [senders, receivers] = [rowsOf(of('sends into')), rowsOf(of('receives from'))]
  const place = claims[0]?.place ?? ''
  const shown = place.includes('://') ? 'one place' : place // not where a URL stands for a name
  const isLoop = senders !== '' && receivers !== ''
  const isTwofold = !isLoop && new Set(declared.map(({ as }) => as)).size > 1
  const isOneRow = new Set(declared.map(({ row }) => row)).size === 1
  const apart = isOneRow
    ? `${rowsOf(declared)} declares ${shown} in two ways: give each of the two a name of its own`
    : `${rowsOf(declared)} declare ${shown} with different arguments (limits, groups, dead letters): give it the same in both`
  return [
    ...(isLoop
      ? [
          `${senders} sends into ${shown}, and ${receivers} receives from it: what goes out would come in; give each its own`,
        ]
      : []),
    ...(readers.length > 1
      ? [`${rowsOf(readers)} read ${shown}: each would get a part, and no key keep its order; give each its own`]
      : []),
    ...(isTwofold ? [apart] : []),
  ]
}

function sameNames(rows: readonly Placed[]): string[] {
  const named = rows.flatMap(({ row, file, number }) =>
    isRecord(row) && isName(row.name) ? { name: row.name, where: `row ${number} of ${file}` } : [],
  )
  return [...Map.groupBy(named, ({ name }) => name)].flatMap(([name, some]) =>
    some.length === 1
      ? []
      : `there are several bridges ${name}, ${some.map(({ where }) => where).join(' and ')}: give each a name of its own`,
  )
}

/** A key belongs to one source, who alone says what comes next of it. */
function sharedKeys(rows: readonly Placed[]): string[] {
  const sources = rows.flatMap((placed) => {
    const topics = topicsIn(placed.row)
    if (topics.length === 0) return []
    const row = placed.row as Pick<BridgeRow, 'name' | 'source' | 'keyPrefix'>
    const { keyPrefix = '' } = row
    return typeof keyPrefix === 'string' ? { row: called(placed), topics, keyPrefix, source: sourceOf(row) } : []
  })
  return sources.flatMap((one, n) =>
    sources.slice(n + 1).flatMap((other) => {
      const topic = one.topics.find((name) => other.topics.includes(name))
      const [a, b] = [one.keyPrefix, other.keyPrefix]
      if (!topic || one.source === other.source || !(a.startsWith(b) || b.startsWith(a))) return []
      return `${one.row} and ${other.row} both bring ${topic}: give each a keyPrefix that no key of the other begins with, or both the same source`
    }),
  )
}

/** The topics that a row brings events into. */
function topicsIn(row: unknown): string[] {
  const receive: unknown[] = isRecord(row) && Array.isArray(row.receive) ? row.receive : []
  return produces.events.filter((event) => receive.includes(event)).map((event) => topicOf(event).name)
}
