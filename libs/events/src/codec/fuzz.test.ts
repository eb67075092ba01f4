import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { DecodeError, decode, type EventName, encode, registry, topics } from '../index.ts'
import { parseSchema, shortName } from '../schema/schema.ts'
import { arbitraryEvent } from '../testing/arbitrary.ts'
import { readingOf } from './reading.ts'

/** `FUZZ_SEED=7 FUZZ_MESSAGES=1000000 npm test -- libs/events/src/codec/fuzz.test.ts` tries others, or more. */
const seed = Number(process.env.FUZZ_SEED ?? 20_250_301)
const messages = Number(process.env.FUZZ_MESSAGES ?? 100_000)

const events: EventName[] = topics.flatMap(({ events }) => events)
const samples = events.flatMap((event) =>
  fc.sample(arbitraryEvent(event), { seed, numRuns: 20 }).map((data) => encode(event, data)),
)
const newest = new Map(registry.map(({ subject, schema }) => [shortName(subject), parseSchema(schema)]))
const reads = new Map(
  registry.map(({ id, subject, schema }) => {
    const event = shortName(subject)
    return [id, readingOf(parseSchema(schema), newest.get(event) ?? parseSchema(schema))]
  }),
)

/** Numbers in Avro's form that a count, a length, a branch or a symbol must not be. */
const hostileNumbers = [
  -1n,
  2n ** 31n - 1n,
  -(2n ** 31n),
  2n ** 32n,
  2n ** 53n,
  -(2n ** 53n),
  2n ** 63n - 1n,
  -(2n ** 63n),
]
  .map((number) => zigzag(number))
  .concat([Buffer.alloc(11, 0xff)])

function zigzag(number: bigint): Buffer {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, (number << 1n) ^ (number >> 63n))
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
  return Buffer.from([...bytes, Number(rest)])
}

type Random = (below: number) => number

/** Mulberry32, by Tommy Ettinger: 32 bits of state are enough to vary bytes. */
function randomFrom(start: number): Random {
  let state = start >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

const pick = <T>(from: readonly T[], random: Random): T => from[random(from.length)] as T

/** Replaces `removed` bytes at `at` by others. */
const splice = (bytes: Buffer, at: number, removed: number, put: Uint8Array): Buffer =>
  Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + removed)])

/** Ways to spoil a message; each keeps the header more often than not, so that the schema is reached. */
const mutations: ((bytes: Buffer, at: number, random: Random) => Buffer)[] = [
  (bytes, at) => bytes.subarray(0, at),
  (bytes, at, random) => splice(bytes, at, 1, Buffer.from([random(256)])),
  (bytes, at, random) => splice(bytes, at, 1, Buffer.from([(bytes[at] ?? 0) ^ (1 << random(8))])),
  (bytes, at, random) => splice(bytes, at, 0, Buffer.from([random(256)])),
  (bytes, at, random) => splice(bytes, at, 1 + random(4), Buffer.alloc(0)),
  (bytes, at, random) => splice(bytes, at, random(2), pick(hostileNumbers, random)),
  (bytes, at, random) => splice(bytes, at, random(20), Buffer.from('\x12__proto__')),
  (bytes, at, random) => splice(bytes, at, 0, bytes.subarray(at, at + random(200))),
  (bytes, at, random) => Buffer.concat([bytes.subarray(0, at), pick(samples, random).subarray(5 + random(40))]),
  (bytes, _, random) => Buffer.concat([bytes, Buffer.alloc(1 + random(9), random(256))]),
  (bytes, _, random) => Buffer.concat([pick(samples, random).subarray(0, 5), bytes.subarray(5)]),
  (bytes, _, random) => splice(bytes, random(5), 1, Buffer.from([random(256)])),
]

function mutated(random: Random): Buffer {
  let bytes: Buffer = Buffer.from(pick(samples, random))
  for (let left = 1 + random(3); left > 0; left--) {
    bytes = pick(mutations, random)(bytes, Math.min(bytes.length, 5 + random(Math.max(1, bytes.length - 5))), random)
  }
  return bytes
}

/** Bytes that count how often one of them is looked at; a part of them that is cut out counts as all its bytes. */
function counting(bytes: Buffer) {
  const count = { reads: 0 }
  const counted = new Proxy(bytes, {
    get(target, key) {
      if (key === 'length') return target.length
      if (key === 'subarray' || key === 'latin1Slice' || key === 'utf8Slice') {
        return (from: number, to: number) => {
          count.reads += Math.max(0, to - from)
          return (target as unknown as Record<typeof key, (from: number, to: number) => unknown>)[key](from, to)
        }
      }
      if (typeof key === 'string' && /^\d+$/.test(key)) count.reads++
      return Reflect.get(target, key)
    },
  })
  return { count, counted }
}

/** How many objects, arrays and scalars a value consists of. */
function valuesIn(value: unknown): number {
  if (typeof value !== 'object' || value === null || value instanceof Date || Buffer.isBuffer(value)) return 1
  let sum = 1
  for (const part of Object.values(value)) sum += valuesIn(part)
  return sum
}

/** How often a byte may be looked at: with the message as a whole, as part of a number or of text, as UTF-8 and as a map's key. */
const readsPerByte = 4

/** Values per byte: one, and a record around each, as deep as our schemas nest. */
const valuesPerByte = 2

function endsWell(bytes: Buffer): 'read' | DecodeError['reason'] {
  const read = bytes.length >= 5 ? reads.get(bytes.readUInt32BE(1)) : undefined
  if (read) {
    const { count, counted } = counting(bytes)
    try {
      read(counted, 5)
    } catch {
      // decode says below how it ends; here only the work counts
    }
    if (count.reads > readsPerByte * bytes.length + 1) throw new Error(`${count.reads} reads`)
  }
  try {
    const { event, data } = decode(bytes)
    const values = valuesIn(data)
    if (values > valuesPerByte * bytes.length) throw new Error(`${values} values`)
    expect(decode(encode(event, data as never)).data).toEqual(data)
    return 'read'
  } catch (error) {
    if (error instanceof DecodeError) return error.reason
    throw error
  }
}

test(`${messages} spoilt messages of all events end in a value or a DecodeError, with work bounded by their bytes`, () => {
  const random = randomFrom(seed)
  const ends = { read: 0, malformed: 0, 'unknown-schema': 0 }
  for (let n = 0; n < messages; n++) {
    const bytes = mutated(random)
    try {
      ends[endsWell(bytes)]++
    } catch (cause) {
      throw new Error(`seed ${seed}, message ${n}: ${bytes.toString('hex')}`, { cause })
    }
  }
  // each end is reached often, so that the mutations neither miss the schemas nor leave all as it was
  for (const count of Object.values(ends)) expect(count).toBeGreaterThan(messages / 100)
})
