import { expect, test } from '@jest/globals'
import { registry } from '@shopstream/events'
import { createCodec, type LockEntry } from '@shopstream/events/codec'
import type { EventSchemas } from './event-schemas.ts'
import { buildsWith, exampleOf, pairsOf } from './versions.ts'

const row = (id: number, name: string, version: number, ...fields: object[]): LockEntry => {
  const subject = `shop.${name}`
  const schema = { type: 'record', name: subject, fields: [{ name: 'id', type: 'string' }, ...fields] }
  return { id, subject, version, fingerprint: '', schema }
}
const [a1, b1, a2, a3] = [
  row(1, 'A', 1),
  row(2, 'B', 1),
  row(3, 'A', 2, { name: 'more', type: 'int', default: 0 }),
  row(4, 'A', 3),
] as const
const lock = [a1, b1, a2, a3]
const golden = [a1, a2, a3].map(({ id, subject, version }) => {
  const codec = createCodec<Record<string, object>>(lock.slice(0, id))
  const value = { id: `of ${id}`, ...(id === 3 && { more: 7 }) }
  return { schemaId: id, subject, version, hex: codec.encode('A', value).toString('hex'), value }
})
const schemas: EventSchemas = { event: 'A', file: 'schemas/shop/A.avsc', schema: {}, rows: [a1, a2, a3], golden }

test("today's build meets each older one, and tomorrow's meets today's", () => {
  const pairs = pairsOf(schemas, lock)
  const ids = (rows: readonly LockEntry[]) => rows.map(({ id }) => id)
  expect(pairs.map(({ previous, current }) => [ids(previous), ids(current)])).toEqual([
    [
      [1, 2],
      [1, 2, 3, 4],
    ],
    [
      [1, 2, 3],
      [1, 2, 3, 4],
    ],
    [
      [1, 2, 3, 4],
      [1, 2, 3, 4, 1_000_004],
    ],
  ])
  expect(pairs.map(({ rows }) => [rows.previous.version, rows.current.version])).toEqual([
    [1, 3],
    [2, 3],
    [3, 4],
  ])
})

test('each version has an example that its build writes', () => {
  for (const { current, previous, rows } of pairsOf(schemas, lock)) {
    const write = (rows: readonly LockEntry[], data: object) =>
      createCodec<Record<string, object>>(rows).encode('A', data)
    expect(write(previous, exampleOf(rows.previous, schemas)).readInt32BE(1)).toBe(rows.previous.id)
    expect(write(current, exampleOf(rows.current, schemas)).readInt32BE(1)).toBe(rows.current.id)
  }
})

test('an event without versions, and a version without golden bytes, are told', () => {
  expect(() => pairsOf({ ...schemas, rows: [] }, lock)).toThrow('A has no version in schemas/registry.lock.json')
  expect(() => exampleOf(a2, { ...schemas, golden: [] })).toThrow('version 2 of A has no golden bytes: run `npm run')
})

test('a build per version of the event knows what was registered until then', () => {
  expect(buildsWith('A', lock).map(({ version, lock, later }) => [version, lock.length, later.length])).toEqual([
    [1, 1, 3],
    [2, 3, 1],
    [3, 4, 0],
  ])
  expect(buildsWith('OrderPlaced', registry)).toHaveLength(
    registry.filter(({ subject }) => subject.endsWith('.OrderPlaced')).length,
  )
})
