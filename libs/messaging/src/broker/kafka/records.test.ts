import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import zlib from 'node:zlib'
import { afterEach, describe, expect, jest, test } from '@jest/globals'
import fc from 'fast-check'
import {
  type BatchParts,
  encodeBatch,
  encodeDenseBatch,
  encodeMessageSet,
  lz4Frame,
  type RawRecord,
  rawSnappy,
  varint,
  xerialSnappy,
} from '../../testing/batches.ts'
import type { LogRecord } from './log-record.ts'
import { decodeRecords } from './records.ts'
import { UnfinishedBatches } from './unfinished-batches.ts'

afterEach(() => {
  jest.restoreAllMocks()
})

const limits = { batchBytes: 1_280_000, messageBytes: 100_000 } // 5,000 records of a batch
const decode = (bytes: Buffer, from = 0n, aborted: Parameters<typeof decodeRecords>[2] = []) =>
  decodeRecords(bytes, from, aborted, limits, { left: 10_000_000 })

/** Values of ASCII may come as text. */
const inBytes = (headers: LogRecord['headers']) =>
  headers.map(([name, held]) => [name, typeof held === 'string' ? Buffer.from(held) : held])

const codecs: [string, number, (bytes: Buffer) => Buffer][] = [
  ['nothing', 0, (bytes) => bytes],
  ['gzip', 1, (bytes) => zlib.gzipSync(bytes)],
  ['snappy as Java writes it', 2, xerialSnappy],
  ['snappy as librdkafka writes it', 2, rawSnappy],
  ['lz4', 3, lz4Frame],
  ['zstd', 4, (bytes) => zlib.zstdCompressSync(bytes)],
]
const text = (value: Buffer | null | undefined) => value?.toString() ?? null
const seen = (bytes: Buffer, from?: bigint) =>
  decode(bytes, from).records.map(({ offset, value }) => [offset, text(value)])
const three = [{ value: 'one' }, { value: 'two' }, { value: 'three' }]

describe.each(codecs)('packed by %s', (_, codec, compress) => {
  const pack = (parts: Partial<BatchParts> = {}) =>
    encodeBatch({ firstOffset: 5n, records: three, codec, compress, ...parts })

  test('records are read with their offsets, those before the asked for left out', () => {
    expect(seen(pack())).toEqual([
      [5n, 'one'],
      [6n, 'two'],
      [7n, 'three'],
    ])
    expect(seen(pack(), 7n)).toEqual([[7n, 'three']])
    expect(decode(pack()).next).toBe(8n)
  })

  test('whatever a record may hold comes out as it went in', () => {
    const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array))
    const maybe = fc.option(bytes, { nil: null })
    const record = fc.record({
      key: maybe,
      value: maybe,
      headers: fc.array(fc.tuple(fc.string({ unit: 'grapheme' }), maybe), { maxLength: 5 }),
    })
    fc.assert(
      fc.property(fc.array(record, { minLength: 1, maxLength: 20 }), (records) => {
        const { records: found, unreadable } = decode(pack({ records }))
        expect(unreadable).toBeUndefined()
        expect(found.map(({ key, value, headers }) => ({ key, value, headers: inBytes(headers) }))).toEqual(records)
      }),
      { numRuns: 50 },
    )
  })

  test('whatever becomes of the bytes, nothing throws, and what cannot be read is told with a place behind it', () => {
    const good = pack()
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, difference) => {
        const broken = Buffer.from(good)
        broken[at] = (broken[at] as number) ^ difference
        const { records, next, unreadable } = decode(broken)
        expect(records.length + (unreadable ? 1 : 0) + (next === undefined ? 1 : 0)).toBeGreaterThan(0)
        if (unreadable) expect(unreadable.lastOffset).toBeGreaterThanOrEqual(unreadable.firstOffset)
      }),
      { numRuns: 300 },
    )
  })

  test.each(['cut short', 'filled with zeros'])(
    'bytes %s behind a good checksum are unreadable, not an error',
    (how) => {
      const spoil = (bytes: Buffer) => (how === 'cut short' ? bytes.subarray(0, -4) : Buffer.alloc(bytes.length))
      const { records, unreadable, next } = decode(pack({ spoil }))
      const first = unreadable?.firstOffset ?? 0n
      expect({ next, lastOffset: unreadable?.lastOffset, behind: first - BigInt(records.length) }).toEqual({
        next: first,
        lastOffset: 7n,
        behind: 5n,
      })
    },
  )

  test('one that has more than is allowed when it is unpacked stands alone; what is before it is read', () => {
    const bomb = pack({ firstOffset: 8n, records: Array.from({ length: 20 }, () => ({ value: Buffer.alloc(90_000) })) })
    const { records, next, unreadable } = decode(Buffer.concat([pack(), bomb, pack({ firstOffset: 28n })]))
    expect(records).toHaveLength(3)
    expect(next).toBe(8n)
    expect(unreadable).toMatchObject({ firstOffset: 8n, lastOffset: 27n })
    expect(unreadable?.bytes.equals(bomb)).toBe(true)
    // Not by its size once it is unpacked.
    expect(unreadable?.reason).toMatch(codec === 0 ? /limit is 1280000/ : /more than 1280000 bytes/)
  })
})

describe('a bomb costs no more memory than the limit, whatever it claims', () => {
  const manyHeaders = Buffer.concat([
    Buffer.from([0, 0, 0, 1, 1]),
    varint(4_000_000),
    Buffer.alloc(8_000_000).fill('\x00\x01'),
  ])
  const nothings = Buffer.alloc(7_000_000).fill(Buffer.from([12, 0, 0, 0, 1, 1, 0])) // attributes, deltas, no key, no value, no headers
  const bombs: [string, () => Buffer][] = [
    [
      '150 MB of zeros',
      () => encodeBatch({ records: three, codec: 1, compress: () => zlib.gzipSync(Buffer.alloc(150_000_000)) }),
    ],
    ['four million headers without name and value', () => packed([{ raw: manyHeaders }])],
    [
      'a million records without anything',
      () => encodeBatch({ records: [], count: 1_000_000, codec: 1, compress: () => zlib.gzipSync(nothings) }),
    ],
  ]
  const packed = (records: RawRecord[]) => encodeBatch({ records, codec: 1, compress: (bytes) => zlib.gzipSync(bytes) })

  test.each(bombs)('%s', (_, bomb) => {
    const batch = bomb()
    const before = process.memoryUsage()
    const { records, unreadable } = decodeRecords(
      batch,
      0n,
      [],
      { batchBytes: 16_777_216, messageBytes: 100_000 },
      { left: 16_777_216 },
    )
    const after = process.memoryUsage()
    const grown = after.heapUsed + after.external - before.heapUsed - before.external
    expect(records.length > 0 || unreadable !== undefined).toBe(true)
    expect(grown).toBeLessThan(80_000_000)
  })
})

test('a batch of more records than its bytes could be events is unreadable before it is unpacked', () => {
  const unpack = jest.spyOn(zlib, 'zstdDecompressSync')
  const [most, more] = [encodeDenseBatch(5_000), encodeDenseBatch(5_001)]
  expect(decode(most)).toMatchObject({ next: 2_000n })
  expect(decode(most, 4_000n).next).toBe(5_000n)
  unpack.mockClear()
  expect(decode(more)).toMatchObject({
    records: [],
    unreadable: { firstOffset: 0n, lastOffset: 5_000n, reason: 'a batch of 5001 records; the limit is 5000' },
  })
  expect(unpack).not.toHaveBeenCalled()
})

test('a message that alone has more than is allowed stands alone, those of its batch around it are read', () => {
  const records = [{ value: 'one' }, { value: Buffer.alloc(200_000) }, { value: 'three' }]
  const batch = encodeBatch({ firstOffset: 5n, records })
  expect(decode(batch)).toMatchObject({ records: [{ offset: 5n }], next: 6n })
  expect(decode(batch).unreadable).toMatchObject({
    firstOffset: 6n,
    lastOffset: 6n,
    reason: expect.stringContaining('200000'),
  })
  expect(seen(batch, 7n)).toEqual([[7n, 'three']])
})

test('a record that cannot be taken apart is given with its bytes and the reason, and the others are read', () => {
  const batch = encodeBatch({
    firstOffset: 5n,
    records: [{ value: 'one' }, { raw: Buffer.from([0, 0, 2, 200, 1]) }, { value: 'three' }],
  })
  const { records, unreadable } = decode(batch)
  expect(unreadable).toBeUndefined()
  expect(records.map(({ offset, problem }) => [offset, problem !== undefined])).toEqual([
    [5n, false],
    [6n, true],
    [7n, false],
  ])
  expect(records[1]?.value).toEqual(Buffer.from([0, 0, 2, 200, 1]))
})

test('in the middle of a batch, too: nothing is given twice or left out', () => {
  const records = Array.from({ length: 1_000 }, (_, n) => ({ value: `${n}` }))
  const batch = encodeBatch({ firstOffset: 7n, records, codec: 1, compress: (bytes) => zlib.gzipSync(bytes) })
  const found: (string | null)[] = []
  let rounds = 0
  for (let next: bigint | undefined = 7n; next !== undefined && next < 1_007n; rounds++) {
    const decoded = decodeRecords(batch, next, [], limits, { left: 50_000 })
    found.push(...decoded.records.map(({ value }) => text(value)))
    next = decoded.next
  }
  expect(found).toEqual(records.map(({ value }) => value))
  expect(rounds).toBeGreaterThan(5)
})

test('a name is read anew unless it has the bytes of the one before', () => {
  const names = [['id', 'x', 'ÿ'], ['id', 'y', Buffer.from([0xff])], ['ie'], ['id', 'xx', 'ÿ', 'more']]
  const records = names.map((all) => ({ headers: all.map((name) => [name, 'held'] as const) }))
  const { records: found } = decode(encodeBatch({ records }))
  expect(found.map(({ headers }) => headers.map(([name]) => name))).toEqual(
    names.map((all) => all.map((name) => name.toString())),
  )
})

test('after a wrong checksum what a batch says of its length is not believed', () => {
  const spoilt = encodeBatch({ firstOffset: 100n, records: [{ value: 'a' }, { value: 'b' }] })
  spoilt.writeInt32BE(1_073_741_825, 23)
  const behind = encodeBatch({ firstOffset: 102n, records: three })
  expect(decode(Buffer.concat([spoilt, behind])).unreadable).toMatchObject({ firstOffset: 100n, lastOffset: 101n })
  expect(decode(spoilt, 101n).unreadable).toMatchObject({ firstOffset: 101n, lastOffset: 101n })
})

test('a batch that has been read to its end is not unreadable for what comes behind its records', () => {
  const batch = encodeBatch({
    firstOffset: 5n,
    records: three,
    spoil: (bytes) => Buffer.concat([bytes, Buffer.from('junk')]),
  })
  expect(decode(batch)).toMatchObject({ next: 8n, records: [{ offset: 5n }, { offset: 6n }, { offset: 7n }] })
  expect(decode(batch).unreadable).toBeUndefined()
})

test('an answer stops unpacking when its budget is used up, and goes on where it stopped', () => {
  const batches = [0n, 3n, 6n].map((firstOffset) => encodeBatch({ firstOffset, records: three }))
  const budget = { left: 1_501 }
  const first = decodeRecords(Buffer.concat(batches), 0n, [], limits, budget)
  expect(first).toMatchObject({ next: 3n, records: [{ offset: 0n }, { offset: 1n }, { offset: 2n }] })
  expect(decodeRecords(Buffer.concat(batches), 0n, [], limits, budget)).toEqual({ records: [] })
})

test('a record counts with all that was packed with it, as it keeps that in memory', () => {
  const compress = (bytes: Buffer) => zlib.gzipSync(Buffer.concat([bytes, Buffer.alloc(900_000)]))
  const batches = Array.from({ length: 10 }, (_, n) =>
    encodeBatch({ firstOffset: BigInt(n), records: [{ value: 'small' }], codec: 1, compress }),
  )
  const decoded = decodeRecords(Buffer.concat(batches), 0n, [], limits, { left: 2_000_000 })
  expect(decoded).toMatchObject({ next: 2n, records: [{ offset: 0n }, { offset: 1n }] })
})

test('an answer gives 2,000 records at the most; a batch of more is read to its end, with gaps and without', () => {
  for (const step of [1, 3]) {
    const records = Array.from({ length: 5_000 }, (_, n) => ({ value: `${n}`, delta: n * step }))
    const batch = encodeBatch({ firstOffset: 7n, records, codec: 1, compress: (bytes) => zlib.gzipSync(bytes) })
    const found: bigint[][] = []
    for (let next = 7n; next < 7n + 5_000n * BigInt(step) - BigInt(step - 1); ) {
      const decoded = decode(batch, next)
      found.push(decoded.records.map(({ offset }) => offset))
      next = decoded.next as bigint
    }
    expect(found.map(({ length }) => length)).toEqual([2_000, 2_000, 1_000])
    expect(found.flat()).toEqual(records.map(({ delta }) => 7n + BigInt(delta)))
  }
})

describe('a batch of which each answer takes a part', () => {
  const upTo = (count: number, step = 1) => Array.from({ length: count }, (_, n) => BigInt(n * step))
  /** A consumer that takes up to so many records of an answer and has the rest sent again. */
  function reader(batch: Buffer, { of = new UnfinishedBatches(), place = 'topic/0', takes = 2_000 } = {}) {
    const offsets: bigint[] = []
    return {
      offsets,
      readOnce(from = (offsets.at(-1) ?? -1n) + 1n) {
        const bounds = { ...limits, batchBytes: 16_777_216 }
        const decoded = decodeRecords(batch, from, [], bounds, { left: 2_000_000 }, { of, place })
        expect(decoded.unreadable).toBeUndefined()
        const records = decoded.records.slice(0, takes)
        offsets.push(...records.map(({ offset }) => offset))
        return records
      },
    }
  }

  test('is unpacked once, and what was taken is not walked through again', () => {
    const unpack = jest.spyOn(zlib, 'zstdDecompressSync')
    const { readOnce, offsets } = reader(encodeDenseBatch(40_000))
    for (let answer = 0; answer < 20; answer++) {
      readOnce()
      // Whoever came by again where the answers before this one were would find no records.
      const bytes = unpack.mock.results[0]?.value as Buffer
      bytes.fill(0xff, 0, answer * 2_000 * 7)
    }
    expect(offsets).toEqual(upTo(40_000))
    expect(unpack).toHaveBeenCalledTimes(1)
  })

  test('is unpacked once also by a consumer that has the rest of each answer sent again, and that goes back', () => {
    const unpack = jest.spyOn(zlib, 'zstdDecompressSync')
    const { readOnce, offsets } = reader(encodeDenseBatch(10_000), { takes: 200 })
    for (let answer = 0; answer < 39; answer++) readOnce()
    readOnce(3n)
    readOnce(7_800n)
    expect(offsets).toEqual([...upTo(7_800), ...upTo(203).slice(3), ...upTo(8_000).slice(7_800)])
    expect(unpack).toHaveBeenCalledTimes(1)
  })

  const gzip = { codec: 1, compress: (bytes: Buffer) => zlib.gzipSync(bytes) }
  const values = Array.from({ length: 5_000 }, (_, n) => ({ value: `${n}` }))
  const withGaps = values.map((one, n) => ({ ...one, delta: n * 3 }))
  test.each([
    ['packed', encodeBatch({ records: values, ...gzip }), 1],
    ['packed, with gaps', encodeBatch({ records: withGaps, ...gzip }), 3],
    ['not packed, with gaps', encodeBatch({ records: withGaps }), 3],
    ['in format v0', encodeMessageSet({ magic: 0, firstOffset: 0n, messages: values, ...gzip }), 1],
    ['in format v1', encodeMessageSet({ magic: 1, firstOffset: 0n, messages: values, ...gzip }), 1],
  ])('%s, is read to its end beside another one, while the bytes of one are kept', (name, batch, step) => {
    const unpack = jest.spyOn(zlib, 'zstdDecompressSync')
    const of = new UnfinishedBatches()
    const one = reader(batch, { of })
    const other = reader(encodeDenseBatch(5_000), { of, place: 'topic/1' })
    for (let answer = 0; answer < 3; answer++) {
      one.readOnce()
      other.readOnce()
    }
    expect(one.offsets).toEqual(upTo(5_000, step))
    expect(other.offsets).toEqual(upTo(5_000))
    expect(unpack).toHaveBeenCalledTimes(name.startsWith('not') ? 1 : 2)
  })

  test('keeps its bytes from nobody: what is given later is a copy', () => {
    const unpack = jest.spyOn(zlib, 'gunzipSync')
    const { readOnce } = reader(encodeBatch({ records: values, ...gzip }))
    readOnce()
    const [record] = readOnce()
    const bytes = unpack.mock.results[0]?.value as Buffer
    bytes.fill(0)
    expect(text(record?.value)).toBe('2000')
  })

  test('is not taken for another one at its place', () => {
    const of = new UnfinishedBatches()
    const changed = encodeBatch({ records: values.map(({ value }) => ({ value: `new ${value}` })), ...gzip })
    reader(encodeBatch({ records: values, ...gzip }), { of }).readOnce()
    expect(text(reader(changed, { of }).readOnce(2_000n)[0]?.value)).toBe('new 2000')
  })
})

test('of two batches just under the limit an answer unpacks one; the other waits for the next and is not unreadable', () => {
  const unpack = jest.spyOn(zlib, 'zstdDecompressSync')
  const almost = (firstOffset: bigint) =>
    encodeBatch({
      firstOffset,
      records: Array.from({ length: 10 }, () => ({ value: Buffer.alloc(98_000) })),
      codec: 4,
      compress: (bytes) => zlib.zstdCompressSync(bytes),
    })
  const held = () =>
    unpack.mock.results.reduce((sum, { value }) => sum + (Buffer.isBuffer(value) ? value.length : 0), 0)
  const budget = { left: limits.batchBytes }
  expect(decodeRecords(Buffer.concat([almost(0n), almost(10n)]), 0n, [], limits, budget)).toMatchObject({ next: 10n })
  expect(decodeRecords(almost(0n), 0n, [], limits, budget)).toEqual({ records: [] }) // of another partition
  expect(held()).toBeLessThanOrEqual(limits.batchBytes)
  expect(decodeRecords(almost(10n), 10n, [], limits, { left: limits.batchBytes })).toMatchObject({ next: 20n })
})

test('an empty batch, which compaction leaves behind, is passed', () => {
  const empty = encodeBatch({ firstOffset: 5n, records: [], lastDelta: 3 })
  expect(decode(Buffer.concat([empty, encodeBatch({ firstOffset: 9n, records: three })]))).toMatchObject({
    next: 12n,
    records: [{ offset: 9n }, { offset: 10n }, { offset: 11n }],
  })
  expect(decode(empty)).toEqual({ records: [], next: 9n })
})

test('gaps that compaction has left are no reason to stop', () => {
  const batch = encodeBatch({
    firstOffset: 5n,
    lastDelta: 9,
    records: [
      { value: 'one', delta: 2 },
      { value: 'two', delta: 7 },
    ],
  })
  expect(decode(batch)).toMatchObject({ next: 15n, records: [{ offset: 7n }, { offset: 12n }] })
})

test('what an aborted transaction wrote is left out, what others wrote meanwhile is not; markers are passed', () => {
  const of = (producerId: bigint, firstOffset: bigint, transactional = true) =>
    encodeBatch({ firstOffset, records: [{ value: `by ${producerId}` }], producerId, transactional })
  const marker = (producerId: bigint, firstOffset: bigint, isCommit: boolean) =>
    encodeBatch({
      firstOffset,
      producerId,
      transactional: true,
      control: true,
      records: [{ key: Buffer.from([0, 0, 0, isCommit ? 1 : 0]), value: Buffer.alloc(6) }],
    })
  const log = Buffer.concat([
    of(1n, 0n),
    of(2n, 1n),
    of(3n, 2n, false),
    marker(1n, 3n, false),
    marker(2n, 4n, true),
    of(1n, 5n), // its next transaction
    marker(1n, 6n, true),
  ])
  const found = decode(log, 0n, [{ producerId: 1n, firstOffset: 0n }])
  expect(found.records.map(({ offset }) => offset)).toEqual([1n, 2n, 5n])
  expect(found.next).toBe(7n)
})

test.each([
  ['none', -1n, undefined],
  ['the end of all days', 9_223_372_036_854_775_807n, undefined],
  ['the beginning of all days', -9_223_372_036_854_775_808n, undefined],
  ['a usual one', 1_700_000_000_000n, new Date(1_700_000_000_000)],
  ['the broker’s own', 1_700_000_000_000n, new Date(1_700_000_000_000)],
])('a time that is %s', (name, timestamp, expected) => {
  const batch = encodeBatch({
    firstOffset: 0n,
    records: three,
    timestamp,
    logAppendTime: name.startsWith('the broker'),
  })
  expect(decode(batch).records[0]?.timestamp).toEqual(expected)
})

test('a codec, a format or a checksum that is not known is told by its name', () => {
  const reason = (batch: Buffer) => decode(batch).unreadable?.reason
  expect(reason(encodeBatch({ firstOffset: 0n, records: three, codec: 6 }))).toBe(
    "compression codec 6 is none of Kafka's",
  )
  const newer = encodeBatch({ firstOffset: 0n, records: three })
  newer[16] = 3
  expect(reason(newer)).toBe('message format v3 is not known')
  const spoilt = encodeBatch({ firstOffset: 0n, records: three })
  spoilt[spoilt.length - 2] = (spoilt[spoilt.length - 2] as number) ^ 1
  expect(reason(spoilt)).toBe('the checksum is another one')
})

describe.each([0, 1])('message sets of format v%s, which brokers before 0.11 wrote', (magic) => {
  test.each(codecs.slice(0, 5))('packed by %s', (_, codec, compress) => {
    const bytes = encodeMessageSet({ magic, firstOffset: 5n, messages: three, codec, compress })
    expect(seen(bytes)).toEqual([
      [5n, 'one'],
      [6n, 'two'],
      [7n, 'three'],
    ])
    expect(seen(bytes, 6n)).toEqual([
      [6n, 'two'],
      [7n, 'three'],
    ])
    expect(decode(bytes).next).toBe(8n)
  })
})

describe('as Kafka 4.3.1 itself encodes them (recorded-batches.json: its MemoryRecordsBuilder, from offset 41 on)', () => {
  const ofKafka: Record<string, string> = JSON.parse(
    readFileSync(join(import.meta.dirname, 'recorded-batches.json'), 'utf8'),
  )
  const long = Buffer.from(Array.from({ length: 1_500 }, (_, i) => 97 + ((i * i) % 7)))
  const withHeaders = [
    ['x', null],
    ['x', Buffer.from([255, 0])],
    ['', Buffer.from('empty name')],
  ]

  test.each(Object.keys(ofKafka))('%s', (name) => {
    const { records, next, unreadable } = decode(Buffer.from(ofKafka[name] as string, 'base64'))
    expect(unreadable).toBeUndefined()
    const timestamp = name.startsWith('v0') ? undefined : new Date(1_500_000_000_000)
    const common = { timestamp, headers: [] }
    expect(records.map((record) => ({ ...record, headers: inBytes(record.headers) }))).toEqual([
      { ...common, offset: 41n, key: Buffer.from('key'), value: Buffer.from('value') },
      { ...common, offset: 42n, key: null, value: long },
      { ...common, offset: 43n, key: Buffer.from('tombstone'), value: null },
      ...(name.startsWith('v2')
        ? [{ timestamp, offset: 44n, key: Buffer.from('h'), value: Buffer.alloc(0), headers: withHeaders }]
        : []),
    ])
    expect(next).toBe(name.startsWith('v2') ? 45n : 44n)
  })
})
