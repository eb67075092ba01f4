import { expect, test } from '@jest/globals'
import { createCodec } from '../codec/codec.ts'
import { readJson } from './json.ts'
import { normalise, parseSchema, SchemaError } from './schema.ts'

const thing = (...fields: unknown[]) => ({ type: 'record', name: 'test.Thing', fields })
const withField = (type: unknown, more = {}) => thing({ name: 'x', type, ...more })

test.each<[string, unknown, string]>([
  [
    'a logical type that is not registered',
    withField({ type: 'int', logicalType: 'time-millis' }),
    'logical type time-millis',
  ],
  ['a day that is no int', withField({ type: 'long', logicalType: 'date' }), 'logical type date is of int'],
  [
    'a decimal that is no bytes',
    withField({ type: 'string', logicalType: 'decimal', precision: 5, scale: 2 }),
    'of bytes',
  ],
  ['a decimal without precision', withField({ type: 'bytes', logicalType: 'decimal', scale: 2 }), 'precision is'],
  [
    'a decimal of too many digits',
    withField({ type: 'bytes', logicalType: 'decimal', precision: 101, scale: 2 }),
    'precision is',
  ],
  ['a decimal without scale', withField({ type: 'bytes', logicalType: 'decimal', precision: 5 }), 'scale is given'],
  [
    'a decimal with more scale than precision',
    withField({ type: 'bytes', logicalType: 'decimal', precision: 5, scale: 6 }),
    'scale is given',
  ],
  ['a logical type named like a method', withField({ type: 'int', logicalType: 'toString' }), 'logical type toString'],
  ['a logical type of another base', withField({ type: 'int', logicalType: 'timestamp-millis' }), 'is of long'],
  ['a logical type as a name', withField('uuid'), 'type uuid is not defined'],
  ['a union without null', withField(['int', 'string']), '["null", X]'],
  ['a union of three', withField(['null', 'int', 'string']), '["null", X]'],
  ['a union with null behind', withField(['int', 'null']), '["null", X]'],
  ['a union in a union', withField(['null', ['null', 'int']]), '["null", X]'],
  ['null alone', withField('null'), 'null is allowed only'],
  ['an array of null', withField({ type: 'array', items: 'null' }), 'null is allowed only'],
  ['a record without fields', withField({ type: 'record', name: 'Empty', fields: [] }), 'a record has fields'],
  ['a fixed of no bytes', withField({ type: 'fixed', name: 'F', size: 0 }), 'size is 1 or more'],
  ['a record in itself', withField(['null', 'Thing']), 'contains itself'],
  ['an unknown type', withField('money'), 'type money is not defined'],
  ['a misspelt attribute', withField('int', { defualt: 1 }), 'attribute defualt'],
  ['a field of every object', thing({ name: 'constructor', type: 'int' }), 'taken by JavaScript'],
  ['a symbol of every object', withField({ type: 'enum', name: 'E', symbols: ['valueOf'] }), 'taken by JavaScript'],
  ['a name with a hyphen', thing({ name: 'a-b', type: 'int' }), 'is no name'],
  ['a field twice', thing({ name: 'x', type: 'int' }, { name: 'x', type: 'int' }), 'x is there twice'],
  [
    'a type twice',
    thing(
      { name: 'x', type: { type: 'fixed', name: 'F', size: 1 } },
      { name: 'y', type: { type: 'fixed', name: 'F', size: 1 } },
    ),
    'defined twice',
  ],
  ['no record', 'int', 'an event is a record'],
  ['nothing', undefined, 'a type is'],
])('%s is refused', (_, json, words) => {
  const act = () => parseSchema(json)
  expect(act).toThrow(SchemaError)
  expect(act).toThrow(words)
})

test('types nested too deep are refused, however deep', () => {
  let type: unknown = 'int'
  for (let depth = 0; depth < 10_000; depth++) type = { type: 'array', items: type }
  expect(() => parseSchema(withField(type))).toThrow('nested deeper than 32')
})

test('a default that does not fit is refused when a codec is made', () => {
  const lock = (json: unknown) => [{ id: 1, version: 1, subject: 'test.Thing', fingerprint: '', schema: json }]
  expect(() => createCodec(lock(withField('long', { default: 1.5 })))).toThrow('incompatible field default')
  expect(() => createCodec(lock(withField('long', { default: 2 ** 60 })))).toThrow('incompatible field default')
  expect(() => createCodec(lock(withField('int', { default: 'x' })))).toThrow('incompatible field default')
  expect(() => createCodec(lock(withField(['null', 'int'], { default: 1 })))).toThrow('incompatible field default')
  expect(() => createCodec(lock(withField('long', { default: 1 })))).not.toThrow()
})

/** A type, and defaults as JSON text: those that fit and those that do not. */
const defaults: [type: unknown, good: string[], bad: string[]][] = [
  ['boolean', ['true'], ['1', '"true"', 'null']],
  ['int', ['0', '-0', '2147483647', '-2147483648'], ['1.0', '1e3', '0e0', '-0.0', '2147483648', '0.5', 'true', '"1"']],
  [
    'long',
    ['1', '9007199254740991', '-9007199254740991'],
    ['1.0', '1e3', '9007199254740993', '9223372036854775808', '-9223372036854775809', '1e999'],
  ],
  ['float', ['1', '1.0', '1e3', '0.1', '3.4028235e38'], ['1e39', '1e300', '1e999', '1e-60', '-0.0', '"NaN"', 'null']],
  ['double', ['1', '1.0', '1e300', '12345678901234567890'], ['1e999', '-1e999', '-0', '"1"', '"Infinity"']],
  ['string', ['""', '"Zoë"'], ['1', 'null', '"\\ud800"']],
  ['bytes', ['""', '"\\u00ff"'], ['"\\u0100"', '1', '[1]']],
  [{ type: 'string', logicalType: 'uuid' }, ['"6f1c2b52-6ef5-4a3e-8a39-0d3c1d9b4c11"'], ['"x"', '""']],
  [{ type: 'int', logicalType: 'date' }, ['0', '19000'], ['1.0', '2932897', '-719163', '"2024-01-01"']],
  [{ type: 'long', logicalType: 'timestamp-millis' }, ['0', '8640000000000000'], ['1.0', '1e3', '8640000000000001']],
  [
    { type: 'bytes', logicalType: 'decimal', precision: 4, scale: 2 },
    ['"\\u0064"', '"\\u0000\\u0064"'],
    ['""', '"\\u0027\\u0010"', '1', '"12.50"', '"\\u0100"'],
  ],
  [{ type: 'fixed', name: 'F', size: 2 }, ['"ab"', '"\\u00ff\\u0000"'], ['"a"', '"abc"', '"a\\u0100"', '2']],
  [{ type: 'enum', name: 'E', symbols: ['A', 'B'] }, ['"B"'], ['"C"', '0', '["A"]']],
  [{ type: 'array', items: 'int' }, ['[]', '[1,2]'], ['[1.0]', '[null]', '{}', '1.0', 'null']],
  [{ type: 'map', values: 'long' }, ['{}', '{"a":1}'], ['{"a":1e3}', '[]', '1.0', '{"__proto__":1}', '{"\\ud800":1}']],
  [['null', 'int'], ['null'], ['1', '1.0']],
  [{ type: 'array', items: { type: 'map', values: ['null', 'int'] } }, ['[{"a":null}]'], ['[{"a":1}]', '[[]]']],
  [
    {
      type: 'record',
      name: 'R',
      fields: [
        { name: 'a', type: 'int' },
        { name: 'b', type: 'float', default: 1 },
      ],
    },
    ['{"a":1}', '{"a":1,"b":1.5}'],
    ['{}', '{"a":1.0}', '{"a":1,"b":1e39}', '{"a":1,"c":2}', '[]'],
  ],
]

test.each(
  defaults.flatMap(([type, good, bad]) => [
    ...good.map((text) => [JSON.stringify(type), text, true] as const),
    ...bad.map((text) => [JSON.stringify(type), text, false] as const),
  ]),
)('%s with the default %s: %p', (type, text, fits) => {
  const json = readJson(
    `{"type":"record","name":"test.Thing","fields":[{"name":"x","type":${type},"default":${text}}]}`,
  )
  const lock = () => [
    { id: 1, version: 1, subject: 'test.Thing', fingerprint: '', schema: normalise(parseSchema(json)) },
  ]
  if (!fits) {
    const refused = { name: 'SchemaError', path: 'test.Thing.x', message: expect.stringContaining('field default') }
    expect(lock).toThrow(expect.objectContaining(refused))
    return
  }
  // what is left out is written, and the lock, which is a file of plain JSON, keeps it
  const rows = JSON.parse(JSON.stringify(lock()))
  const codec = createCodec<{ Thing: Record<string, unknown> }>(rows)
  const { data } = codec.decode(codec.encode('Thing', {}))
  expect(codec.decode(codec.encode('Thing', data)).data).toEqual(data)
})

test('a default inside of another field is told with its text, which is cut', () => {
  const long = `1${'0'.repeat(500)}.0`
  const json = readJson(`{"type":"record","name":"test.Thing","fields":[{"name":"x","type":"int","default":${long}}]}`)
  expect(() => parseSchema(json)).toThrow(
    /^test\.Thing\.x: incompatible field default: 10{56}\.\.\. does not fit the type int/,
  )
})

test.each([
  '{"type":"fixed","name":"F","size":2.0}',
  '{"type":"bytes","logicalType":"decimal","precision":4.0,"scale":0}',
])('%s has a number that is no integer in Avro', (type) => {
  const json = readJson(`{"type":"record","name":"test.Thing","fields":[{"name":"x","type":${type}}]}`)
  expect(() => parseSchema(json)).toThrow(SchemaError)
})

test('the normalised form is the same for the same meaning, and is its own normalised form', () => {
  const loose = {
    fields: [
      {
        type: {
          type: 'record',
          namespace: 'shop',
          name: 'Money',
          doc: 'd',
          fields: [{ type: { type: 'long' }, name: 'n' }],
        },
        doc: 'd',
        name: 'a',
      },
      { default: null, type: ['null', 'shop.Money'], name: 'b' },
    ],
    doc: 'd',
    name: 'Thing',
    namespace: 'test',
    type: 'record',
  }
  const strict = {
    type: 'record',
    name: 'test.Thing',
    fields: [
      { name: 'a', type: { type: 'record', name: 'shop.Money', fields: [{ name: 'n', type: 'long' }] } },
      { name: 'b', type: ['null', 'shop.Money'], default: null },
    ],
  }
  expect(JSON.stringify(normalise(parseSchema(loose)))).toBe(JSON.stringify(strict))
  expect(JSON.stringify(normalise(parseSchema(strict)))).toBe(JSON.stringify(strict))
})
