import { isUtf8 } from 'node:buffer'
import type { DecimalSchema, Schema } from './schema.ts'

/** Why bytes are not a value of a schema, and where. */
export class BoundsError extends Error {}

/** Returns where the value that starts at `at` ends; throws {@link BoundsError} when it does not end within `bytes`. */
export type Measure = (bytes: Uint8Array, at: number) => number

/**
 * Compiles a schema into a check that walks over the bytes of a value without building anything. avsc trusts what it
 * reads: a count of 100 million in a message of ten bytes would allocate that array, a negative size walks back, an
 * index of an enum may be any. What passes here is decoded by avsc in time and memory proportional to its size: every
 * value takes at least one byte (`parseSchema` sees to that), so no count can exceed the bytes that are left.
 */
export function measureOf(schema: Schema): Measure {
  return build(schema, new Map())
}

/** `made` keeps one measure per record, however often it is used. */
function build(schema: Schema, made: Map<Schema, Measure>): Measure {
  const measure = made.get(schema) ?? buildNew(schema, made)
  made.set(schema, measure)
  return measure
}

function buildNew(schema: Schema, made: Map<Schema, Measure>): Measure {
  switch (schema.kind) {
    case 'boolean':
      return boolean
    case 'int':
    case 'date':
      return int
    case 'long':
    case 'timestamp-millis':
      return long
    case 'float':
      return bytesOf(4)
    case 'double':
      return bytesOf(8)
    case 'string':
      return text
    case 'bytes':
    case 'uuid':
      return counted
    case 'fixed':
      return bytesOf(schema.size)
    case 'decimal':
      return upTo(decimalBytes(schema))
    case 'enum':
      return (bytes, at) => oneOf(schema.symbols.length, bytes, at)
    case 'nullable':
      return nullable(build(schema.of, made))
    case 'array':
      return blocks(build(schema.items, made), smallest(schema.items))
    case 'map': {
      const value = build(schema.values, made)
      return blocks((bytes, at) => value(bytes, key(bytes, at)), 1 + smallest(schema.values))
    }
    case 'record':
      return sequence(schema.fields.map(({ type }) => build(type, made)))
  }
}

function fail(at: number, problem: string): never {
  throw new BoundsError(`${problem} at byte ${at}`)
}

/** Where the number that {@link variable} read last ends: a second result without an allocation per number. */
let end = 0

/** Reads a zigzag number of at most `most` bytes, approximately when it is beyond what a double holds exactly. */
function variable(bytes: Uint8Array, at: number, most: 5 | 10): number {
  let byte = bytes[at]
  if (byte === undefined) return fail(at, 'cut off')
  end = at + 1
  if (byte < 128) return (byte >> 1) ^ -(byte & 1)
  let zigzag = byte & 127
  let scale = 128
  do {
    byte = bytes[end]
    if (byte === undefined) return fail(at, 'cut off')
    zigzag += (byte & 127) * scale
    scale *= 128
    end++
    if (end - at === most && byte > (most === 5 ? 15 : 1))
      return fail(at, `number of more than ${most === 5 ? 32 : 64} bits`)
  } while (byte > 127)
  return zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2
}

function int(bytes: Uint8Array, at: number): number {
  variable(bytes, at, 5)
  return end
}

function long(bytes: Uint8Array, at: number): number {
  variable(bytes, at, 10)
  return end
}

function boolean(bytes: Uint8Array, at: number): number {
  const byte = bytes[at]
  if (byte === undefined) return fail(at, 'cut off')
  return byte < 2 ? at + 1 : fail(at, 'neither true nor false')
}

function bytesOf(size: number): Measure {
  return (bytes, at) => (at + size <= bytes.length ? at + size : fail(at, 'cut off'))
}

/** A string or bytes: their length goes before them. */
function counted(bytes: Uint8Array, at: number): number {
  const length = variable(bytes, at, 10)
  if (length < 0) return fail(at, 'negative length')
  if (length > bytes.length - end) return fail(at, `${length} bytes announced, ${bytes.length - end} left`)
  return end + length
}

/** The bytes of the longest decimal: a sign and `precision` digits. */
const decimalBytes = ({ precision }: DecimalSchema): number => Math.ceil((precision * Math.log2(10) + 1) / 8)

/** Bytes whose number is bounded: reading a number takes time that grows with the square of its length. */
function upTo(most: number): Measure {
  return (bytes, at) => {
    const after = counted(bytes, at)
    return after - end >= 1 && after - end <= most ? after : fail(at, `a number of ${after - end} bytes`)
  }
}

/** Text is UTF-8: avsc would read anything else as U+FFFD, so that it became another text without a word. */
function text(bytes: Uint8Array, at: number): number {
  const after = counted(bytes, at)
  for (let next = end; next < after; next++) {
    if ((bytes[next] as number) < 128) continue
    return isUtf8(bytes.subarray(next, after)) ? after : fail(at, 'text that is not UTF-8')
  }
  return after
}

function oneOf(count: number, bytes: Uint8Array, at: number): number {
  const index = variable(bytes, at, 5)
  return index >= 0 && index < count ? end : fail(at, `no choice ${index} among ${count}`)
}

function nullable(of: Measure): Measure {
  return (bytes, at) => {
    const branch = variable(bytes, at, 5)
    if (branch === 0) return end
    return branch === 1 ? of(bytes, end) : fail(at, `no choice ${branch} among 2`)
  }
}

function sequence(parts: readonly Measure[]): Measure {
  return (bytes, at) => {
    let next = at
    for (const part of parts) next = part(bytes, next)
    return next
  }
}

/** Arrays and maps: blocks of a count and so many items, ended by a count of 0. A negative count is followed by the block's size. */
function blocks(item: Measure, least: number): Measure {
  return (bytes, at) => {
    let next = at
    for (;;) {
      const start = next
      const signed = variable(bytes, start, 10)
      next = end
      if (signed === 0) return next
      const size = signed < 0 ? variable(bytes, next, 10) : undefined
      next = end
      const count = Math.abs(signed)
      if (count > (bytes.length - next) / least)
        fail(start, `${count} items announced, ${bytes.length - next} bytes left`)
      const first = next
      for (let left = count; left > 0; left--) next = item(bytes, next)
      if (size !== undefined && size !== next - first) fail(start, `block of ${size} bytes takes ${next - first}`)
    }
  }
}

const prototype = Buffer.from('__proto__')

/** A map's key. Under this name a plain object would not hold an entry but change its prototype. */
function key(bytes: Uint8Array, at: number): number {
  const after = text(bytes, at)
  const start = end // counted() left it behind the length
  return prototype.equals(bytes.subarray(start, after)) ? fail(at, `the key ${prototype}`) : after
}

/** The fewest bytes that a value takes. */
function smallest(schema: Schema): number {
  if (schema.kind === 'fixed') return schema.size
  if (schema.kind === 'float') return 4
  if (schema.kind === 'double') return 8
  return schema.kind === 'record' ? schema.fields.length : 1
}
