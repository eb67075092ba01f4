import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { registry } from '../catalogue/registry.ts'
import { decode, encode } from '../index.ts'
import { parseSchema, shortName } from '../schema/schema.ts'
import { arbitraryEvent, arbitraryOf, writtenTime } from '../testing/arbitrary.ts'
import { compile, fromJson, JsonError, jsonOf, maxJsonLength, toJson } from './json.ts'

const field = (name: string, type: unknown, more = {}) => ({ name, type, ...more })
const decimal = { type: 'bytes', logicalType: 'decimal', precision: 6, scale: 2 }
const all = parseSchema({
  type: 'record',
  name: 'test.All',
  fields: [
    field('yes', 'boolean'),
    field('int', 'int'),
    field('long', 'long'),
    field('float', 'float'),
    field('double', 'double'),
    field('text', 'string'),
    field('bytes', 'bytes'),
    field('id', { type: 'string', logicalType: 'uuid' }),
    field('day', { type: 'int', logicalType: 'date' }),
    field('at', { type: 'long', logicalType: 'timestamp-millis' }),
    field('price', decimal),
    field('hash', { type: 'fixed', name: 'Hash', size: 2 }),
    field('color', { type: 'enum', name: 'Color', symbols: ['red', 'green'], default: 'red' }),
    field('prices', { type: 'map', values: 'long' }),
    field('lines', { type: 'array', items: { type: 'record', name: 'Line', fields: [field('quantity', 'int')] } }),
    field('note', ['null', 'bytes']),
  ],
})
const json = compile(all)

const value = {
  yes: true,
  int: -1,
  long: 2n ** 63n - 1n,
  float: Number.NaN,
  double: -Infinity,
  text: 'Zoë',
  bytes: Buffer.from([0, 255]),
  id: '0199a2b4-6c00-7000-8000-120559ff820e',
  day: '2026-11-30',
  at: new Date('2026-11-30T10:00:00Z'),
  price: '-12.50',
  hash: Buffer.from([1, 2]),
  color: 'green',
  prices: { mug: 1450n },
  lines: [{ quantity: 2 }],
  note: null,
}
const text =
  '{"yes":true,"int":-1,"long":"9223372036854775807","float":"NaN","double":"-Infinity","text":"Zoë","bytes":"AP8=",' +
  '"id":"0199a2b4-6c00-7000-8000-120559ff820e","day":"2026-11-30","at":"2026-11-30T10:00:00.000Z","price":"-12.50",' +
  '"hash":"AQI=","color":"green","prices":{"mug":1450},"lines":[{"quantity":2}],"note":null}'

/** Minus zero is zero in the text that `JSON.stringify` writes. */
const withoutMinusZero = (given: unknown): unknown =>
  typeof given === 'object' && given !== null && Object.getPrototypeOf(given) === Object.prototype
    ? Object.fromEntries(Object.entries(given).map(([key, held]) => [key, Object.is(held, -0) ? 0 : held]))
    : given

test('every kind of value has its form', () => {
  expect(JSON.stringify(json.to(value))).toBe(text)
  expect(json.from(text)).toEqual(value)
})

test('what is written is read again', () => {
  fc.assert(
    fc.property(arbitraryOf(all, writtenTime), (given) => {
      expect(json.from(JSON.stringify(json.to(given)))).toEqual(withoutMinusZero(given))
    }),
  )
})

describe.each([...new Set(registry.map(({ subject }) => shortName(subject) as 'OrderPlaced'))])('%s', (event) => {
  test('is the same after it was JSON, and can be encoded', () => {
    fc.assert(
      fc.property(arbitraryEvent(event, writtenTime), (data) => {
        const read = fromJson(event, jsonOf(event, data))
        expect(read).toEqual(data)
        expect(decode(encode(event, read)).data).toEqual(data)
      }),
      { numRuns: 50 },
    )
  })
})

test.each([
  [2n ** 53n - 1n, '9007199254740991'],
  [2n ** 53n, '"9007199254740992"'],
  [-(2n ** 53n) + 1n, '-9007199254740991'],
  [-(2n ** 53n), '"-9007199254740992"'],
])('a long %p is %s', (long, written) => {
  expect(JSON.stringify(json.to({ ...value, long }))).toContain(`"long":${written},`)
})

test.each(['-000001-12-31T23:59:59.999Z', '0000-12-31T23:59:59.999Z', '+010000-01-01T00:00:00.000Z'])(
  '%s has no form in RFC 3339',
  (time) => {
    expect(() => json.to({ ...value, at: new Date(time) })).toThrow('All: has a time outside of the years 1 to 9999')
  },
)

/** The text of `value` with another value for one field. */
const withField = (name: string, written: string) => {
  const parts = Object.entries(JSON.parse(text)).map(([key, held]) => {
    return `${JSON.stringify(key)}:${key === name ? written : JSON.stringify(held)}`
  })
  return `{${parts.join(',')}}`
}

const readField = (name: string, written: string) =>
  (json.from(withField(name, written)) as Record<string, unknown>)[name]

test.each<[field: string, written: string, read: unknown]>([
  ['int', '2147483647', 2147483647],
  ['int', '-0', 0],
  ['long', '9007199254740993', 9007199254740993n],
  ['long', '9223372036854775807', 9223372036854775807n],
  ['long', '"-9223372036854775808"', -(2n ** 63n)],
  ['long', '"0"', 0n],
  ['double', '1e3', 1000],
  ['double', '1.50', 1.5],
  ['double', '9007199254740993', 9007199254740992],
  ['float', '"Infinity"', Infinity],
  ['bytes', '""', Buffer.alloc(0)],
  ['note', '"AP8="', Buffer.from([0, 255])],
  ['price', '"0.00"', '0.00'],
  ['id', '"0199A2B4-6C00-7000-8000-120559FF820E"', '0199A2B4-6C00-7000-8000-120559FF820E'],
  ['at', '"2026-11-30T10:00:00Z"', new Date('2026-11-30T10:00:00.000Z')],
  ['at', '"2026-11-30t10:00:00.5z"', new Date('2026-11-30T10:00:00.500Z')],
  ['at', '"2026-11-30T10:00:00.123999+00:00"', new Date('2026-11-30T10:00:00.123Z')],
  ['at', '"2026-11-30T10:00:00+05:30"', new Date('2026-11-30T04:30:00.000Z')],
  ['at', '"2026-12-31T23:00:00-02:00"', new Date('2027-01-01T01:00:00.000Z')],
  ['at', '"9999-12-31T23:59:59.999Z"', new Date('9999-12-31T23:59:59.999Z')],
  ['prices', '{"":"1","constructor":2}', { '': 1n, constructor: 2n }],
])('%s takes %s', (name, written, read) => {
  expect(readField(name, written)).toEqual(read)
})

test.each<[field: string, written: string, message: string]>([
  ['yes', '1', 'yes: is neither true nor false: 1'],
  ['yes', 'null', 'yes: is neither true nor false: null'],
  ['int', '1.0', 'int: is no whole number of 32 bits: 1.0'],
  ['int', '1e3', 'int: is no whole number of 32 bits: 1e3'],
  ['int', '2147483648', 'int: is no whole number of 32 bits: 2147483648'],
  ['int', '"1"', 'int: is no whole number of 32 bits: "1"'],
  ['long', '1.5', 'long: is no whole number of 64 bits, nor text of its digits: 1.5'],
  ['long', '9223372036854775808', 'long: is no whole number'],
  ['long', '"9223372036854775808"', 'long: is no whole number'],
  ['long', '"-9223372036854775809"', 'long: is no whole number'],
  ['long', '"01"', 'long: is no whole number'],
  ['long', '"-0"', 'long: is no whole number'],
  ['long', '"+1"', 'long: is no whole number'],
  ['long', '" 1"', 'long: is no whole number'],
  ['long', '"1\\n"', 'long: is no whole number'],
  ['long', '"0x1"', 'long: is no whole number'],
  ['long', '""', 'long: is no whole number'],
  ['float', '1e300', 'float: is no number in the range of a float'],
  ['float', '1e-60', 'float: is no number in the range of a float'],
  ['float', '"1"', 'float: is no number in the range of a float'],
  ['double', '1e400', 'double: is no number in the range of a double'],
  ['double', '"nan"', 'double: is no number in the range of a double'],
  ['double', '"constructor"', 'double: is no number in the range of a double'],
  ['text', '1', 'text: is no well-formed text: 1'],
  ['text', '"\\ud800"', 'text: is no well-formed text: "\\ud800"'],
  ['bytes', '"AP8"', 'bytes: is no base64: "AP8"'],
  ['bytes', '"AP9="', 'bytes: is no base64'],
  ['bytes', '"_-8="', 'bytes: is no base64'],
  ['bytes', '"AP8=\\n"', 'bytes: is no base64'],
  ['bytes', '[0,255]', 'bytes: is no base64: (an array)'],
  ['hash', '"AQID"', 'hash: is no base64 of 2 bytes: "AQID"'],
  ['id', '"0199a2b46c0070008000120559ff820e"', 'id: is no UUID'],
  ['day', '"2026-02-30"', 'day: is no day'],
  ['day', '"0000-01-01"', 'day: is no day'],
  ['day', '20000', 'day: is no day'],
  ['at', '1764496800000', 'at: is no time of RFC 3339'],
  ['at', '"2026-11-30"', 'at: is no time of RFC 3339'],
  ['at', '"2026-11-30T10:00:00"', 'at: is no time of RFC 3339'],
  ['at', '"2026-11-30 10:00:00Z"', 'at: is no time of RFC 3339'],
  ['at', '"2026-11-30T10:00Z"', 'at: is no time of RFC 3339'],
  ['at', '"2026-02-29T10:00:00Z"', 'at: is no time of RFC 3339'],
  ['at', '"2026-11-30T24:00:00Z"', 'at: is no time of RFC 3339'],
  ['at', '"2026-11-30T23:59:60Z"', 'at: is no time of RFC 3339'],
  ['at', '"2026-11-30T10:00:00.Z"', 'at: is no time of RFC 3339'],
  ['at', '"2026-11-30T10:00:00+0530"', 'at: is no time of RFC 3339'],
  ['at', '"2026-11-30T10:00:00+24:00"', 'at: is no time of RFC 3339'],
  ['at', '"0001-01-01T00:00:00+00:01"', 'at: is no time of RFC 3339'],
  ['at', '"9999-12-31T23:59:59-00:01"', 'at: is no time of RFC 3339'],
  ['at', '"+010000-01-01T00:00:00Z"', 'at: is no time of RFC 3339'],
  ['price', '12.50', 'price: is no text of a decimal of 2 digits behind the point and at most 6 in all: 12.50'],
  ['price', '"12.5"', 'price: is no text of a decimal'],
  ['price', '"12345.00"', 'price: is no text of a decimal'],
  ['color', '"blue"', 'color: is none of red, green: "blue"'],
  ['color', '"constructor"', 'color: is none of red, green'],
  ['prices', '[]', 'prices: is no object: (an array)'],
  ['prices', '{"a":1,"zoe@example.com":"x"}', 'prices{1}: is no whole number of 64 bits'],
  ['prices', '{"__proto__":1}', 'prices{0}: has a key that a map cannot have'],
  ['prices', '{"\\udc00":1}', 'prices{0}: has a key that a map cannot have'],
  ['lines', '{}', 'lines: is no array: (an object)'],
  ['lines', '[{"quantity":1},{"quantity":2.0}]', 'lines[1].quantity: is no whole number of 32 bits: 2.0'],
  ['lines', '[1.0]', 'lines[0]: is no object: 1.0'],
  ['lines', '[{}]', 'lines[0].quantity: is missing'],
  ['lines', '[{"quantity":1,"qty":1}]', 'lines[0]: has a field that the schema does not have: "qty"'],
  ['lines', '[{"quantity":1,"__proto__":1}]', 'lines[0]: has a field that the schema does not have: "__proto__"'],
  ['note', 'false', 'note: is no base64: false'],
])('%s refuses %s', (name, written, message) => {
  expect(() => json.from(withField(name, written))).toThrow(JsonError)
  expect(() => json.from(withField(name, written))).toThrow(`All: ${message}`)
})

test.each([
  ['', 'All: is no JSON: Unexpected end of JSON input'],
  ['{\n\u001b', 'All: is no JSON: '],
  ['[]', 'All: is no object: (an array)'],
  ['null', 'All: is no object: null'],
  ['1.0', 'All: is no object: 1.0'],
])('%j is no event', (given, message) => {
  expect(() => json.from(given)).toThrow(message)
})

const problemsOf = (given: string): readonly unknown[] => {
  try {
    json.from(given)
    return []
  } catch (error) {
    expect((error as Error).message).not.toMatch(/\p{C}/u)
    return (error as JsonError).problems
  }
}

test('everything that is wrong is said, ten things at most, and little of each', () => {
  const { note: _, ...others } = JSON.parse(text)
  expect(problemsOf(JSON.stringify({ ...others, int: 'x\n'.repeat(1000), more: 1 }))).toEqual([
    { path: '', problem: 'has a field that the schema does not have', found: '"more"' },
    { path: 'int', problem: 'is no whole number of 32 bits', found: expect.stringMatching(/^"x\\n.{50,60}\.\.\.$/) },
    { path: 'note', problem: 'is missing' },
  ])
  expect(problemsOf(withField('lines', `[${'0,'.repeat(100_000)}0]`))).toHaveLength(10)
  expect(problemsOf('{\n\u001b')).toHaveLength(1)
})

test('what is wrong can be said without a piece of what was read', () => {
  const secret = 'Zoe'
  const errorOf = (given: string) => {
    try {
      return json.from(given)
    } catch (error) {
      return error
    }
  }
  const wrong = Object.fromEntries(all.fields.map(({ name }) => [name, { [secret]: secret }]))
  const given = [
    secret,
    JSON.stringify(secret),
    JSON.stringify({ ...JSON.parse(text), [secret]: secret }),
    JSON.stringify(wrong),
    ...all.fields.map(({ name }) => withField(name, name === 'text' ? `["${secret}"]` : `"${secret}!"`)),
  ].map(errorOf)
  expect(given).toEqual(given.map(() => expect.any(JsonError)))
  const told = given.map((error) => (error as JsonError).withoutValues)
  expect(told.join('\n')).not.toContain(secret)
  expect(told).toEqual(
    expect.arrayContaining([
      'All: is no JSON',
      'All: id: is no UUID',
      'All: has a field that the schema does not have',
    ]),
  )
})

test('what is deep or long beyond all bounds is refused', () => {
  const depth = 1_000_000
  const deep = '['.repeat(depth) + ']'.repeat(depth)
  expect(problemsOf(withField('lines', deep))).toEqual([
    { path: 'lines[0]', problem: 'is no object', found: '(an array)' },
  ])
  expect(problemsOf(withField('int', deep))).toHaveLength(1)
  const most = maxJsonLength - withField('text', '""').length
  expect(readField('text', `"${'\\"'.repeat(most / 2)}"`)).toHaveLength(Math.floor(most / 2))
  expect(problemsOf(withField('text', `"${'x'.repeat(most + 1)}"`))).toEqual([
    { path: '', problem: `is ${maxJsonLength + 1} characters long, more than ${maxJsonLength}` },
  ])
})

test('what has a default may be left out, and no two events share it', () => {
  const line = { type: 'record', name: 'Line', fields: [field('quantity', 'int', { default: 3 })] }
  const given = compile(
    parseSchema({
      type: 'record',
      name: 'Given',
      fields: [
        field('long', 'long', { default: 7 }),
        field('at', { type: 'long', logicalType: 'timestamp-millis' }, { default: 0 }),
        field('day', { type: 'int', logicalType: 'date' }, { default: 1 }),
        field('price', decimal, { default: '\u0001\u00f4' }),
        field('bytes', 'bytes', { default: '\u00ff' }),
        field('note', ['null', 'string'], { default: null }),
        field('lines', { type: 'array', items: line }, { default: [{}] }),
      ],
    }),
  )
  const read = given.from('{}') as { lines: unknown[] }
  expect(read).toEqual({
    long: 7n,
    at: new Date(0),
    day: '1970-01-02',
    price: '5.00',
    bytes: Buffer.from([255]),
    note: null,
    lines: [{ quantity: 3 }],
  })
  read.lines.pop()
  expect((given.from('{"note":"n"}') as { lines: unknown[] }).lines).toEqual([{ quantity: 3 }])
  expect(() => given.from('{"long":null}')).toThrow('long: is no whole number')
})

test('an event that is not in the registry', () => {
  expect(() => toJson('OrderLost' as 'OrderPlaced', {} as never)).toThrow('OrderLost: is no event of the registry')
  expect(() => fromJson('constructor' as 'OrderPlaced', '{}')).toThrow('constructor: is no event of the registry')
})
