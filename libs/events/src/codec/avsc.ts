import avsc from 'avsc'
import { dayMs, dayOf, decimalOf, isDay, isDecimal, isLong, isTime, isUuid, timeOf } from '../schema/logical-types.ts'
import { normalise, type RecordSchema } from '../schema/schema.ts'
import { type Cursor, long } from './bounds.ts'

/** avsc's view of a schema. */
export type AvroType = avsc.Type

/**
 * Compiles a schema. Values are presented as everywhere in this library: `long` as bigint, `timestamp-millis` as Date,
 * `uuid` as string, `date` as `YYYY-MM-DD`, `decimal` as its digits (`-12.50`), `["null", X]` as X or null, `bytes` and `fixed` as Buffer.
 * Throws what avsc throws, for instance when a default does not fit its field.
 */
export function compile(schema: RecordSchema): AvroType {
  return avsc.Type.forSchema(normalise(schema) as avsc.Schema, {
    registry: { long: bigintType },
    logicalTypes: { uuid: Uuid, date: CalendarDate, decimal: Decimal, 'timestamp-millis': Timestamp },
    assertLogicalTypes: true,
    wrapUnions: 'never',
    omitRecordMethods: true,
  })
}

/** The bytes of the default of a record's field, which has one. Throws what avsc throws when it does not fit. */
export function defaultBytes(record: RecordSchema, name: string): Buffer {
  const field = (compile(record) as avsc.types.RecordType).field(name)
  return field.type.toBuffer(field.defaultValue())
}

class CalendarDate extends avsc.types.LogicalType {
  protected override _fromValue(days: number): string {
    return dayOf(days)
  }

  /** Undefined is avsc's way to say that a value does not fit. */
  protected override _toValue(value: unknown): number | undefined {
    return isDay(value) ? Date.parse(value) / dayMs : undefined
  }

  protected override _resolve(writer: avsc.Type): unknown {
    return writer instanceof CalendarDate ? (value: string) => value : undefined
  }
}

class Decimal extends avsc.types.LogicalType {
  readonly form: { precision: number; scale: number }

  constructor(schema: avsc.Schema, options?: unknown) {
    super(schema, options as never)
    this.form = schema as unknown as { precision: number; scale: number }
  }

  protected override _fromValue(bytes: Buffer): string {
    return decimalOf(bytes, this.form)
  }

  protected override _toValue(value: unknown): Buffer | undefined {
    if (!isDecimal(value, this.form)) return undefined
    const unscaled = BigInt(value.replace('.', ''))
    let length = 1 // the fewest bytes whose two's complement holds it
    while (BigInt.asIntN(length * 8, unscaled) !== unscaled) length++
    return Buffer.from(
      BigInt.asUintN(length * 8, unscaled)
        .toString(16)
        .padStart(length * 2, '0'),
      'hex',
    )
  }

  protected override _resolve(writer: avsc.Type): unknown {
    const isSame =
      writer instanceof Decimal &&
      writer.form.precision === this.form.precision &&
      writer.form.scale === this.form.scale
    return isSame ? (value: string) => value : undefined
  }
}

class Uuid extends avsc.types.LogicalType {
  // as single bytes, which is quicker than as UTF-8 and the same for what is a UUID
  _write(tap: Tap, value: unknown): void {
    if (!isUuid(value)) throw new Error('is no UUID')
    const { buf, pos } = tap
    buf[pos] = 72
    tap.pos = pos + 37
    if (tap.pos <= buf.length) buf.latin1Write(value, pos + 1, 36)
  }

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

/** avsc's cursor, which its declarations leave out. Writing behind the end of `buf` only moves `pos`, as everywhere in avsc. */
interface Tap {
  readonly buf: Buffer & {
    latin1Write(text: string, at: number, length: number): number
  }
  pos: number
}

class Timestamp extends avsc.types.LogicalType {
  // Under a logical type avsc uses its own long, which writes times before the year -140,744 with the wrong sign:
  // twice such a number is more than a double holds. So a time goes over the wire as the longs here do.
  _read(tap: Tap): Date {
    return timeOf(readLong(tap))
  }

  _write(tap: Tap, value: unknown): void {
    if (!isTime(value)) throw new Error('is no valid Date')
    writeLong(tap, value.getTime())
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

/** Below this, zigzag and shifts are exact in doubles. */
const safe = 2 ** 51

/** Writes Avro's variable-length zigzag form. */
function writeLong(tap: Tap, value: number | bigint): void {
  const { buf } = tap
  if (value < safe && value >= -safe) {
    const number = Number(value)
    let rest = number >= 0 ? number * 2 : number * -2 - 1
    while (rest >= 128) {
      buf[tap.pos++] = (rest % 128) | 128
      rest = Math.floor(rest / 128)
    }
    buf[tap.pos++] = rest
  } else {
    const long = BigInt(value)
    let rest = BigInt.asUintN(64, (long << 1n) ^ (long >> 63n))
    while (rest >= 128n) {
      buf[tap.pos++] = Number(rest & 127n) | 128
      rest >>= 7n
    }
    buf[tap.pos++] = Number(rest)
  }
}

function readLong(tap: Tap): number | bigint {
  const cursor: Cursor = { bytes: tap.buf, at: tap.pos }
  const value = long(cursor)
  tap.pos = cursor.at
  return value
}

/** avsc asks for these two only where it has no cursor: in comparing buffers, for instance. */
function longToBytes(value: bigint): Buffer {
  const tap = { buf: Buffer.alloc(10) as Tap['buf'], pos: 0 }
  writeLong(tap, value)
  return tap.buf.subarray(0, tap.pos)
}

const longFromBytes = (bytes: Buffer): bigint => BigInt(readLong({ buf: bytes as Tap['buf'], pos: 0 }))

/** Longs as bigint; avsc's own long type refuses what a double cannot hold. */
const slowBigintType = avsc.types.LongType.__with(
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

/** The same without a view of the buffer per number, which took longer than reading the number. avsc freezes its types. */
const bigintType: avsc.Type = Object.create(slowBigintType, {
  _read: { value: (tap: Tap): bigint => BigInt(readLong(tap)) },
  _write: {
    value: (tap: Tap, value: unknown): void => {
      if (!isLong(value)) throw new Error('is no bigint of 64 bits')
      writeLong(tap, value)
    },
  },
})
