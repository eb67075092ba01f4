import { runInNewContext } from 'node:vm'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import {
  DecodeError,
  decode,
  EncodeError,
  type EventName,
  type EventTypes,
  encode,
  maxMessageBytes,
  newEventId,
  registry,
  schemaEvents,
  topics,
} from '../index.ts'
import { normalise, parseSchema } from '../schema/schema.ts'
import { arbitraryEvent, arbitraryOf } from '../testing/arbitrary.ts'
import { createCodec, type LockEntry } from './codec.ts'

type Data = Record<string, unknown>

const uuid = { type: 'string', logicalType: 'uuid' }
const time = { type: 'long', logicalType: 'timestamp-millis' }

/** One row of a lock, for a record `test.Thing` with these fields. */
const row = (id: number, version: number, fields: unknown[], name = 'Thing'): LockEntry => ({
  id,
  version,
  subject: `test.${name}`,
  fingerprint: '',
  schema: normalise(parseSchema({ type: 'record', name, namespace: 'test', fields })),
})

const codecOf = (...fields: unknown[]) => createCodec<{ Thing: Data }>([row(7, 1, fields)])

/** The wire format around a payload for schema 7. */
const message = (...payload: number[]) => Buffer.from([0, 0, 0, 0, 7, ...payload])

/** Keeps the error of `act`, so that more than its message can be looked at. */
function errorOf(act: () => unknown): unknown {
  try {
    act()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}

/** What has a default may be left out; so this is one still when the event has got more fields. */
const order = {
  orderId: newEventId(),
  userId: newEventId(),
  lines: [
    { sku: 'cup', quantity: 2, unitPrice: { amount: 1250n, currency: 'EUR' } },
    { sku: 'pot', quantity: 1, unitPrice: { amount: 4999n, currency: 'EUR' } },
  ],
  total: { amount: 7499n, currency: 'EUR' },
  placedAt: new Date('2025-03-01T10:00:00.123Z'),
  reservationDeadline: new Date('2025-03-01T10:15:00.123Z'),
} satisfies Partial<EventTypes['OrderPlaced']> as EventTypes['OrderPlaced']

const everyKind = [
  { name: 'flag', type: 'boolean' },
  { name: 'count', type: 'int' },
  { name: 'big', type: 'long' },
  { name: 'small', type: 'float' },
  { name: 'wide', type: 'double' },
  { name: 'text', type: 'string' },
  { name: 'raw', type: 'bytes' },
  { name: 'id', type: uuid },
  { name: 'at', type: time },
  { name: 'hash', type: { type: 'fixed', name: 'Hash', size: 3 } },
  { name: 'color', type: { type: 'enum', name: 'Color', symbols: ['red', 'green'] } },
  { name: 'list', type: { type: 'array', items: ['null', 'long'] } },
  {
    name: 'map',
    type: { type: 'map', values: { type: 'record', name: 'Inner', fields: [{ name: 'x', type: 'int' }] } },
  },
  { name: 'day', type: { type: 'int', logicalType: 'date' } },
  { name: 'price', type: { type: 'bytes', logicalType: 'decimal', precision: 12, scale: 4 } },
  { name: 'maybePrice', type: ['null', { type: 'bytes', logicalType: 'decimal', precision: 100, scale: 0 }] },
  { name: 'maybeBig', type: ['null', 'long'], default: null },
  { name: 'maybeAt', type: ['null', time], default: null },
  { name: 'maybeId', type: ['null', uuid] },
  { name: 'maybeText', type: ['null', 'string'] },
  { name: 'maybeColor', type: ['null', 'Color'] },
  { name: 'maybeInner', type: ['null', 'Inner'] },
  { name: 'maybeList', type: ['null', { type: 'array', items: 'Inner' }] },
]

describe('what is written is read', () => {
  test.each(topics.flatMap(({ events }) => events))('%s', (event: EventName) => {
    fc.assert(
      fc.property(arbitraryEvent(event), (data) => {
        const bytes = encode(event, data)
        const { schemaId, ...decoded } = decode(bytes)
        expect(decoded).toEqual({ event, data })
        expect(registry.find(({ id }) => id === schemaId)?.subject).toMatch(new RegExp(`\\.${event}$`))
        expect(bytes.readUInt32BE(1)).toBe(schemaId)
      }),
    )
  })

  test('every kind of value, and each of them or null', () => {
    const codec = codecOf(...everyKind)
    fc.assert(
      fc.property(arbitraryOf(parseSchema(row(7, 1, everyKind).schema)), (data) => {
        expect(codec.decode(codec.encode('Thing', data as Data)).data).toEqual(data)
      }),
      { numRuns: 500 },
    )
  })

  test('longs and times at their limits, also where null is allowed', () => {
    const codec = codecOf(
      { name: 'big', type: 'long' },
      { name: 'maybeBig', type: ['null', 'long'] },
      { name: 'maybeAt', type: ['null', time] },
    )
    const edges = [
      0n,
      1n,
      -1n,
      63n,
      64n,
      -64n,
      -65n,
      2n ** 51n,
      -(2n ** 51n),
      2n ** 53n + 1n,
      2n ** 63n - 1n,
      -(2n ** 63n),
    ]
    for (const big of edges.flatMap((edge) => [edge - 1n, edge, edge + 1n]).filter((n) => BigInt.asIntN(64, n) === n)) {
      for (const maybeAt of [null, new Date(0), new Date(8.64e15), new Date(-8.64e15)]) {
        const data = { big, maybeBig: big, maybeAt }
        expect(codec.decode(codec.encode('Thing', data)).data).toEqual(data)
      }
    }
  })

  test('days and decimals at their limits have the bytes of the Avro specification', () => {
    const codec = codecOf(
      { name: 'day', type: { type: 'int', logicalType: 'date' } },
      { name: 'price', type: { type: 'bytes', logicalType: 'decimal', precision: 5, scale: 2 } },
    )
    const hexOf = (data: Data) => codec.encode('Thing', data).subarray(5).toString('hex')
    const rows: [day: string, price: string, hex: string][] = [
      ['1970-01-01', '0.00', '000200'],
      ['1970-01-02', '1.27', '02027f'],
      ['1969-12-31', '1.28', '01040080'],
      ['2000-02-29', '-1.28', '90ac010280'],
      ['0001-01-01', '-999.99', 'f3e45706fe7961'],
      ['9999-12-31', '999.99', 'c082e6020601869f'],
    ]
    for (const [day, price, hex] of rows) {
      expect([day, price, hexOf({ day, price })]).toEqual([day, price, hex])
      expect(codec.decode(codec.encode('Thing', { day, price })).data).toEqual({ day, price })
    }
  })

  test('a decimal without digits behind its point, and one that is all of them', () => {
    const decimal = (precision: number, scale: number) => ({ type: 'bytes', logicalType: 'decimal', precision, scale })
    const codec = codecOf({ name: 'whole', type: decimal(3, 0) }, { name: 'part', type: ['null', decimal(3, 3)] })
    const data = { whole: '-120', part: '0.007' }
    expect(codec.decode(codec.encode('Thing', data)).data).toEqual(data)
  })

  test('a decimal may repeat its sign in front, which other writers do, and is bounded by what is left', () => {
    const flag = { name: 'y', type: 'boolean' }
    const fields = [{ name: 'x', type: { type: 'bytes', logicalType: 'decimal', precision: 4, scale: 0 } }, flag]
    const codec = codecOf(...fields)
    const skipping = createCodec<{ Thing: Data }>([row(7, 1, fields), row(8, 2, [flag])])
    const withDigits = (...digits: number[]) => message(digits.length * 2, ...digits, 1)
    const rows: [digits: number[], value: string][] = [
      [[0, 0, 100], '100'],
      [[0, 0, 0], '0'],
      [[0], '0'],
      [[255], '-1'],
      [[255, 255], '-1'],
      [[255, 255, 255, 0], '-256'],
      [[0, 0, 255], '255'],
      [[255, 128], '-128'],
      [[0, 128], '128'],
      [[...Array(58).fill(0), 39, 15], '9999'],
      [[...Array(58).fill(255), 216, 241], '-9999'],
    ]
    for (const [digits, x] of rows) {
      expect([digits, codec.decode(withDigits(...digits)).data]).toEqual([digits, { x, y: true }])
      expect(skipping.decode(withDigits(...digits)).data).toEqual({ y: true })
    }
    for (const digits of [[], [0, 39, 16], [216, 240], [0, 0, 1, 0, 0], [...Array(58).fill(0), 1, 0, 0, 0]]) {
      expect(() => codec.decode(withDigits(...digits))).toThrow(DecodeError)
    }
  })

  test('a decimal of a million bytes takes no longer than its bytes, padded or not', () => {
    const codec = codecOf({ name: 'x', type: { type: 'bytes', logicalType: 'decimal', precision: 4, scale: 0 } })
    const size = [0x80, 0x80, 0x7a] // 999,424 bytes
    for (const [byte, last] of [
      [0, 100],
      [255, 156],
      [1, 1],
    ] as const) {
      const bytes = Buffer.concat([message(...size), Buffer.alloc(999_423, byte), Buffer.from([last])])
      if (byte === 1) expect(() => codec.decode(bytes)).toThrow('a number of 999424 bytes')
      else expect(codec.decode(bytes).data).toEqual({ x: byte === 0 ? '100' : '-100' })
    }
  })

  test('longs have the bytes of the Avro specification', () => {
    const codec = codecOf({ name: 'n', type: 'long' })
    const bytesOf = (n: bigint) => codec.encode('Thing', { n }).subarray(5).toString('hex')
    expect([0n, -1n, 1n, -2n, 2n, -64n, 64n].map(bytesOf)).toEqual(['00', '01', '02', '03', '04', '7f', '8001'])
    expect(bytesOf(2n ** 63n - 1n)).toBe('feffffffffffffffff01')
    expect(bytesOf(-(2n ** 63n))).toBe('ffffffffffffffffff01')
  })

  test('events longer than the buffer they are written in', () => {
    const lines = order.lines.concat(
      Array.from({ length: 5_000 }, (_, n) => ({ ...order.lines[0], sku: `sku-${n}`, quantity: n }) as never),
    )
    const data = { ...order, lines }
    expect(decode(encode('OrderPlaced', data)).data).toMatchObject(data) // more, once the event has fields with defaults
    expect(decode(encode('OrderPlaced', order)).data).toMatchObject(order)
  })

  test('a plain Uint8Array that is a part of a larger buffer', () => {
    const bytes = encode('OrderPlaced', order)
    const around = new Uint8Array(bytes.length + 20)
    around.set(bytes, 10)
    expect(decode(around.subarray(10, 10 + bytes.length))).toEqual(decode(bytes))
  })
})

describe('what does not fit is refused where it is written, with its path', () => {
  const line = order.lines[0] as EventTypes['OrderPlaced']['lines'][0]
  const cases: [path: string, change: Data][] = [
    ['colour', { colour: 'red' }],
    ['constructor', { constructor: 1 }],
    ['total.tax', { total: { ...order.total, tax: 1n } }],
    ['lines[1].discount', { lines: [line, { ...line, discount: 1 }] }],
    ['lines[0].unitPrice.net', { lines: [{ ...line, unitPrice: { ...line.unitPrice, net: true } }] }],
    ['lines', { lines: { 0: line } }],
    ['lines[0]', { lines: [null] }],
    ['lines[1]', { lines: [line, undefined] }],
    ['lines[0].quantity', { lines: [{ ...line, quantity: 2 ** 31 }] }],
    ['lines[0].quantity', { lines: [{ ...line, quantity: 1.5 }] }],
    ['lines[0].quantity', { lines: [{ ...line, quantity: '1' }] }],
    ['lines[0].quantity', { lines: [{ ...line, quantity: Number.NaN }] }],
    ['lines[0].quantity', { lines: [{ ...line, quantity: 1n }] }],
    ['total.amount', { total: { amount: 2n ** 63n, currency: 'EUR' } }],
    ['total.amount', { total: { amount: -(2n ** 63n) - 1n, currency: 'EUR' } }],
    ['total.amount', { total: { amount: 12, currency: 'EUR' } }],
    ['total.currency', { total: { amount: 12n } }],
    ['total', { total: null }],
    ['orderId', { orderId: 'no-uuid' }],
    ['orderId', { orderId: `${order.orderId}\n` }],
    ['userId', { userId: undefined }],
    ['placedAt', { placedAt: new Date(Number.NaN) }],
    ['placedAt', { placedAt: '2025-03-01T10:00:00Z' }],
    ['placedAt', { placedAt: 1740823200000 }],
    ['lines[0].sku', { lines: [{ ...line, sku: '\ud83d' }] }],
  ]
  test.each(cases)('%s', (path, change) => {
    const error = errorOf(() => encode('OrderPlaced', { ...order, ...change } as never))
    expect(error).toBeInstanceOf(EncodeError)
    expect(error).toMatchObject({ path, event: 'OrderPlaced', cause: undefined })
  })

  test.each([null, undefined, 1, 'x', [], new Date(), new Map()])('a value that is no object: %p', (data) => {
    expect(() => encode('OrderPlaced', data as never)).toThrow(EncodeError)
  })

  test.each<[field: string, value: unknown]>([
    ['day', '2023-02-29'],
    ['day', '2024-2-1'],
    ['day', '0000-01-01'],
    ['day', '2024-02-01T00:00:00Z'],
    ['day', 19_000],
    ['day', new Date(0)],
    ['price', '1.5'],
    ['price', '1.500'],
    ['price', '1'],
    ['price', '1000.00'],
    ['price', '-0.00'],
    ['price', '01.00'],
    ['price', '+1.00'],
    ['price', '1e2'],
    ['price', ''],
    ['price', 1.5],
    ['price', 150n],
  ])('%s: %p', (field, value) => {
    const codec = codecOf(
      { name: 'day', type: { type: 'int', logicalType: 'date' } },
      { name: 'price', type: { type: 'bytes', logicalType: 'decimal', precision: 5, scale: 2 } },
    )
    const error = errorOf(() => codec.encode('Thing', { day: '2024-02-29', price: '1.50', [field]: value }))
    expect(error).toMatchObject({ path: field, cause: undefined })
  })

  test('the message names path and type and never the value', () => {
    const act = () => encode('UserErased', { userId: 'ada@example.com', erasedAt: new Date() })
    expect(act).toThrow('UserErased.userId must be a UUID, is a string')
  })

  test.each<[string, unknown]>([
    ['color', 'constructor'],
    ['color', ['red']],
    ['maybeColor', 'toString'],
    ['maybeBig', 1],
    ['maybeBig', undefined],
    ['maybeBig', 2n ** 63n],
    ['maybeAt', new Date(Number.NaN)],
    ['maybeAt', 5n],
    ['maybeId', 'x'],
    ['maybeInner', { x: 1, y: 2 }],
    ['hash', Buffer.alloc(4)],
    ['raw', 'text'],
    ['map', JSON.parse('{"__proto__":{"x":1}}')],
    ['list', [1n, undefined]],
  ])('%s of every kind', (field, value) => {
    const [good] = fc.sample(arbitraryOf(parseSchema(row(7, 1, everyKind).schema)), 1) as Data[]
    const error = errorOf(() => codecOf(...everyKind).encode('Thing', { ...good, [field]: value }))
    expect(error).toBeInstanceOf(EncodeError)
    expect((error as EncodeError).path).toMatch(new RegExp(`^${field}`))
  })

  test('a key too much is refused in any event, wherever it is', () => {
    const anyEvent = fc
      .constantFrom(...topics.flatMap(({ events }) => events))
      .chain((event) => arbitraryEvent(event).map((data) => ({ event, data })))
    fc.assert(
      fc.property(anyEvent, fc.string({ minLength: 1 }), fc.nat(), ({ event, data }, key, pick) => {
        const objects = objectsIn(data)
        const target = objects[pick % objects.length] as Data
        fc.pre(!Object.hasOwn(target, key) && key !== '__proto__')
        target[key] = 1
        expect(() => encode(event, data)).toThrow(EncodeError)
      }),
    )
  })

  test('a missing key, unless the schema has a default, which is written then', () => {
    const codec = codecOf(
      { name: 'x', type: 'int' },
      { name: 'note', type: ['null', 'int'], default: null },
      { name: 'count', type: 'long', default: 7 },
      { name: 'word', type: 'string', default: '' },
    )
    expect(codec.decode(codec.encode('Thing', { x: 1 })).data).toEqual({ x: 1, note: null, count: 7n, word: '' })
    expect(errorOf(() => codec.encode('Thing', { note: 1, count: 1n, word: '' }))).toMatchObject({
      path: 'x',
      message: 'Thing.x is missing',
    })
    expect(errorOf(() => codec.encode('Thing', { x: 1, word: undefined }))).toMatchObject({
      path: 'word',
      message: 'Thing.word is missing',
    })
    expect(errorOf(() => codec.encode('Thing', { x: 1, word: 2 }))).toMatchObject({ path: 'word' })
  })

  test('a key too much that hides behind a field which is not enumerable', () => {
    const hidden = Object.defineProperty({ more: 1 }, 'x', { value: 1 })
    expect(errorOf(() => codecOf({ name: 'x', type: 'int' }).encode('Thing', hidden))).toMatchObject({ path: 'more' })
  })

  test.each<[what: string, value: unknown]>([
    ['a Map', new Map([['a', 1]])],
    ['a Set', new Set([1])],
    ['a Date', new Date(0)],
    ['a Buffer', Buffer.from('a')],
    ['a typed array', new Uint8Array(1)],
    ['a Promise', Promise.resolve(1)],
    ['a boxed primitive', Object('a')],
    ['an instance of a class', /a/],
    [
      'an instance of a class',
      new (class {
        a = 1
      })(),
    ],
    [
      'an instance of a class',
      new (class {
        get a() {
          return 1
        }
      })(),
    ],
    ['an instance of a class', Object.create({ a: 1 })],
    ['an instance of a class', Object.create(Object.assign(Object.create(null), { a: 1 }))],
    ['an array', [1]],
    ['a function', () => 1],
  ])('%s where an object belongs, although it has no key too much', (what, x) => {
    const inner = { type: 'record', name: 'Inner', fields: [{ name: 'a', type: 'int', default: 0 }] }
    for (const type of [inner, { type: 'map', values: 'int' }, ['null', { type: 'map', values: inner }]]) {
      const error = errorOf(() => codecOf({ name: 'x', type }).encode('Thing', { x }))
      expect(error).toMatchObject({ path: 'x', message: `Thing.x must be a plain object, is ${what}` })
    }
  })

  test.each<[value: object]>([
    [{ a: 1, [Symbol('b')]: 2 }],
    [Object.defineProperty({ a: 1 }, 'b', { value: 2 })],
    [Object.defineProperty({}, 'a', { value: 1 })],
    [Object.defineProperty({ a: 1 }, Symbol.toStringTag, { value: 'A' })],
  ])('an object of which not every key is seen by everyone: %p', (x) => {
    for (const type of [
      { type: 'record', name: 'Inner', fields: [{ name: 'a', type: 'int' }] },
      { type: 'map', values: 'int' },
    ]) {
      const error = errorOf(() => codecOf({ name: 'x', type }).encode('Thing', { x }))
      expect(error).toMatchObject({ path: 'x', message: expect.stringContaining('not enumerable') })
    }
  })

  const holed = [1]
  holed[2] = 3
  test.each<[words: string, value: unknown]>([
    ['without gaps', holed],
    ['without gaps', Array(3)],
    ['has keys', Object.assign([1], { more: 2 })],
    ['has keys', Object.assign([1], { [Symbol('more')]: 2 })],
    ['of another class', class extends Array {}.from([1])],
    ['is a typed array', new Float64Array(1)],
    ['is a Set', new Set([1])],
    ['is an object', { 0: 1, length: 1 }],
  ])('an array that is more or less than its items: %s', (words, x) => {
    for (const items of ['int', 'double', ['null', 'int']]) {
      const error = errorOf(() => codecOf({ name: 'x', type: { type: 'array', items } }).encode('Thing', { x }))
      expect(error).toMatchObject({ path: 'x', message: expect.stringContaining(words) })
    }
  })

  test('an object without a prototype is as good as any, and so is one of another realm', () => {
    const codec = codecOf({ name: 'x', type: { type: 'array', items: { type: 'map', values: 'int' } } })
    const bare = Object.assign(Object.create(null), { a: 1 })
    const foreign = runInNewContext('[{ a: 2 }]')
    const read = (x: unknown) => codec.decode(codec.encode('Thing', { x })).data
    expect([read([bare]), read(foreign)]).toEqual([{ x: [{ a: 1 }] }, { x: [{ a: 2 }] }])
  })

  test('what an accessor gives is asked for once, so what was checked is what is written', () => {
    const codec = codecOf({ name: 'x', type: 'string' }, { name: 'y', type: { type: 'map', values: 'string' } })
    const turning = (key: string) => {
      const answers = ['a', '\ud800', '\ud800']
      return Object.defineProperty({}, key, { enumerable: true, get: () => answers.shift() })
    }
    const value = Object.defineProperty(turning('x'), 'y', { enumerable: true, value: turning('k') })
    expect(codec.decode(codec.encode('Thing', value)).data).toEqual({ x: 'a', y: { k: 'a' } })
  })

  test('an accessor that throws is a value that cannot be written, and what it said is not told', () => {
    const value = Object.defineProperty({}, 'x', {
      enumerable: true,
      get() {
        throw new Error('ada@example.com')
      },
    })
    const error = errorOf(() => codecOf({ name: 'x', type: 'string' }).encode('Thing', value))
    expect(error).toBeInstanceOf(EncodeError)
    expect(error).toMatchObject({ message: 'Thing cannot be written', cause: undefined })
  })

  test('numbers that a float would change beyond rounding; NaN, infinities and minus zero are themselves', () => {
    const codec = codecOf({ name: 'x', type: ['null', { type: 'array', items: 'float' }] })
    const read = (x: number) => (codec.decode(codec.encode('Thing', { x: [x] })).data.x as number[])[0]
    for (const x of [1e300, -1e300, 3.5e38, -3.5e38, 1e-60, -1e-60, 5e-324]) {
      expect(errorOf(() => read(x))).toMatchObject({ path: 'x[0]', message: expect.stringContaining('float') })
    }
    const largest = (2 - 2 ** -23) * 2 ** 127
    for (const x of [largest, -largest, 2 ** -149, -0, 0, Number.NaN, Infinity, -Infinity]) expect(read(x)).toBe(x)
    expect(read(0.1)).toBe(Math.fround(0.1))
  })

  test('whatever is given for whatever type is written as it is, or refused', () => {
    const types = everyKind.flatMap(({ type }) => [type, { type: 'array', items: type }, { type: 'map', values: type }])
    // each type with what it refers to in it
    const codecs = types.flatMap((type) => {
      try {
        return [codecOf({ name: 'x', type })]
      } catch {
        return []
      }
    })
    expect(codecs.length).toBeGreaterThan(50)
    const odd = fc.anything({
      withBigInt: true,
      withBoxedValues: true,
      withDate: true,
      withMap: true,
      withNullPrototype: true,
      withObjectString: true,
      withSet: true,
      withSparseArray: true,
      withTypedArray: true,
    })
    const written = { count: 0 }
    fc.assert(
      fc.property(odd, fc.constantFrom(...codecs), (x, codec) => {
        let bytes: Buffer
        try {
          bytes = codec.encode('Thing', { x })
        } catch (error) {
          if (error instanceof EncodeError) return
          throw error
        }
        written.count++
        // -0 is a number like 0 for whole numbers; floats are rounded
        const plain = (value: unknown): unknown =>
          typeof value === 'number' ? Math.fround(value + 0) : Array.isArray(value) ? value.map(plain) : value
        expect(plain(codec.decode(bytes).data.x)).toEqual(plain(x))
      }),
      { numRuns: 5_000 },
    )
    expect(written.count).toBeGreaterThan(50)
  })

  test.each<[field: string, value: unknown, problem: string]>([
    ['big', 2n ** 63n, 'is too large for a long, which ends at 2^63 - 1'],
    ['big', -(2n ** 63n) - 1n, 'is too small for a long, which begins at -2^63'],
    ['big', 1, 'must be a bigint of 64 bits, is a number'],
    ['maybeBig', 2n ** 64n, 'is too large for a long'],
    ['count', 2 ** 31, 'is too large for an int, which ends at 2^31 - 1'],
    ['count', -(2 ** 31) - 1, 'is too small for an int, which begins at -2^31'],
    ['count', 1.5, 'has a fraction'],
    ['count', Number.NaN, 'is NaN'],
    ['count', -Infinity, 'is infinite'],
    ['count', 1n, 'must be an integer of 32 bits, is a bigint'],
    ['small', 1e39, 'is beyond what a float holds, which is up to 3.4028235e+38'],
    ['text', 'ada\ud800', 'has half of a surrogate pair'],
    ['raw', new Uint8Array(1), 'must be a Buffer, is a typed array'],
    ['hash', Buffer.alloc(4), 'must be a Buffer of 3 bytes, has 4'],
    ['id', 'ada', 'must be a UUID, is a string of another form'],
    ['at', new Date(Number.NaN), 'is an invalid Date'],
    ['color', 'ada', 'must be one of red, green, is another'],
    ['day', '2023-02-29', 'is no day of the years 1 to 9999'],
    ['day', '2023-2-9', 'is a string of another form'],
    ['price', '1.5', 'has 1 behind the point'],
    ['price', '123456789.0000', 'has more'],
    ['price', '-0.0000', 'is zero with a sign'],
    ['price', 'ada', 'is text of another form'],
    ['list', [1n, 2], 'must be a bigint of 64 bits, is a number'],
    ['map', { ada: { x: 'ada' } }, 'must be an integer of 32 bits, is a string'],
    ['map', { 'ada\ud800': { x: 1 } }, 'has a key that a map cannot have'],
  ])('%s is told what is wrong with it, and nobody else its value: %p', (field, value, problem) => {
    const [good] = fc.sample(arbitraryOf(parseSchema(row(7, 1, everyKind).schema)), 1) as Data[]
    const { message } = errorOf(() => codecOf(...everyKind).encode('Thing', { ...good, [field]: value })) as Error
    expect(message).toContain(problem)
    expect(message).not.toMatch(/ada|is a (.+), is a \1|2147483648|9223372036854775808|1e39|123456789/)
  })

  test('more than the longest message', () => {
    const description = 'x'.repeat(maxMessageBytes)
    const data = { sku: 'cup', name: 'Cup', description, price: order.total, version: 1 }
    expect(() => encode('ProductListed', data)).toThrow(/more than 1048576/)
    expect(decode(encode('ProductListed', { ...data, description: description.slice(100) })).event).toBe(
      'ProductListed',
    )
  })
})

function objectsIn(value: unknown): Data[] {
  if (Array.isArray(value)) return value.flatMap(objectsIn)
  if (typeof value !== 'object' || value === null || value instanceof Date) return []
  return [value as Data, ...Object.values(value).flatMap(objectsIn)]
}

describe('bytes that are no event', () => {
  const whole = encode('OrderPlaced', order)

  const reasonOf = (bytes: Uint8Array, read: (bytes: Uint8Array) => unknown = decode) => {
    const error = errorOf(() => read(bytes))
    if (!(error instanceof DecodeError)) throw error
    return error.reason
  }

  test('cut off anywhere', () => {
    for (let length = 0; length < whole.length; length++) expect(reasonOf(whole.subarray(0, length))).toBe('malformed')
  })

  test('with bytes after the end', () => {
    expect(reasonOf(Buffer.concat([whole, Buffer.from([0])]))).toBe('malformed')
  })

  test('with another first byte', () => {
    expect(reasonOf(Buffer.concat([Buffer.from([1]), whole.subarray(1)]))).toBe('malformed')
  })

  test('of an unknown schema', () => {
    const bytes = Buffer.from(whole)
    bytes.writeUInt32BE(2_000_000_000, 1)
    expect(errorOf(() => decode(bytes))).toMatchObject({ reason: 'unknown-schema', schemaId: 2_000_000_000 })
    bytes.writeUInt32BE(4_000_000_000, 1) // an id that will never be
    expect(errorOf(() => decode(bytes))).toMatchObject({ reason: 'malformed' })
  })

  test('longer than a message may be, though it is whole', () => {
    const length = maxMessageBytes - 5 - 3 // header, and the length of the text
    const zigzag = (n: number) => [((n * 2) & 127) | 128, (((n * 2) >> 7) & 127) | 128, (n * 2) >> 14]
    const codec = codecOf({ name: 'x', type: 'string' })
    const longest = Buffer.concat([message(...zigzag(length)), Buffer.alloc(length, 'x')])
    expect(codec.decode(longest).data.x).toHaveLength(length)
    expect(reasonOf(Buffer.concat([message(...zigzag(length + 1)), Buffer.alloc(length + 1, 'x')]), codec.decode)).toBe(
      'malformed',
    )
  })

  const huge = [0xfe, 0xff, 0xff, 0xff, 0x0f] // 2^31 - 1
  const hugest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01] // -2^63
  const array = { type: 'array', items: 'int' }
  const map = { type: 'map', values: 'int' }
  const one = { type: 'enum', name: 'E', symbols: ['a'] }
  const beyond = codecOf({ name: 'n', type: 'long' }).encode('Thing', { n: 8_640_000_000_000_001n })
  test.each<[what: string, words: string, type: unknown, payload: number[]]>([
    ['a string longer than the rest', '2147483647 bytes announced, 1 left', 'string', [...huge, 65]],
    ['a string of negative length', 'negative length', 'string', [1, 65]],
    ['text that is not UTF-8', 'text that is not UTF-8', 'string', [6, 65, 0xc3, 0x28]],
    ['half of a surrogate pair', 'text that is not UTF-8', 'string', [6, 0xed, 0xa0, 0xbd]],
    ["a map's key that is not UTF-8", 'text that is not UTF-8', map, [2, 2, 0xff, 2, 0]],
    ['an array of 2^53 items', 'items announced', array, [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0]],
    ['bytes longer than the rest', '0 left', 'bytes', huge],
    ['an array of too many items', '2147483647 items announced', array, [...huge, 0, 0]],
    ['an array of more items than bytes', '4 items announced, 2 bytes left', array, [8, 0, 0]],
    ['an array of -2^63 items', 'items announced', array, [...hugest, 2, 0]],
    ['an array whose block has a wrong size', 'block of 2 bytes takes 1', array, [1, 4, 2, 0]],
    ['an array whose block has a negative size', 'block of -1 bytes', array, [1, 1, 2, 0]],
    ['an array without an end', 'cut off', array, [2, 2]],
    ['a map of too many entries', 'items announced', map, [...huge, 0, 0]],
    ['a map with the key __proto__', 'the key __proto__', map, [2, 18, ...Buffer.from('__proto__'), 2, 0]],
    [
      'the same with a long form of the length',
      'the key __proto__',
      map,
      [2, 0x92, 0, ...Buffer.from('__proto__'), 2, 0],
    ],
    ['a union branch that does not exist', 'no choice 2 among 2', ['null', 'int'], [4, 2]],
    ['a negative union branch', 'no choice -1 among 2', ['null', 'int'], [1, 2]],
    ['a symbol that does not exist', 'no choice 1 among 1', one, [2]],
    ['a negative symbol', 'no choice -1 among 1', one, [1]],
    ['an int of 33 bits', 'more than 32 bits', 'int', [0xff, 0xff, 0xff, 0xff, 0x1f]],
    ['an int of six bytes', 'more than 32 bits', 'int', [0x80, 0x80, 0x80, 0x80, 0x80, 0]],
    ['a long of 65 bits', 'more than 64 bits', 'long', [...hugest.slice(0, 9), 2]],
    ['a long of eleven bytes', 'more than 64 bits', 'long', [...Array(10).fill(0x80), 0]],
    ['a number without an end', 'cut off', 'long', [0x80]],
    ['a boolean of 2', 'neither true nor false', 'boolean', [2]],
    ['half a double', 'cut off', 'double', [1, 2, 3, 4]],
    ['a fixed cut off', 'cut off', { type: 'fixed', name: 'F', size: 3 }, [1, 2]],
    ['text where a UUID belongs', 'is no UUID', uuid, [2, 65]],
    ['a time out of range', 'is no time', time, hugest],
    ['a time a little out of range', 'is no time', time, [...beyond.subarray(5)]],
  ])('%s', (_, words, type, payload) => {
    const error = errorOf(() => codecOf({ name: 'x', type }).decode(message(...payload)))
    expect(error).toMatchObject({ reason: 'malformed', schemaId: 7, message: expect.stringContaining(words) })
    expect(error).toBeInstanceOf(DecodeError)
  })

  test('the longest array in the longest message is read, and what announces more is refused at once', () => {
    const codec = codecOf({ name: 'x', type: { type: 'array', items: 'boolean' } })
    const x = Array(maxMessageBytes - 9).fill(true)
    expect(codec.decode(codec.encode('Thing', { x })).data.x).toHaveLength(x.length)
    const started = process.memoryUsage.rss()
    for (let n = 0; n < 1000; n++) reasonOf(message(...huge, 0, 0), codec.decode)
    expect(process.memoryUsage.rss() - started).toBeLessThan(100 * 1024 * 1024)
  })

  test('blocks of several sizes, with and without a length, are read', () => {
    const codec = codecOf({ name: 'x', type: { type: 'array', items: 'int' } })
    expect(codec.decode(message(2, 2, 3, 4, 4, 6, 1, 2, 8, 0)).data).toEqual({ x: [1, 2, 3, 4] })
  })

  test('any bytes, and events with a byte changed, are read or refused with a DecodeError', () => {
    const codec = codecOf(...everyKind)
    const good = fc
      .sample(arbitraryOf(parseSchema(row(7, 1, everyKind).schema)), 20)
      .map((data) => codec.encode('Thing', data as Data))
    const change = fc.tuple(fc.constantFrom(...good), fc.nat(), fc.nat(255))
    const changed = change.map(([bytes, at, byte]) => {
      const copy = Buffer.from(bytes)
      copy[5 + (at % (copy.length - 5))] = byte
      return copy
    })
    const random = fc.uint8Array({ maxLength: 200 }).map((payload) => message(...payload))
    fc.assert(
      fc.property(fc.oneof(changed, random), (bytes) => {
        try {
          codec.decode(bytes)
        } catch (error) {
          if (!(error instanceof DecodeError) || error.reason !== 'malformed') throw error
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe('another version of the schema', () => {
  const one = row(7, 1, [
    { name: 'id', type: uuid },
    { name: 'count', type: 'int' },
    { name: 'old', type: { type: 'array', items: 'string' }, default: [] },
    { name: 'at', type: ['null', time] },
  ])
  const two = row(9, 2, [
    { name: 'id', type: uuid },
    { name: 'count', type: 'long' },
    { name: 'at', type: ['null', time] },
    { name: 'note', type: ['null', 'string'], default: null },
    { name: 'weight', type: 'long', default: 5 },
    { name: 'since', type: time, default: 1000 },
  ])
  const data = { id: newEventId(), count: 3, old: ['a', 'b'], at: new Date(1000) }
  const written = createCodec<{ Thing: Data }>([one]).encode('Thing', data)
  const read = { id: data.id, count: 3n, at: data.at, note: null, weight: 5n, since: new Date(1000) }

  test('an older writer is read into the newest version, whatever the order of the rows', () => {
    for (const lock of [
      [one, two],
      [two, one],
    ]) {
      const codec = createCodec<{ Thing: Data }>(lock)
      expect(codec.decode(written)).toEqual({ event: 'Thing', schemaId: 7, data: read })
      expect(codec.decode(written)).toEqual({ event: 'Thing', schemaId: 7, data: read })
      expect(codec.encode('Thing', read).readUInt32BE(1)).toBe(9)
    }
  })

  test('its bytes are bounded by the schema they were written with', () => {
    const codec = createCodec<{ Thing: Data }>([one, two])
    for (let length = 5; length < written.length; length++) {
      expect(() => codec.decode(written.subarray(0, length))).toThrow(DecodeError)
    }
    expect(() => codec.decode(Buffer.concat([written, Buffer.from([0])]))).toThrow(DecodeError)
  })

  test('a newer writer is read once its schema was learned', () => {
    const codec = createCodec<{ Thing: Data }>([{ ...two, id: 7, version: 1 }])
    const newer = Buffer.from(written)
    newer.writeUInt32BE(12, 1)
    expect(errorOf(() => codec.decode(newer))).toMatchObject({ reason: 'unknown-schema', schemaId: 12 })
    const learned = { schemaId: 12, subject: one.subject, schema: JSON.stringify(one.schema) }
    codec.learn(learned)
    codec.learn(learned)
    expect(codec.decode(newer).data).toEqual(read)
    expect(codec.encode('Thing', read).readUInt32BE(1)).toBe(7)
  })

  test('a known id cannot be learned to mean another schema', () => {
    const codec = createCodec<{ Thing: Data }>([one])
    const other = { schemaId: 7, subject: two.subject, schema: JSON.stringify(two.schema) }
    expect(() => codec.learn(other)).toThrow('schema 7 is already test.Thing')
    expect(codec.decode(written).data).toEqual(data)
  })

  test('a learned schema passes the same fences', () => {
    const codec = createCodec<{ Thing: Data }>([one])
    const schema = JSON.stringify({
      type: 'record',
      name: 'test.Thing',
      fields: [{ name: 'x', type: { type: 'int', logicalType: 'time-millis' } }],
    })
    expect(() => codec.learn({ schemaId: 8, subject: 'test.Thing', schema })).toThrow(
      'logical type time-millis is not registered',
    )
    expect(() => codec.learn({ schemaId: 8, subject: 'test.Other', schema: JSON.stringify(one.schema) })).toThrow(
      'is named',
    )
  })

  test('a writer that this reader cannot read may be readable later', () => {
    const codec = createCodec<{ Thing: Data }>([one, row(9, 2, [{ name: 'added', type: 'int' }])])
    expect(errorOf(() => codec.decode(written))).toMatchObject({ reason: 'unknown-schema', schemaId: 7 })
  })

  test.each([
    ['text', 'string', uuid],
    ['a number', 'long', time],
    ['an int', 'int', time],
  ])('a logical type that was %s is not read', (_, before, after) => {
    const codec = createCodec<{ Thing: Data }>([
      row(7, 1, [{ name: 'x', type: before }]),
      row(8, 2, [{ name: 'x', type: after }]),
    ])
    const value = before === 'string' ? newEventId() : before === 'int' ? 1 : 1n
    const bytes = createCodec<{ Thing: Data }>([row(7, 1, [{ name: 'x', type: before }])]).encode('Thing', { x: value })
    expect(errorOf(() => codec.decode(bytes))).toMatchObject({ reason: 'unknown-schema' })
  })

  test('an enum reads a symbol that it does not know as its default', () => {
    const color = (...symbols: string[]) => [
      { name: 'x', type: { type: 'enum', name: 'Color', symbols, default: 'other' } },
    ]
    const codec = createCodec<{ Thing: Data }>([row(7, 1, color('other', 'red')), row(8, 2, color('other', 'blue'))])
    expect(codec.decode(message(2)).data).toEqual({ x: 'other' })
  })
})

test('the registry is told as events that encode themselves', () => {
  expect(registry[0]).toMatchObject({ id: 100_001, subject: 'shopstream.schema.SchemaRegistered' })
  for (const data of schemaEvents)
    expect(decode(encode('SchemaRegistered', data))).toEqual({ event: 'SchemaRegistered', schemaId: 100_001, data })
})
