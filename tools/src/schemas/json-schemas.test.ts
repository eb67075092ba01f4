import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import type { EventName } from '@shopstream/events'
import { arbitraryEvent, arbitraryOf, writtenTime } from '@shopstream/events/arbitrary'
import { compile, jsonSchemaOf, toJson } from '@shopstream/events/json'
import { parseSchema, shortName } from '@shopstream/events/schema'
import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import fc from 'fast-check'
import { jsonSchemaFiles, pathOf, readSchemaFiles, workspace } from './files.ts'

/** Strict: an unknown word or format in a schema is an error. */
function validatorOf(schema: object) {
  const ajv = new Ajv2020({ strict: true, allErrors: true })
  formats.default(ajv)
  return ajv.compile(schema)
}

test.each(readSchemaFiles(workspace).map(({ event }) => event?.name ?? ''))('%s is as its schema says', (subject) => {
  const schema = JSON.parse(readFileSync(join(workspace, pathOf(subject).replace('.avsc', '.schema.json')), 'utf8'))
  const event = shortName(subject) as EventName
  expect(schema).toMatchObject({ $id: subject, title: event, description: expect.any(String) })
  const isValid = validatorOf(schema)
  fc.assert(
    fc.property(arbitraryEvent(event, writtenTime), (data) => {
      expect(isValid(toJson(event, data)) ? [] : isValid.errors).toEqual([])
    }),
    { numRuns: 50 },
  )
  expect(isValid({})).toBe(false)
})

test('an event has one each', () => {
  const expected = readSchemaFiles(workspace).map(({ path }) => path.replace('.avsc', '.schema.json'))
  expect(jsonSchemaFiles(workspace)).toEqual(expected)
})

const field = (name: string, type: unknown, more = {}) => ({ name, doc: `The ${name}.`, type, ...more })
const all = parseSchema({
  type: 'record',
  name: 'test.All',
  doc: 'All kinds.',
  fields: [
    field('yes', 'boolean'),
    field('int', 'int'),
    field('long', 'long', { default: 7 }),
    field('float', 'float'),
    field('double', 'double'),
    field('bytes', 'bytes'),
    field('id', { type: 'string', logicalType: 'uuid' }),
    field('day', { type: 'int', logicalType: 'date' }, { default: 1 }),
    field('at', { type: 'long', logicalType: 'timestamp-millis' }),
    field('price', { type: 'bytes', logicalType: 'decimal', precision: 6, scale: 2 }),
    field('part', { type: 'bytes', logicalType: 'decimal', precision: 2, scale: 2 }),
    field('count', { type: 'bytes', logicalType: 'decimal', precision: 3, scale: 0 }),
    field('hash', { type: 'fixed', name: 'Hash', size: 2 }),
    field('color', { type: 'enum', name: 'Color', doc: 'A color.', symbols: ['red', 'green'] }),
    field('prices', { type: 'map', values: 'long' }),
    field('other', ['null', 'Color'], { default: null }),
    field('hashes', { type: 'array', items: 'Hash' }),
  ],
})

test('every kind of value is as the schema says, and nothing else', () => {
  const schema = jsonSchemaOf(all)
  const isValid = validatorOf(schema)
  const json = compile(all)
  fc.assert(
    fc.property(arbitraryOf(all, writtenTime), (value) => {
      expect(isValid(json.to(value)) ? [] : isValid.errors).toEqual([])
    }),
  )
  expect(schema).toMatchObject({
    properties: {
      long: { description: 'The long.', default: 7 },
      day: { default: '1970-01-02' },
      other: { anyOf: [{ $ref: '#/$defs/test.Color' }, { type: 'null' }], default: null },
    },
    $defs: { 'test.Color': { description: 'A color.', enum: ['red', 'green'] } },
  })
  const [example] = fc.sample(arbitraryOf(all, writtenTime), 1)
  const valid = json.to(example) as object
  const { long: _, ...withoutLong } = valid as { long: unknown }
  expect(isValid(withoutLong)).toBe(true)
  const wrong: Record<string, unknown[]> = {
    yes: [1],
    int: [2 ** 31, 0.5, '1'],
    long: [2 ** 53, 0.5, '01', '1\n', '12345678901234567890'],
    float: ['nan', null],
    bytes: [1],
    id: ['x'],
    day: ['2026-02-30', 1],
    at: ['2026-11-30', 0],
    price: ['1.5', '12345.00', '01.00', 1],
    part: ['1.00', '.50'],
    count: ['1000', '1.'],
    hash: ['AQIDBA==', ''],
    color: ['blue'],
    prices: [{ a: 'x' }, []],
    other: ['blue'],
    more: [1],
  }
  const taken = Object.entries(wrong).flatMap(([name, values]) =>
    values.filter((value) => isValid({ ...valid, [name]: value })).map((value) => [name, value]),
  )
  expect(taken).toEqual([])
})
