import { expect, test } from '@jest/globals'
import { createCodec } from './codec.ts'
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
