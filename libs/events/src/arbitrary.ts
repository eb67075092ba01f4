import fc from 'fast-check'
import type { EventName, EventTypes } from './generated/events.ts'
import { registry } from './index.ts'
import { parseSchema, type ScalarKind, type Schema, shortName } from './schema.ts'

/** Values of an event, at the limits of its schema too: for property tests, here and of whoever handles the event. */
export function arbitraryEvent<N extends EventName>(event: N): fc.Arbitrary<EventTypes[N]> {
  const newest = registry.findLast(({ subject }) => shortName(subject) === event)
  if (!newest) throw new Error(`${event} is not in the registry`)
  return arbitraryOf(parseSchema(newest.schema)) as fc.Arbitrary<EventTypes[N]>
}

/** Values that a schema allows. */
export function arbitraryOf(schema: Schema): fc.Arbitrary<unknown> {
  switch (schema.kind) {
    case 'nullable':
      return fc.option(arbitraryOf(schema.of), { nil: null })
    case 'array':
      return fc.array(arbitraryOf(schema.items), { maxLength: 5 })
    case 'map':
      return fc.dictionary(
        text.filter((key) => key !== '__proto__'),
        arbitraryOf(schema.values),
        { noNullPrototype: true },
      )
    case 'enum':
      return fc.constantFrom(...schema.symbols)
    case 'fixed':
      return bytes(schema.size, schema.size)
    case 'record':
      return fc.record(Object.fromEntries(schema.fields.map(({ name, type }) => [name, arbitraryOf(type)])), {
        noNullPrototype: true,
      })
    default:
      return scalars[schema.kind]
  }
}

const text = fc.string({ unit: 'binary' }) // any code points, but no halves of surrogate pairs

const bytes = (minLength: number, maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength, maxLength }).map((array) => Buffer.from(array))

const scalars: Record<ScalarKind, fc.Arbitrary<unknown>> = {
  boolean: fc.boolean(),
  int: fc.integer(),
  long: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  float: fc.float(),
  double: fc.double(),
  string: text,
  bytes: bytes(0, 20),
  uuid: fc.uuid(),
  'timestamp-millis': fc.date({ noInvalidDate: true }),
}
