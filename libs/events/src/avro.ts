import { isDate } from 'node:util/types'
import avsc from 'avsc'
import { normalise, type RecordSchema } from './schema.ts'

/** avsc's view of a schema. */
export type AvroType = avsc.Type
/** Reads what another version of a schema wrote; made by {@link resolverOf}. */
export type Resolver = ReturnType<avsc.Type['createResolver']>

/**
 * Compiles a schema. Values are presented as everywhere in this library: `long` as bigint, `timestamp-millis` as Date,
 * `uuid` as string, `["null", X]` as X or null, `bytes` and `fixed` as Buffer.
 * Throws what avsc throws, for instance when a default does not fit its field.
 */
export function compile(schema: RecordSchema): AvroType {
  return avsc.Type.forSchema(normalise(schema) as avsc.Schema, {
    registry: { long: bigintType },
    logicalTypes: { uuid: Uuid, 'timestamp-millis': Timestamp },
    assertLogicalTypes: true,
    wrapUnions: 'never',
    omitRecordMethods: true,
  })
}

/** Throws when `reader` cannot read what `writer` wrote. */
export const resolverOf = (reader: AvroType, writer: AvroType): Resolver => reader.createResolver(writer)

const uuidForm = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** Whether a value is the text form of a UUID, of any version and in either case. */
export const isUuid = (value: unknown): value is string => typeof value === 'string' && uuidForm.test(value)

/** Whether a value fits in a signed integer of 64 bits. */
export const isLong = (value: unknown): value is bigint =>
  typeof value === 'bigint' && BigInt.asIntN(64, value) === value

/** Whether a value is a Date and a valid one. */
export const isTime = (value: unknown): value is Date => isDate(value) && !Number.isNaN(value.getTime())

class Uuid extends avsc.types.LogicalType {
  protected override _fromValue(value: string): string {
    if (!isUuid(value)) throw new Error('is no UUID')
    return value
  }

  /** Undefined is avsc's way to say that a value does not fit. */
  protected override _toValue(value: unknown): string | undefined {
    return isUuid(value) ? value : undefined
  }

  protected override _resolve(writer: avsc.Type): unknown {
    return writer instanceof Uuid ? (value: string) => value : undefined
  }
}

/** The part of avsc's types that reads and writes, which its declarations leave out. */
interface Wire {
  _read(tap: unknown): bigint
  _write(tap: unknown, value: bigint): void
}

class Timestamp extends avsc.types.LogicalType {
  // Under a logical type avsc uses its own long, which writes times before the year -140,744 with the wrong sign:
  // twice such a number is more than a double holds. So a time goes over the wire as the longs here do.
  _read(tap: unknown): Date {
    const time = new Date(Number((bigintType as unknown as Wire)._read(tap)))
    if (Number.isNaN(time.getTime())) throw new Error('is no time')
    return time
  }

  _write(tap: unknown, value: unknown): void {
    if (!isTime(value)) throw new Error('is no valid Date')
    const wire = bigintType as unknown as Wire
    wire._write(tap, BigInt(value.getTime()))
  }

  protected override _fromValue(value: number): Date {
    return new Date(value)
  }

  protected override _toValue(value: unknown): number | undefined {
    return isTime(value) ? value.getTime() : undefined
  }

  protected override _resolve(writer: avsc.Type): unknown {
    return writer instanceof Timestamp ? (value: Date) => value : undefined
  }
}

/** Where a long is encoded: views of one array, by length, so that no encoding allocates. */
const scratch = Buffer.alloc(10)
const lengths = Array.from({ length: 11 }, (_, length) => scratch.subarray(0, length))

/** Below this, zigzag and shifts are exact in doubles. */
const safe = 2n ** 51n

/** Avro's variable-length zigzag form. The view is good until the next call. */
function longToBytes(value: bigint): Buffer {
  let length = 0
  if (value < safe && value >= -safe) {
    const number = Number(value)
    let rest = number >= 0 ? number * 2 : number * -2 - 1
    while (rest >= 128) {
      scratch[length++] = (rest % 128) | 128
      rest = Math.floor(rest / 128)
    }
    scratch[length++] = rest
  } else {
    let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n))
    while (rest >= 128n) {
      scratch[length++] = Number(rest & 127n) | 128
      rest >>= 7n
    }
    scratch[length++] = Number(rest)
  }
  return lengths[length] as Buffer
}

function longFromBytes(bytes: Buffer): bigint {
  const { length } = bytes
  let low = 0 // the first 7 bytes hold 49 bits, exact in a double
  let scale = 1
  for (let at = 0; at < length && at < 7; at++) {
    low += ((bytes[at] as number) & 127) * scale
    scale *= 128
  }
  if (length <= 7) return BigInt(low % 2 === 0 ? low / 2 : -(low + 1) / 2)
  let high = 0
  for (let at = length - 1; at >= 7; at--) high = high * 128 + ((bytes[at] as number) & 127)
  const zigzag = (BigInt(high) << 49n) | BigInt(low)
  return BigInt.asIntN(64, (zigzag >> 1n) ^ -(zigzag & 1n))
}

/** Longs as bigint; avsc's own long type refuses what a double cannot hold. */
const bigintType = avsc.types.LongType.__with(
  {
    isValid: isLong,
    toBuffer: longToBytes,
    fromBuffer: longFromBytes,
    // avsc reads defaults, and ints that became longs, by these
    fromJSON(json: unknown): bigint {
      if (!Number.isSafeInteger(json)) throw new Error('a long given as JSON is a safe integer')
      return BigInt(json as number)
    },
    toJSON: Number,
    compare: (one: bigint, other: bigint) => (one < other ? -1 : one > other ? 1 : 0),
  },
  true, // bytes as they are on the wire, not unpacked to 8
)
