import { isUtf8 } from 'node:buffer'
import { maxDecimalBytes } from '../schema/logical-types.ts'
import type { DecimalSchema, Schema } from '../schema/schema.ts'

/** Why bytes are not a value of a schema, and where. */
export class BoundsError extends Error {}

/** A place in bytes. What reads a value moves it behind the value. */
export interface Cursor {
  readonly bytes: Buffer
  at: number
}

/** Moves behind a value without building it; throws {@link BoundsError} when it is none. */
export type Walk = (cursor: Cursor) => unknown

/**
 * Compiles a schema into a walk over the bytes of a value that builds nothing, for written values that no reader wants.
 * It rests on the functions below, as all reading does (`reading.ts`): they trust no byte. A count of 100 million in a
 * message of ten bytes would allocate that array, a negative size would walk back, an index of an enum may be any. What
 * passes takes time and memory in proportion to its size: every value takes at least one byte (`parseSchema` sees to
 * that), so no count can exceed the bytes that are left. `made` keeps one walk per record, however often it is used.
 */
export function walkOf(schema: Schema, made: Map<Schema, Walk> = new Map()): Walk {
  const walk = made.get(schema) ?? newWalk(schema, made)
  made.set(schema, walk)
  return walk
}

function newWalk(schema: Schema, made: Map<Schema, Walk>): Walk {
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
      return (cursor) => skip(cursor, 4)
    case 'double':
      return (cursor) => skip(cursor, 8)
    case 'string':
      return (cursor) => isAscii(cursor, counted(cursor))
    case 'bytes':
    case 'uuid':
      return counted
    case 'fixed':
      return (cursor) => skip(cursor, schema.size)
    case 'decimal':
      return (cursor) => digits(cursor, schema)
    case 'enum':
      return (cursor) => choice(cursor, schema.symbols.length)
    case 'nullable': {
      const of = walkOf(schema.of, made)
      return (cursor) => choice(cursor, 2) === 1 && of(cursor)
    }
    case 'array': {
      const least = smallest(schema.items)
      const item = walkOf(schema.items, made)
      return (cursor) => blocks(cursor, least, item)
    }
    case 'map': {
      const least = 1 + smallest(schema.values)
      const value = walkOf(schema.values, made)
      return (cursor) =>
        blocks(cursor, least, () => {
          key(cursor)
          value(cursor)
        })
    }
    case 'record': {
      const parts = schema.fields.map(({ type }) => walkOf(type, made))
      return (cursor) => {
        for (const part of parts) part(cursor)
      }
    }
  }
}

export function fail(at: number, problem: string): never {
  throw new BoundsError(`${problem} at byte ${at}`)
}

/** A zigzag number of 32 bits. */
export function int(cursor: Cursor): number {
  const byte = cursor.bytes[cursor.at] as number
  if (byte < 128) {
    cursor.at++
    return (byte >> 1) ^ -(byte & 1)
  }
  return variable(cursor, 5)
}

/** Reads a zigzag number of at most `most` bytes, approximately when it is beyond what a double holds exactly. */
function variable(cursor: Cursor, most: 5 | 10): number {
  const { bytes, at } = cursor
  let zigzag = 0
  let scale = 1
  let next = at
  let byte: number | undefined
  do {
    byte = bytes[next++]
    if (byte === undefined) return fail(at, 'cut off')
    zigzag += (byte & 127) * scale
    scale *= 128
    if (next - at === most && byte > (most === 5 ? 15 : 1))
      return fail(at, `number of more than ${most === 5 ? 32 : 64} bits`)
  } while (byte > 127)
  cursor.at = next
  return zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2
}

/** Below this, zigzag is exact in doubles. */
const safe = 2 ** 51

/** A zigzag number of 64 bits: as a number where that is exact, which saves the making of a bigint. */
export function long(cursor: Cursor): number | bigint {
  const start = cursor.at
  const number = variable(cursor, 10)
  if (number < safe && number >= -safe) return number
  let zigzag = 0n
  for (let at = cursor.at - 1; at >= start; at--) zigzag = (zigzag << 7n) | BigInt((cursor.bytes[at] as number) & 127)
  return BigInt.asIntN(64, (zigzag >> 1n) ^ -(zigzag & 1n))
}

export function boolean(cursor: Cursor): boolean {
  const byte = cursor.bytes[cursor.at]
  if (byte === undefined || byte > 1) return fail(cursor.at, byte === undefined ? 'cut off' : 'neither true nor false')
  cursor.at++
  return byte === 1
}

/** Moves by `size` bytes and returns where they start. */
export function skip(cursor: Cursor, size: number): number {
  const { at } = cursor
  if (at + size > cursor.bytes.length) return fail(at, 'cut off')
  cursor.at = at + size
  return at
}

/** Moves behind a string or bytes, whose length goes before them, and returns where they start. */
export function counted(cursor: Cursor): number {
  const { bytes, at } = cursor
  const short = bytes[at] as number
  const length = short < 128 ? int(cursor) : variable(cursor, 10)
  const start = cursor.at
  if (length < 0) return fail(at, 'negative length')
  if (length > bytes.length - start) return fail(at, `${length} bytes announced, ${bytes.length - start} left`)
  cursor.at = start + length
  return start
}

/**
 * {@link counted}, with a bound: reading a number takes time that grows with the square of its length. Bytes that only
 * repeat the sign (`00 00 64`) are stepped over, as Java reads them too, so what is left is as short as its value.
 */
export function digits(cursor: Cursor, schema: DecimalSchema): number {
  const { at } = cursor
  const start = afterPadding(cursor, counted(cursor))
  const length = cursor.at - start
  return length >= 1 && length <= maxDecimalBytes(schema) ? start : fail(at, `a number of ${length} bytes`)
}

/** Where a number in two's complement begins, without the bytes before it that are all sign. The last byte stays. */
function afterPadding({ bytes, at }: Cursor, start: number): number {
  const sign = bytes[start]
  if (sign !== 0 && sign !== 255) return start
  for (let next = start + 1; next < at; next++) {
    const byte = bytes[next] as number
    if (byte !== sign) return byte > 127 === sign > 127 ? next : next - 1
  }
  return Math.max(start, at - 1)
}

/**
 * Whether the text from `start` to the cursor is ASCII, which most is. Throws when it is not even UTF-8: read as that, it
 * would become another text, with U+FFFD in it, without a word.
 */
export function isAscii({ bytes, at }: Cursor, start: number): boolean {
  for (let next = start; next < at; next++) {
    if ((bytes[next] as number) < 128) continue
    return isUtf8(bytes.subarray(next, at)) ? false : fail(start, 'text that is not UTF-8')
  }
  return true
}

/** The index of one of `count` symbols or branches. */
export function choice(cursor: Cursor, count: number): number {
  const { at } = cursor
  const index = int(cursor)
  return index >= 0 && index < count ? index : fail(at, `no choice ${index} among ${count}`)
}

/**
 * Arrays and maps: blocks of a count and so many items, ended by a count of 0. A negative count is followed by the
 * block's size. No item takes fewer bytes than `least`.
 */
export function blocks(cursor: Cursor, least: number, item: Walk): void {
  for (;;) {
    const start = cursor.at
    const signed = variable(cursor, 10)
    if (signed === 0) return
    const size = signed < 0 ? variable(cursor, 10) : undefined
    const first = cursor.at
    const count = Math.abs(signed)
    const left = cursor.bytes.length - first
    if (count > left / least) fail(start, `${count} items announced, ${left} bytes left`)
    for (let next = 0; next < count; next++) item(cursor)
    if (size !== undefined && size !== cursor.at - first)
      fail(start, `block of ${size} bytes takes ${cursor.at - first}`)
  }
}

const prototype = Buffer.from('__proto__')

/** {@link counted}, for the text of a map's key. Under this name a plain object would not hold an entry but change its prototype. */
export function key(cursor: Cursor): number {
  const start = counted(cursor)
  const isPrototype = isAscii(cursor, start) && prototype.equals(cursor.bytes.subarray(start, cursor.at))
  return isPrototype ? fail(start, `the key ${prototype}`) : start
}

/** The fewest bytes that a value takes. */
export function smallest(schema: Schema): number {
  if (schema.kind === 'fixed') return schema.size
  if (schema.kind === 'float') return 4
  if (schema.kind === 'double') return 8
  return schema.kind === 'record' ? schema.fields.length : 1
}
