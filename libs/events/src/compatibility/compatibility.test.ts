import { readFileSync } from 'node:fs'
import { describe, expect, test } from '@jest/globals'
import avsc from 'avsc'
import fc from 'fast-check'
import { compile } from '../codec/avsc.ts'
import { readingOf } from '../codec/reading.ts'
import { readJson } from '../schema/json.ts'
import { parseSchema, type RecordSchema, SchemaError } from '../schema/schema.ts'
import { anyBytes, anySchema, type Dice, evolved } from '../testing/random-schemas.ts'
import { readAvro } from './avro-model.ts'
import { incompatibilities, javaRules, strictRules } from './compatibility.ts'

type Row = [type: string, readerPath: string, writerPath: string]

const rows = (reader: unknown, writer: unknown): Row[] =>
  incompatibilities(reader, writer).map(({ type, readerPath, writerPath }) => [type, readerPath, writerPath])

const messages = (reader: unknown, writer: unknown) => incompatibilities(reader, writer).map(({ message }) => message)

const record = (name: string, fields: Record<string, unknown>, more: object = {}) => ({
  type: 'record',
  name,
  fields: Object.entries(fields).map(([field, type]) =>
    isField(type) ? { name: field, ...type } : { name: field, type },
  ),
  ...more,
})
/** A field with more than a type. */
const field = (type: unknown, more: object = {}) => ({ isField: true, type, ...more })
const isField = (held: unknown): held is object => typeof held === 'object' && held !== null && 'isField' in held
const enumOf = (symbols: string[], more: object = {}) => ({ type: 'enum', name: 'E', symbols, ...more })
const fixedOf = (size: number, more: object = {}) => ({ type: 'fixed', name: 'F', size, ...more })
const arrayOf = (items: unknown) => ({ type: 'array', items })
const mapOf = (values: unknown) => ({ type: 'map', values })
const decimal = (precision: number, scale?: number) => ({ type: 'bytes', logicalType: 'decimal', precision, scale })
const timeIn = (unit: string) => ({ type: 'long', logicalType: `timestamp-${unit}` })
const list = (name: string, value: unknown, more: object = {}) =>
  record(name, { value, next: field(['null', name], { default: null }) }, more)

const primitives = ['null', 'boolean', 'int', 'long', 'float', 'double', 'bytes', 'string']
const promoted = ['int long', 'int float', 'int double', 'long float', 'long double', 'float double']
const readable = new Set([...promoted, 'string bytes'])

describe('primitive types', () => {
  test.each(primitives.flatMap((writer) => primitives.map((reader) => [writer, reader] as const)))(
    '%s read as %s',
    (writer, reader) => {
      const fits = writer === reader || readable.has(`${writer} ${reader}`)
      const rule = `${writer} ${reader}` === 'bytes string' ? 'BYTES_READ_AS_STRING' : 'TYPE_MISMATCH'
      expect(rows(reader, writer)).toEqual(fits ? [] : [[rule, '/', '/']])
    },
  )
})

/** Pairs that Java passes, and so does this. */
const compatible: [title: string, reader: unknown, writer: unknown][] = [
  ['a type as object', { type: 'int' }, 'int'],
  ['promotion inside of an array', arrayOf('long'), arrayOf('int')],
  ['promotion inside of a map', mapOf('double'), mapOf('float')],
  ['the same enum', enumOf(['A', 'B']), enumOf(['A', 'B'])],
  ['symbols added in the reader', enumOf(['C', 'B', 'A']), enumOf(['A', 'B'])],
  ['a symbol removed from a reader with a default', enumOf(['A'], { default: 'A' }), enumOf(['A', 'B'])],
  ['the same fixed', fixedOf(4), fixedOf(4)],
  ['a record in another namespace', record('a.R', { x: 'int' }), record('b.R', { x: 'int' })],
  ['an enum in another namespace', enumOf(['A'], { namespace: 'a' }), enumOf(['A'], { namespace: 'b' })],
  ['records without fields', record('R', {}), record('R', {})],
  ['a field removed', record('R', {}), record('R', { x: 'int' })],
  ['a field added with a default', record('R', { x: field('int', { default: 0 }) }), record('R', {})],
  ['fields in another order', record('R', { x: 'int', y: 'long' }), record('R', { y: 'long', x: 'int' })],
  ['a field renamed', record('R', { y: field('int', { aliases: ['x'] }) }), record('R', { x: 'int' })],
  ['a record renamed', record('n.S', { x: 'int' }, { aliases: ['R'] }), record('n.R', { x: 'int' })],
  ['a record moved and renamed', record('n.S', { x: 'int' }, { aliases: ['m.R'] }), record('m.R', { x: 'int' })],
  ['an enum renamed', { ...enumOf(['A']), name: 'G', aliases: ['E'] }, enumOf(['A'])],
  ['a fixed renamed', { ...fixedOf(2), name: 'G', aliases: ['F'] }, fixedOf(2)],
  ['no union read by one', ['null', 'int'], 'int'],
  ['no union read by a branch it can be converted to', ['null', 'double'], 'int'],
  ['a union of one read by its type', 'int', ['int']],
  ['a union of which each branch can be converted', 'double', ['int', 'long', 'float']],
  ['a branch added in the reader', ['null', 'int', 'string'], ['int', 'null']],
  ['branches converted', ['double', 'bytes'], ['int', 'string']],
  ['no branches', [], []],
  ['a union that nobody can write', 'int', []],
  ['a record inside of itself', list('L', 'long'), list('L', 'int')],
  ['records inside of each other', twins('double'), twins('float')],
  ['an attribute that Avro does not know', { type: 'int', unit: 'pieces' }, 'int'],
  ['an error is a record', { ...record('R', {}), type: 'error' }, record('R', {})],
  ['the same decimal, its scale left out', decimal(4), decimal(4, 0)],
  ['an impossible decimal is none', decimal(2, 3), 'bytes'],
  ['a logical type on a type that cannot have it is none', { type: 'string', logicalType: 'date' }, 'string'],
  ['the branch of the very name wins', [record('a.R', {}), record('b.R', {})], record('b.R', {})],
  ['the branch of the same type wins', ['double', timeIn('millis')], timeIn('millis')],
  ['a default of the second branch', record('R', { x: field(['null', 'int'], { default: 1 }) }), record('R', {})],
  ['its own name as an alias', record('n.R', {}, { aliases: ['R'] }), record('n.R', {})],
  ['its own full name as an alias', record('n.R', {}, { aliases: ['n.R', 'n.R'] }), record('n.R', {})],
  [
    'types inside that repeat their own names',
    record('n.R', { e: enumOf(['A'], { aliases: ['E'] }), f: arrayOf(fixedOf(1, { aliases: ['n.F'] })) }),
    record('n.R', { e: enumOf(['A']), f: arrayOf(fixedOf(1)) }),
  ],
  ['Infinity as a default', record('R', { x: field('double', { default: 'Infinity' }) }), record('R', {})],
]

function twins(type: string): unknown {
  const second = record('B', { a: ['null', 'A'], value: type })
  return record('A', { b: ['null', second] })
}

test.each(compatible)('compatible: %s', (_title, reader, writer) => {
  expect(incompatibilities(reader, writer)).toEqual([])
})

/** Pairs that cannot be read or change their meaning, with each place. */
const incompatible: [title: string, reader: unknown, writer: unknown, ...Row[]][] = [
  ['another name', record('S', {}), record('R', {}), ['NAME_MISMATCH', '/name', '/name']],
  [
    'another name and a field without default',
    record('S', { x: 'int' }),
    record('R', { y: 'int' }),
    ['NAME_MISMATCH', '/name', '/name'],
    ['READER_FIELD_MISSING_DEFAULT_VALUE', '/fields/0', '/fields'],
  ],
  [
    'an alias in another namespace',
    record('n.S', {}, { aliases: ['R'] }),
    record('m.R', {}),
    ['NAME_MISMATCH', '/name', '/name'],
  ],
  ['an alias of the writer', record('R', {}), record('S', {}, { aliases: ['R'] }), ['NAME_MISMATCH', '/name', '/name']],
  ['another size', fixedOf(4), fixedOf(8), ['FIXED_SIZE_MISMATCH', '/size', '/size']],
  [
    'another name and size',
    { ...fixedOf(4), name: 'G' },
    fixedOf(8),
    ['NAME_MISMATCH', '/name', '/name'],
    ['FIXED_SIZE_MISMATCH', '/size', '/size'],
  ],
  ['a symbol removed', enumOf(['A']), enumOf(['A', 'B']), ['MISSING_ENUM_SYMBOLS', '/symbols', '/symbols']],
  [
    'a symbol removed from a writer with a default',
    enumOf(['A']),
    enumOf(['A', 'B'], { default: 'A' }),
    ['MISSING_ENUM_SYMBOLS', '/symbols', '/symbols'],
  ],
  [
    'a field added without default',
    record('R', { x: 'int', y: 'int' }),
    record('R', { x: 'int' }),
    ['READER_FIELD_MISSING_DEFAULT_VALUE', '/fields/1', '/fields'],
  ],
  [
    "the default of an enum is not its field's",
    record('R', { e: enumOf(['A'], { default: 'A' }) }),
    record('R', {}),
    ['READER_FIELD_MISSING_DEFAULT_VALUE', '/fields/0', '/fields'],
  ],
  [
    'a type deep inside, with the fields in another order',
    record('R', { a: 'int', b: arrayOf(mapOf(record('S', { x: 'int' }))) }),
    record('R', { b: arrayOf(mapOf(record('S', { z: 'int', x: 'string' }))), a: 'int' }),
    ['TYPE_MISMATCH', '/fields/1/type/items/values/fields/0/type', '/fields/0/type/items/values/fields/1/type'],
  ],
  ['a branch removed', ['null', 'int'], ['null', 'int', 'string'], ['MISSING_UNION_BRANCH', '/', '/2']],
  ['no branch for the type', ['null', 'int'], 'string', ['MISSING_UNION_BRANCH', '/', '/']],
  ['null added in the writer', 'int', ['null', 'int'], ['TYPE_MISMATCH', '/', '/0']],
  [
    'each branch that cannot be read',
    'string',
    ['int', 'long'],
    ['TYPE_MISMATCH', '/', '/0'],
    ['TYPE_MISMATCH', '/', '/1'],
  ],
  ['a union without branches reads nothing', [], 'int', ['MISSING_UNION_BRANCH', '/', '/']],
  [
    'a union that reads no union',
    arrayOf(['null', 'int']),
    arrayOf(['string']),
    ['MISSING_UNION_BRANCH', '/items', '/items/0'],
  ],
  [
    'narrowed inside of itself',
    list('L', 'int'),
    list('L', 'long'),
    ['TYPE_MISMATCH', '/fields/0/type', '/fields/0/type'],
  ],
  [
    'narrowed in each other',
    twins('float'),
    twins('double'),
    ['MISSING_UNION_BRANCH', '/fields/0/type', '/fields/0/type/1'],
  ],
  [
    'one type used twice is reported once',
    record('R', { a: fixedOf(1), b: 'F' }),
    record('R', { a: fixedOf(2), b: 'F' }),
    ['FIXED_SIZE_MISMATCH', '/fields/0/type/size', '/fields/0/type/size'],
  ],
  ['a kind inside of an array', arrayOf('int'), arrayOf(mapOf('int')), ['TYPE_MISMATCH', '/items', '/items']],
  ['array and map', arrayOf('int'), mapOf('int'), ['TYPE_MISMATCH', '/', '/']],
  ['bytes and fixed', 'bytes', fixedOf(4), ['TYPE_MISMATCH', '/', '/']],
  ['string and enum', 'string', enumOf(['A']), ['TYPE_MISMATCH', '/', '/']],
  ['the unit of a time', timeIn('micros'), timeIn('millis'), ['LOGICAL_TYPE_CHANGED', '/', '/']],
  ['a time that becomes a number', 'long', timeIn('millis'), ['LOGICAL_TYPE_CHANGED', '/', '/']],
  ['a number that becomes a time', timeIn('millis'), 'long', ['LOGICAL_TYPE_CHANGED', '/', '/']],
  ['a day that is converted', 'long', { type: 'int', logicalType: 'date' }, ['LOGICAL_TYPE_CHANGED', '/', '/']],
  ['bytes that become text', 'string', 'bytes', ['BYTES_READ_AS_STRING', '/', '/']],
  [
    'bytes that become text or null',
    record('R', { x: ['null', 'string'] }),
    record('R', { x: 'bytes' }),
    ['BYTES_READ_AS_STRING', '/fields/0/type/1', '/fields/0/type'],
  ],
  ['precision', decimal(10, 2), decimal(9, 2), ['LOGICAL_TYPE_CHANGED', '/', '/']],
  ['scale', decimal(9, 3), decimal(9, 2), ['LOGICAL_TYPE_CHANGED', '/', '/']],
  [
    'the precision of a fixed',
    fixedOf(8, { logicalType: 'decimal', precision: 12 }),
    fixedOf(8, { logicalType: 'decimal', precision: 10 }),
    ['LOGICAL_TYPE_CHANGED', '/', '/'],
  ],
  ['a logical type of our own', { type: 'string', logicalType: 'iban' }, 'string', ['LOGICAL_TYPE_CHANGED', '/', '/']],
  [
    'the unit of a time that may be null',
    record('R', { at: ['null', timeIn('micros')] }),
    record('R', { at: ['null', timeIn('millis')] }),
    ['LOGICAL_TYPE_CHANGED', '/fields/0/type/1', '/fields/0/type/1'],
  ],
  [
    'a branch of the same type with another meaning',
    ['long', { type: 'int', logicalType: 'date' }],
    'int',
    ['LOGICAL_TYPE_CHANGED', '/1', '/'],
  ],
  [
    'an alias for a field that the writer has beside the name',
    record('R', { x: field('int', { aliases: ['y'] }) }),
    record('R', { y: 'int', x: 'int' }),
    ['AMBIGUOUS_FIELD', '/fields/0', '/fields/1'],
  ],
  [
    'the same in a branch: Java throws, so no branch reads it',
    ['null', record('R', { x: field('int', { aliases: ['y'] }) })],
    ['null', record('R', { y: 'int', x: 'int' })],
    ['MISSING_UNION_BRANCH', '/', '/1'],
  ],
  [
    'two fields from one',
    record('R', { x: field('int', { aliases: ['y'] }), y: 'int' }),
    record('R', { a: 'int', y: 'int' }),
    ['WRITER_FIELD_READ_TWICE', '/fields/1', '/fields/1'],
  ],
  [
    'one alias on two fields',
    record('R', { x: field('int', { aliases: ['o'] }), y: field('int', { aliases: ['o'], default: 1 }) }),
    record('R', { x: 'int', y: 'int' }),
    ['DUPLICATE_ALIAS', '/fields/1/aliases', '/'],
  ],
  [
    "a type's own name as an alias, and then another's",
    record('n.R', { f: fixedOf(1) }, { aliases: ['R', 'F'] }),
    record('n.R', { f: fixedOf(1) }),
    ['DUPLICATE_ALIAS', '/aliases', '/'],
  ],
  ['an alias twice', record('R', {}, { aliases: ['S', 'S'] }), record('R', {}), ['DUPLICATE_ALIAS', '/aliases', '/']],
  [
    "a field's own name as an alias",
    record('R', { x: field('int', { aliases: ['x'] }) }),
    record('R', { x: 'int' }),
    ['DUPLICATE_ALIAS', '/fields/0/aliases', '/'],
  ],
  [
    'the alias of a type is another type',
    [record('n.S', {}, { aliases: ['R'] }), record('n.R', {})],
    record('n.R', {}),
    ['DUPLICATE_ALIAS', '/0/aliases', '/'],
  ],
  [
    'two branches of the same unqualified name and neither of the full one',
    [record('a.R', {}), record('b.R', {})],
    record('c.R', {}),
    ['AMBIGUOUS_UNION_BRANCH', '/', '/'],
  ],
  [
    'the branch of the full name cannot read it, another could',
    [record('a.R', { x: 'int' }), record('b.R', {})],
    record('a.R', {}),
    ['AMBIGUOUS_UNION_BRANCH', '/', '/'],
  ],
]

test.each(incompatible)('incompatible: %s', (_title, reader, writer, ...expected) => {
  expect(rows(reader, writer)).toEqual(expected)
})

describe('messages', () => {
  test('name the place for people, what is wrong and what to do', () => {
    const reader = record('shop.Order', { lines: arrayOf(record('Line', { sku: 'string', quantity: 'int' })) })
    const writer = record('shop.Order', { lines: arrayOf(record('Line', { code: 'string', quantity: 'long' })) })
    expect(messages(reader, writer)).toEqual([
      expect.stringMatching(
        /^record shop\.Order\.lines\[\]: the reader's field sku .* Give the field a "default"; .*alias \(unread: code\)$/,
      ),
      expect.stringMatching(/^record shop\.Order\.lines\[\]\.quantity: written as long and read as int.* default/),
    ])
  })

  test('say why the branch of that name cannot read, with the path to it', () => {
    const [message] = messages(
      record('R', { e: ['null', record('S', { kind: ['null', enumOf(['A'])] })] }),
      record('R', { e: ['null', record('S', { kind: ['null', enumOf(['A', 'B'])] })] }),
    )
    expect(message).toContain(
      "record R.e: no branch of the reader's union (null, record S) can read the written record S",
    )
    expect(message).toContain('at /fields/0/type/1/fields/0/type/1/symbols: record R.e.kind: the writer can write B')
  })

  test('are bounded', () => {
    const symbols = Array.from({ length: 5000 }, (_, at) => `SYMBOL_${at}`)
    const [message = ''] = messages(enumOf(['A']), enumOf(symbols))
    expect(message).toContain('SYMBOL_9 and 4990 more')
    const fields = Object.fromEntries(symbols.map((name) => [name, 'int']))
    const [branch = ''] = messages(['null', record('R', fields)], ['null', record('R', {})])
    expect(branch).toContain('and 4997 more')
    expect(branch.length).toBeLessThan(2000)
  })
})

describe('recursive schemas', () => {
  test('a pair that is used before it fails does not pass for that reason', () => {
    // Java's checker remembers that n1.T can be read, which it took for granted while n1.W was undecided
    const inner = record('n1.T', { r: ['null', 'n1.W'] })
    const reader = [record('n1.W', { t: inner, y: 'int' }), record('n2.W', { t: 'n1.T' })]
    const writer = record('W', { t: record('T', { r: ['null', 'W'] }) })
    expect(rows(reader, writer)).toEqual([['MISSING_UNION_BRANCH', '/', '/']])
  })

  test('a failure inside of itself is told once, where it is', () => {
    const reader = record('R', { next: ['null', 'R'], all: arrayOf(['null', 'R']), x: 'int' })
    const writer = record('R', { next: ['null', 'R'], all: arrayOf(['null', 'R']) })
    expect(rows(reader, writer)).toEqual([['READER_FIELD_MISSING_DEFAULT_VALUE', '/fields/2', '/fields']])
  })

  test('nor is it told again of the branches that lead back to it', () => {
    const around = (branch: string) =>
      arrayOf(record('C', { c: [record('B', { c: 'C' }), branch], d: field(['null', 'C'], { default: null }) }))
    expect(rows(around('float'), around('boolean'))).toEqual([
      ['MISSING_UNION_BRANCH', '/items/fields/0/type', '/items/fields/0/type/1'],
    ])
  })

  test('a record that is only itself ends', () => {
    expect(rows(record('R', { r: 'R' }), record('R', { r: 'R' }))).toEqual([])
  })

  /** A way through 20,000 types that begins at the last one: what defines them is not in what both know. */
  const chain = (unread: string, last: string, link: (name: string) => unknown) => {
    const types = Array.from({ length: 20_000 }, (_, at) =>
      record(`T${at}`, { x: at === 0 ? last : link(`T${at - 1}`) }),
    )
    return record('Root', { [unread]: field(['null', ...types], { default: null }), top: 'T19999' })
  }

  test('20,000 types in a row do not exhaust the stack', () => {
    const [[type, path] = [], ...others] = rows(chain('a', 'int', String), chain('b', 'string', String))
    expect([type, path?.length, others]).toEqual(['TYPE_MISMATCH', 20_001 * '/fields/0/type'.length, []])
  })

  test('nor do unions in them take long to explain', () => {
    const optional = (name: string) => ['null', name]
    const found = incompatibilities(chain('a', 'int', optional), chain('b', 'string', optional))
    expect(found.map(({ type, readerPath }) => [type, readerPath])).toEqual([
      ['MISSING_UNION_BRANCH', '/fields/1/type/fields/0/type'],
    ])
    expect(found[0]?.message).toContain('a type far inside of it cannot be read')
  })
})

/** What is no schema: where, and a part of the message. */
const malformed: [json: unknown, path: string, message: string][] = [
  [undefined, '/', 'a schema is'],
  [null, '/', 'a schema is'],
  [7, '/', 'a schema is'],
  ['', '/', 'not defined'],
  ['strnig', '/', 'the type strnig is not defined'],
  [{}, '/', 'no type'],
  [{ type: { type: 'int' } }, '/', 'no type'],
  [{ type: 'constructor' }, '/', 'not defined'],
  [arrayOf(undefined), '/items', 'a schema is'],
  [{ type: 'map' }, '/values', 'a schema is'],
  [{ type: 'record', fields: [] }, '/', 'no name'],
  [{ type: 'record', name: 'R' }, '/', 'no list of fields'],
  [{ type: 'record', name: 5, fields: [] }, '/name', 'is no name'],
  [record('1R', {}), '/name', '"1R" is no name'],
  [record('a..R', {}), '/name', '"" is no name'],
  [record('int', {}), '/name', 'taken by Avro'],
  [record('R', {}, { namespace: 5 }), '/namespace', 'a namespace is text'],
  [record('R', {}, { namespace: 'a-b' }), '/name', '"a-b" is no name'],
  [record('R', {}, { aliases: 'S' }), '/aliases', 'list of names'],
  [record('R', {}, { aliases: ['S', 'a-b'] }), '/aliases/1', '"a-b" is no name'],
  [{ ...record('R', {}), fields: [5] }, '/fields/0', 'a field is an object'],
  [{ ...record('R', {}), fields: [{ type: 'int' }] }, '/fields/0', 'no name'],
  [{ ...record('R', {}), fields: [{ name: 'x' }] }, '/fields/0', 'no type'],
  [{ ...record('R', {}), fields: [{ name: 'a.b', type: 'int' }] }, '/fields/0/name', 'is no name'],
  [record('R', { x: field('int', { aliases: ['a.b'] }) }), '/fields/0/aliases/0', 'is no name'],
  [record('R', { x: field('int', { order: 'up' }) }), '/fields/0/order', 'ascending'],
  [
    {
      ...record('R', {}),
      fields: [
        { name: 'x', type: 'int' },
        { name: 'x', type: 'int' },
      ],
    },
    '/fields/1',
    'the field x is there twice',
  ],
  [record('R', { a: fixedOf(1), b: fixedOf(1) }), '/fields/1/type', 'F is defined twice'],
  [record('R', { a: 'F', b: fixedOf(1) }), '/fields/0/type', 'F is not defined before'],
  [record('a.R', { a: { ...fixedOf(1), namespace: 'b' }, b: 'F' }), '/fields/1/type', 'a.F is not defined'],
  [{ type: 'enum', name: 'E' }, '/', 'no list of symbols'],
  [enumOf(['A', 'B', 'A']), '/symbols/2', 'the symbol A is there twice'],
  [enumOf(['A', 'b c']), '/symbols/1', 'is no name'],
  [{ ...enumOf([]), symbols: [1] }, '/symbols', 'list of names'],
  [enumOf(['A'], { default: 'B' }), '/default', '"B" of the enum E is none'],
  [enumOf(['A'], { default: null }), '/default', 'null of the enum E is none'],
  [{ type: 'fixed', name: 'F' }, '/', 'no size'],
  [fixedOf(-1), '/', 'no size'],
  [fixedOf(1.5), '/', 'no size'],
  [fixedOf(2 ** 31), '/', 'no size'],
  [['int', ['null']], '/1', 'directly in a union'],
  [['int', 'null', { type: 'int', logicalType: 'date' }], '/2', 'the union has int twice'],
  [[arrayOf('int'), arrayOf('long')], '/1', 'array twice'],
  [[fixedOf(1), 'F'], '/1', 'F twice'],
  [record('R', { x: field('int', { default: '1' }) }), '/fields/0/default', '"1" does not fit the type int'],
  [record('R', { x: field('int', { default: 2 ** 31 }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field('int', { default: 0.5 }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field('long', { default: 2 ** 63 }) }), '/fields/0/default', '9223372036854776000 does not fit'],
  [record('R', { x: field('long', { default: 1e19 }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field('string', { default: null }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field(['null', 'int'], { default: 'x' }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field('bytes', { default: 'Ā' }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field(fixedOf(2), { default: 'abc' }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field(enumOf(['A']), { default: 'B' }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field(arrayOf('int'), { default: [1, 'x'] }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field(mapOf('int'), { default: { a: null } }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field(record('S', { y: 'int' }), { default: {} }) }), '/fields/0/default', 'does not fit'],
  [record('R', { x: field('R', { default: {} }) }), '/fields/0/default', 'does not fit'],
]

describe('what is no schema', () => {
  test.each(malformed)('%j', (json, path, message) => {
    expect(errorOf(() => incompatibilities(json, 'int'))).toMatchObject({ name: 'SchemaError', path: `reader#${path}` })
    expect(errorOf(() => incompatibilities('int', json))).toMatchObject({ path: `writer#${path}` })
    expect(errorOf(() => incompatibilities(json, 'int')).message).toContain(message)
  })

  test.each([
    ['arrays', arrayOf],
    ['maps', mapOf],
    ['unions', (inner: unknown) => arrayOf([inner])],
  ])('100,000 %s in each other end in a message', (_title, around) => {
    let schema: unknown = 'int'
    for (let depth = 0; depth < 100_000; depth++) schema = around(schema)
    const { message } = errorOf(() => incompatibilities(schema, schema))
    expect(message).toContain('nested deeper than 500')
    expect(message.length).toBeLessThan(200)
  })

  test('400 steps are no problem', () => {
    let schema: unknown = 'int'
    for (let depth = 0; depth < 400; depth++) schema = arrayOf(schema)
    expect(incompatibilities(schema, schema)).toEqual([])
  })

  test('a default nested without end is refused', () => {
    let value: unknown = null
    for (let depth = 0; depth < 100_000; depth++) value = { r: value }
    const schema = record('R', { r: field(['null', 'R'], { default: value }) })
    expect(errorOf(() => incompatibilities(schema, schema)).message).toContain('nested deeper than 500 levels')
  })

  /** Verdicts of Avro's Java implementation (1.12.0) on the text of a default. */
  const texts: [type: string, good: string[], bad: string[]][] = [
    ['"int"', ['1', '-0', '2147483647'], ['1.0', '1e3', '1E3', '0e0', '-0.0', '2147483648', '1e999']],
    [
      '"long"',
      ['9223372036854775807', '-9223372036854775808', '9007199254740993'],
      ['9223372036854775808', '-9223372036854775809', '1.0', '1e18', '1e999'],
    ],
    ['"float"', ['1', '1e300', '1e999', '"NaN"'], ['null', 'true', '[]']],
    ['"double"', ['1', '1.0', '-1e999', '123456789012345678901234567890', '9223372036854775808'], ['null', '{}']],
    ['{"type":"array","items":"int"}', ['[1,2]'], ['[1,1.0]', '1.0', '9007199254740993']],
    ['{"type":"map","values":"string"}', ['{"a":"b"}'], ['1.0', '1e999', '9007199254740993']],
    ['{"type":"map","values":"long"}', ['{"a":1}'], ['{"a":9223372036854775808}', '{"a":1.0}']],
    ['["null","long"]', ['null', '9223372036854775807'], ['9223372036854775808', '1.0']],
    ['["int","double"]', ['1.0', '1e999'], ['"a"']],
    ['{"type":"record","name":"S","fields":[{"name":"a","type":"int"}]}', ['{"a":1}'], ['{"a":1.0}', '{}', '1.0']],
    ['{"type":"int","logicalType":"date"}', ['1'], ['1.0']],
    ['{"type":"fixed","name":"F","size":2.0}', [], ['"ab"']],
  ]
  test.each(
    texts.flatMap(([type, good, bad]) => [
      ...good.map((text) => [type, text, true] as const),
      ...bad.map((text) => [type, text, false] as const),
    ]),
  )('%s with the default %s, read from its text: %p', (type, text, fits) => {
    const json = readJson(`{"type":"record","name":"R","fields":[{"name":"x","type":${type},"default":${text}}]}`)
    if (fits) expect(incompatibilities(json, json)).toEqual([])
    else expect(errorOf(() => incompatibilities(json, json)).path).toMatch(/^reader#\/fields\/0\/(default|type)$/)
  })

  test('a decimal whose precision is no integer in Avro is none', () => {
    const [four, real] = ['4', '4.0'].map((text) =>
      readJson(`{"type":"bytes","logicalType":"decimal","precision":${text}}`),
    )
    expect(rows(four, real)).toEqual([['LOGICAL_TYPE_CHANGED', '/', '/']])
    expect(rows('bytes', real)).toEqual([])
  })

  test('a default that asks for more looks than it has letters is refused', () => {
    const fields = Object.fromEntries(Array.from({ length: 500 }, (_, at) => [`f${at}`, field('int', { default: 0 })]))
    const schema = record('R', {
      a: field(arrayOf(record('S', fields)), { default: Array.from({ length: 8000 }, () => ({})) }),
    })
    expect(errorOf(() => incompatibilities(schema, 'int')).message).toContain('more than 100000 parts')
  })

  test('names are resolved as the specification says', () => {
    const { named } = readAvro(
      record('a.b.R', {
        s: record('S', {
          t: record('c.T', { u: fixedOf(1, { namespace: '' }), s: 'a.b.S' }, { aliases: ['V', 'd.W'] }),
        }),
        again: 'S',
      }),
      'reader',
    )
    expect(named.map(({ name, aliases }) => [name, ...aliases])).toEqual([
      ['a.b.R'],
      ['a.b.S'],
      ['c.T', 'c.V', 'd.W'],
      ['F'],
    ])
  })
})

function errorOf(act: () => unknown): SchemaError {
  try {
    act()
  } catch (error) {
    if (error instanceof SchemaError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

/**
 * avsc reads what a pair is about, with the settings of the codec, except that
 * - unions are wrapped: the codec has none but ["null", X], and avsc cannot tell apart the branches of many others;
 * - namespaces are ignored, as Java's checker does and avsc only does when told so.
 */
const settings = () => {
  const codec = compile(parseSchema(record('T', { l: 'long', u: uuid, t: timeIn('millis') }))) as avsc.types.RecordType
  const [long, uuidType, time] = codec.fields.map(({ type }) => type)
  const logicalTypes = { uuid: uuidType?.constructor, 'timestamp-millis': time?.constructor }
  const options = {
    registry: { long },
    logicalTypes,
    assertLogicalTypes: true,
    wrapUnions: true,
    omitRecordMethods: true,
  }
  return options as unknown as avsc.ForSchemaOptions
}
const uuid = { type: 'string', logicalType: 'uuid' }

/** avsc's types; undefined for what it refuses: empty unions, defaults of a union's second branch or of no UUID. */
function typesOf(...schemas: unknown[]): avsc.Type[] | undefined {
  try {
    return schemas.map((schema) => avsc.Type.forSchema(schema as avsc.Schema, settings()))
  } catch {
    return undefined
  }
}

/**
 * avsc keeps the resolver of two records that it failed to make, and takes it for good when a later branch of a union
 * asks for the same two (one of 45,000 pairs of schemas here). So what a failed try has left is taken out again.
 */
const { createResolver } = avsc.Type.prototype
avsc.Type.prototype.createResolver = function (writer, options: object = {}) {
  const shared: { registry?: Record<string, unknown> } = options
  shared.registry ??= {}
  const known = new Set(Object.keys(shared.registry))
  try {
    return createResolver.call(this, writer, options)
  } catch (error) {
    for (const pair of Object.keys(shared.registry)) if (!known.has(pair)) delete shared.registry[pair]
    throw error
  }
}

/** How avsc reads: undefined when it read all, or the error. */
function failure(reader: avsc.Type, writer: avsc.Type, messages: Buffer[], ignoreNamespaces: boolean): unknown {
  try {
    const resolver = reader.createResolver(writer, { ignoreNamespaces } as object)
    for (const message of messages) reader.fromBuffer(message, resolver)
    return undefined
  } catch (error) {
    return error
  }
}

/** All that is random comes from a tape, which fast-check can shorten and lower; then a schema gets simpler. */
const tape = fc.array(fc.nat(0xffff), { minLength: 300, maxLength: 300, size: 'max' })

function diceOf(rolls: number[]): Dice {
  let at = 0
  return (below) => (rolls[at++] ?? 0) % below
}

/** A writer and a reader, mostly evolved from each other, or undefined if one of them is no schema any more. */
function pairOf(dice: Dice): { reader: unknown; writer: unknown } | undefined {
  const one = anySchema(dice)
  const other = dice(4) > 0 ? evolved(one, dice) : anySchema(dice)
  const pair = dice(2) === 0 ? { reader: one, writer: other } : { reader: other, writer: one }
  return isSchema(pair.reader) && isSchema(pair.writer) ? pair : undefined
}

function isSchema(json: unknown): boolean {
  try {
    readAvro(json, '')
    return true
  } catch {
    return false
  }
}

const messagesOf = (writer: unknown, dice: Dice, count: number) =>
  Array.from({ length: count }, () => anyBytes(writer, dice)).filter((bytes) => bytes !== undefined)

describe('against avsc', () => {
  test('what is compatible is read, and what is not has a message that shows it', () => {
    let [reads, refuses] = [0, 0]
    fc.assert(
      fc.property(tape, fc.nat(), (rolls, seed) => {
        const dice = diceOf(rolls)
        const pair = pairOf(dice)
        if (!pair) return
        const [reader, writer] = typesOf(pair.reader, pair.writer) ?? []
        const messages = messagesOf(pair.writer, seeded(seed), 40)
        if (!reader || !writer || messages.length === 0) return
        const found = incompatibilities(pair.reader, pair.writer)
        const known: string[] = [...javaRules, ...Object.keys(strictRules)]
        for (const { type } of found) expect(known).toContain(type)
        const problem = failure(reader, writer, messages, true)
        if (found.length === 0) {
          reads += 1
          expect(problem).toBeUndefined()
        } else if (found.some(({ type }) => !Object.hasOwn(strictRules, type))) {
          refuses += 1
          // ignoring namespaces, avsc ignores those of aliases too, which Java does not
          expect(problem ?? failure(reader, writer, messages, false)).toBeDefined()
        }
      }),
      { numRuns: 3000 },
    )
    expect(reads).toBeGreaterThan(300)
    expect(refuses).toBeGreaterThan(150)
  })

  test('schemas of the shop: what is compatible is read by the codec as it is', () => {
    let reads = 0
    fc.assert(
      fc.property(tape, fc.nat(), (rolls, seed) => {
        const pair = pairOf(diceOf(rolls))
        const [reader, writer] = parsed(pair?.reader, pair?.writer) ?? []
        if (!pair || !reader || !writer) return
        if (incompatibilities(pair.reader, pair.writer).length > 0) return
        const read = readingOf(writer, reader)
        for (const message of messagesOf(pair.writer, seeded(seed), 10)) read(message, 0)
        reads += 1
      }),
      { numRuns: 3000 },
    )
    expect(reads).toBeGreaterThan(20)
  })

  test('every schema reads itself, unless its aliases contradict each other', () => {
    fc.assert(
      fc.property(tape, (rolls) => {
        const schema = anySchema(diceOf(rolls))
        if (!isSchema(schema)) return
        const found = incompatibilities(schema, structuredClone(schema)).map(({ type }) => type)
        expect(JSON.stringify(schema).includes('aliases') ? [] : found).toEqual([])
      }),
      { numRuns: 1000 },
    )
  })
})

const parsed = (...schemas: unknown[]): RecordSchema[] | undefined => {
  try {
    const made = schemas.map(parseSchema)
    made.forEach(compile) // refuses defaults that are no UUID
    return made
  } catch {
    return undefined
  }
}

/** As good as random, and the same again for the same seed (mulberry32). */
function seeded(seed: number): Dice {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

test('the README explains every rule beyond Java', () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
  for (const rule of Object.keys(strictRules)) expect(readme).toContain(`\`${rule}\``)
})
