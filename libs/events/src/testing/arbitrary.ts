import fc from 'fast-check'
import { registry } from '../catalogue/registry.ts'
import type { EventName, EventTypes } from '../generated/events.ts'
import { type DecimalSchema, parseSchema, type ScalarKind, type Schema, shortName } from '../schema/schema.ts'

const anyTime = fc.date({ noInvalidDate: true })

/** Times that RFC 3339 has a form for. */
export const writtenTime = fc.date({
  min: new Date('0001-01-01T00:00:00.000Z'),
  max: new Date('9999-12-31T23:59:59.999Z'),
  noInvalidDate: true,
})

/** Values of an event, at the limits of its schema too: for property tests, here and of whoever handles the event. */
export function arbitraryEvent<N extends EventName>(event: N, time = anyTime): fc.Arbitrary<EventTypes[N]> {
  const newest = registry.findLast(({ subject }) => shortName(subject) === event)
  if (!newest) throw new Error(`${event} is not in the registry`)
  return arbitraryOf(parseSchema(newest.schema), time) as fc.Arbitrary<EventTypes[N]>
}

/** Values that a schema allows. */
export function arbitraryOf(schema: Schema, time = anyTime): fc.Arbitrary<unknown> {
  switch (schema.kind) {
    case 'nullable':
      return fc.option(arbitraryOf(schema.of, time), { nil: null })
    case 'array':
      return fc.array(arbitraryOf(schema.items, time), { maxLength: 5 })
    case 'map':
      return fc.dictionary(
        text.filter((key) => key !== '__proto__'),
        arbitraryOf(schema.values, time),
        { noNullPrototype: true },
      )
    case 'enum':
      return fc.constantFrom(...schema.symbols)
    case 'fixed':
      return bytes(schema.size, schema.size)
    case 'decimal':
      return decimal(schema)
    case 'record':
      return fc.record(Object.fromEntries(schema.fields.map(({ name, type }) => [name, arbitraryOf(type, time)])), {
        noNullPrototype: true,
      })
    case 'timestamp-millis':
      return time
    default:
      return scalars[schema.kind]
  }
}

const text = fc.string({ unit: 'binary' }) // any code points, but no halves of surrogate pairs

const bytes = (minLength: number, maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength, maxLength }).map((array) => Buffer.from(array))

const decimal = ({ precision, scale }: DecimalSchema): fc.Arbitrary<string> => {
  const most = 10n ** BigInt(precision) - 1n
  return fc.bigInt({ min: -most, max: most }).map((unscaled) => {
    const digits = String(unscaled)
      .replace('-', '')
      .padStart(scale + 1, '0')
    const whole = `${unscaled < 0n ? '-' : ''}${digits.slice(0, digits.length - scale)}`
    return scale === 0 ? whole : `${whole}.${digits.slice(-scale)}`
  })
}

const scalars: Record<Exclude<ScalarKind, 'timestamp-millis'>, fc.Arbitrary<unknown>> = {
  boolean: fc.boolean(),
  int: fc.integer(),
  long: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  float: fc.float(),
  double: fc.double(),
  string: text,
  bytes: bytes(0, 20),
  uuid: fc.uuid(),
  date: fc
    .date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
    .map((time) => time.toISOString().slice(0, 10)),
}
