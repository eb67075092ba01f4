import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { incompatibilities } from '../compatibility/compatibility.ts'
import { type EventName, encode, registry, topics } from '../index.ts'
import { type Field, normalise, parseSchema, type RecordSchema, type Schema, shortName } from '../schema/schema.ts'
import { arbitraryEvent, arbitraryOf } from '../testing/arbitrary.ts'
import type { Dice } from '../testing/random-schemas.ts'
import { compile } from './avsc.ts'
import { walkOf } from './bounds.ts'
import { type Read, readingOf } from './reading.ts'

/** The judge: avsc, which reads what has been walked over before. It ignores namespaces only where it is told to. */
function judgeOf(writer: RecordSchema, reader: RecordSchema): Read {
  const [from, to] = [compile(writer), compile(reader)]
  const resolver = to.createResolver(from, { ignoreNamespaces: true } as object)
  const walk = walkOf(writer)
  return (bytes, at) => {
    const cursor = { bytes, at }
    walk(cursor)
    if (cursor.at !== bytes.length) throw new Error('too many')
    return to.decode(bytes, at, resolver).value
  }
}

/** What reading comes to. The judge has other words for what is refused. */
function outcome(read: Read, bytes: Buffer): unknown {
  try {
    return { value: read(bytes, 0) }
  } catch {
    return 'refused'
  }
}

/** Bytes with something changed in them: another byte, one more, one less, or an end. */
const changed = (bytes: Buffer): fc.Arbitrary<Buffer> =>
  fc.tuple(fc.nat(bytes.length), fc.nat(255), fc.nat(3)).map(([at, byte, how]) => {
    const [before, after] = [bytes.subarray(0, at), bytes.subarray(how === 1 ? at : at + 1)]
    return how === 3 ? before : Buffer.concat([before, Buffer.from(how === 2 ? [] : [byte]), after])
  })

/** A value of the writer's as bytes: once as they are, and a few times changed. */
const messagesOf = (writer: RecordSchema): fc.Arbitrary<Buffer[]> => {
  const type = compile(writer)
  return arbitraryOf(writer).chain((value) => {
    const bytes = type.toBuffer(value)
    return fc.array(changed(bytes), { minLength: 5, maxLength: 5 }).map((spoilt) => [bytes, ...spoilt])
  })
}

/** Each scalar with a default for it. */
const scalars: [type: Schema, json: unknown][] = [
  [{ kind: 'boolean' }, true],
  [{ kind: 'int' }, 7],
  [{ kind: 'long' }, -70_000_000_000],
  [{ kind: 'float' }, 0.5],
  [{ kind: 'double' }, 0.1],
  [{ kind: 'string' }, 'Zoë'],
  [{ kind: 'bytes' }, '\u00ff'],
  [{ kind: 'uuid' }, '6f1c2b52-6ef5-4a3e-8a39-0d3c1d9b4c11'],
  [{ kind: 'date' }, 19_000],
  [{ kind: 'timestamp-millis' }, 1000],
  [{ kind: 'decimal', precision: 12, scale: 3 }, '\u0001\u0000'],
]

/** All randomness comes from a tape, which fast-check can shorten and lower; then schemas get simpler. */
const tape = fc.array(fc.nat(0xffff), { minLength: 200, maxLength: 200, size: 'max' })

function diceOf(rolls: number[]): Dice {
  let at = 0
  return (below) => (rolls[at++] ?? 0) % below
}

const pick = <T>(dice: Dice, from: readonly T[]): T => from[dice(from.length)] as T

/** A record with schemas of every kind inside; `known` are the named types so far, which are used again. */
function anyRecord(dice: Dice, depth = 0, known: Schema[] = []): RecordSchema {
  const fields = ['a', 'b', 'c', 'd'].slice(dice(3)).map((name) => field(name, anyType(dice, depth + 1, known)))
  const record: RecordSchema = { kind: 'record', name: `test.T${known.length}`, aliases: [], fields }
  known.push(record)
  return record
}

const field = (name: string, type: Schema): Field => ({ name, aliases: [], type })

function anyType(dice: Dice, depth: number, known: Schema[]): Schema {
  const roll = dice(depth > 3 ? 7 : 14)
  if (roll < 5) return pick(dice, scalars)[0]
  if (roll < 7) return pick(dice, [...known, ...scalars.map(([type]) => type)])
  if (roll === 7) return { kind: 'array', items: anyType(dice, depth + 1, known) }
  if (roll === 8) return { kind: 'map', values: anyType(dice, depth + 1, known) }
  if (roll < 11) return orNull(anyType(dice, depth + 1, known))
  if (roll === 11) return anyRecord(dice, depth, known)
  const named = { name: `test.T${known.length}`, aliases: [] }
  const type: Schema =
    roll === 12
      ? { kind: 'fixed', ...named, size: 1 + dice(4) }
      : { kind: 'enum', ...named, symbols: ['P', 'Q', 'R'].slice(dice(3)), ...(dice(2) ? { default: 'R' } : {}) }
  known.push(type)
  return type
}

const orNull = (of: Schema): Schema => (of.kind === 'nullable' ? of : { kind: 'nullable', of })

/** Another version of a schema; a type that is used twice is changed once. A few of the changes cannot be read. */
function evolved(schema: Schema, dice: Dice, made: Map<Schema, Schema>): Schema {
  const version = made.get(schema) ?? newVersion(schema, dice, made)
  made.set(schema, version)
  return version
}

const promotions: Partial<Record<Schema['kind'], Schema[]>> = {
  int: [{ kind: 'long' }, { kind: 'double' }],
  float: [{ kind: 'double' }],
  string: [{ kind: 'bytes' }],
}

/** avsc does not round whole numbers to floats and doubles as Java does; that has a test of its own. */
const isNumber = (schema: Schema): boolean =>
  schema.kind === 'nullable' ? isNumber(schema.of) : ['int', 'long', 'float', 'double'].includes(schema.kind)

function newVersion(schema: Schema, dice: Dice, made: Map<Schema, Schema>): Schema {
  const roll = dice(20)
  if (roll === 0 && !isNumber(schema)) return pick(dice, scalars)[0]
  switch (schema.kind) {
    case 'nullable': {
      const of = evolved(schema.of, dice, made)
      return roll === 1 ? of : orNull(of)
    }
    case 'array':
      return { kind: 'array', items: evolved(schema.items, dice, made) }
    case 'map':
      return { kind: 'map', values: evolved(schema.values, dice, made) }
    case 'enum':
      return { ...schema, ...renamed(schema.name, roll), symbols: ['Q', 'R', 'S'] }
    case 'fixed':
      return { ...schema, ...renamed(schema.name, roll) }
    case 'record':
      return evolvedRecord(schema, dice, made)
    default:
      return roll < 5 ? pick(dice, promotions[schema.kind] ?? [schema]) : roll === 5 ? orNull(schema) : schema
  }
}

/** A type may move to another namespace, which does not count, and change its name, with an alias. */
const renamed = (name: string, roll: number): { name?: string; aliases?: string[] } =>
  roll < 6 ? { name: `other.${shortName(name)}` } : roll < 9 ? { name: `${name}x`, aliases: [name] } : {}

function evolvedRecord(schema: RecordSchema, dice: Dice, made: Map<Schema, Schema>): RecordSchema {
  const kept = schema.fields.flatMap((old): Field[] => {
    const type = evolved(old.type, dice, made)
    const roll = dice(8)
    return roll === 0 ? [] : [roll === 1 ? { name: `${old.name}2`, aliases: [old.name], type } : { ...old, type }]
  })
  const [type, json] = pick(dice, scalars)
  const added: Field[] = [
    { ...field('e', type), default: json },
    { ...field('f', { kind: 'nullable', of: type }), default: null },
    { ...field('g', { kind: 'array', items: type }), default: [json] },
    dice(20) === 0 ? field('h', type) : { ...field('h', { kind: 'map', values: type }), default: { k: json } },
  ]
  const fields = [...kept, ...added.slice(dice(4))]
  return { ...schema, ...renamed(schema.name, dice(20)), fields: dice(2) === 0 ? fields : fields.reverse() }
}

const anyPair = tape.map((rolls) => {
  const dice = diceOf(rolls)
  const [one, other] = [anyRecord(dice)].flatMap((record) => [record, evolvedRecord(record, dice, new Map())])
  const [writer, reader] = dice(2) === 0 ? [one, other] : [other, one]
  return { writer: writer as RecordSchema, reader: reader as RecordSchema }
})

function madeOr<T>(make: () => T): T | undefined {
  try {
    return make()
  } catch {
    return undefined
  }
}

test('whole numbers read as floating ones are rounded as in Java', () => {
  const thing = (kind: 'int' | 'long' | 'float' | 'double') =>
    parseSchema({ type: 'record', name: 'Thing', fields: [{ name: 'x', type: kind }] })
  const rows = [
    ['int', 'float', 16_777_217, 16_777_216],
    ['int', 'double', 16_777_217, 16_777_217],
    ['long', 'float', 16_777_217n, 16_777_216],
    ['long', 'double', 2n ** 53n + 1n, 2 ** 53],
    ['long', 'double', -(2n ** 63n), -(2 ** 63)],
  ] as const
  for (const [from, to, written, x] of rows) {
    const bytes = compile(thing(from)).toBuffer({ x: written })
    expect(readingOf(thing(from), thing(to))(bytes, 0)).toEqual({ x })
  }
})

test('what is read does not hold on to the message, nor share a default', () => {
  const [raw, added] = [
    { name: 'raw', type: 'bytes' },
    { name: 'added', type: { type: 'array', items: 'bytes' }, default: ['z'] },
  ]
  const [writer, reader] = [[raw], [raw, added]].map((fields) => parseSchema({ type: 'record', name: 'Thing', fields }))
  const read = readingOf(writer as RecordSchema, reader as RecordSchema)
  const message = Buffer.from([2, 65])
  const [one, other] = [read(message, 0), read(message, 0)] as { raw: Buffer; added: Buffer[] }[]
  message[1] = 66
  one?.added[0]?.fill(0)
  expect(one?.raw).toEqual(Buffer.from('A'))
  expect(other?.added).toEqual([Buffer.from('z')])
})

test('long messages, and text that is not ASCII, are read as short ones are', () => {
  const schema = parseSchema({
    type: 'record',
    name: 'Thing',
    fields: [{ name: 'x', type: { type: 'array', items: 'string' } }],
  })
  for (const text of ['a', 'Zoë', '\u{1f600}', 'x'.repeat(4_000), 'é'.repeat(3_000)]) {
    const value = { x: [text, 'b', text] }
    expect(readingOf(schema, schema)(compile(schema).toBuffer(value), 0)).toEqual(value)
  }
})

describe('against avsc, which reads what has been walked over', () => {
  const events = topics.flatMap((topic) => topic.events)

  test.each(events)('%s comes to the same, whole and spoilt', (event: EventName) => {
    const row = registry.findLast(({ subject }) => shortName(subject) === event)
    const schema = parseSchema(row?.schema)
    const [read, judge] = [readingOf(schema, schema), judgeOf(schema, schema)]
    const messages = arbitraryEvent(event).chain((data) => {
      const bytes = encode(event, data).subarray(5)
      return fc.array(changed(bytes), { minLength: 5, maxLength: 5 }).map((spoilt) => [bytes, ...spoilt])
    })
    fc.assert(
      fc.property(messages, (all) => {
        for (const bytes of all) expect(outcome(read, bytes)).toEqual(outcome(judge, bytes))
      }),
      { numRuns: 50 },
    )
  })

  test('another version of any schema comes to the same, whole and spoilt, or cannot be read by either', () => {
    const count = { read: 0, refused: 0, whole: 0, spoilt: 0 }
    const messages = anyPair.chain((pair) => fc.tuple(fc.constant(pair), messagesOf(pair.writer)))
    fc.assert(
      fc.property(messages, ([{ writer, reader }, all]) => {
        const read = madeOr(() => readingOf(writer, reader))
        if (!read) {
          count.refused++
          expect(incompatibilities(normalise(reader), normalise(writer))).not.toEqual([])
          return
        }
        count.read++
        const judge = judgeOf(writer, reader)
        for (const bytes of all) {
          const mine = outcome(read, bytes)
          expect(mine).toEqual(outcome(judge, bytes))
          count[mine === 'refused' ? 'spoilt' : 'whole']++
        }
      }),
      { numRuns: 1500 },
    )
    for (const times of Object.values(count)) expect(times).toBeGreaterThan(100)
  })
})
