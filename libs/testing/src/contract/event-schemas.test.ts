import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { registry } from '@shopstream/events'
import { repository } from '../paths.ts'
import { fieldProblems, readEventSchemas, versionProblems, watchedFiles } from './event-schemas.ts'

interface Field {
  name: string
  type: unknown
  doc?: string
  default?: unknown
  aliases?: string[]
}
type Schema = { name: string; namespace: string; fields: Field[] }

const file = 'schemas/order/OrderShipped.avsc'
const fields = ['orderId', 'userId', 'carrier', 'trackingNumber']
let root: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'shopstream-contract-'))
  mkdirSync(join(root, 'schemas/order'), { recursive: true })
  cpSync(join(repository, file), join(root, file))
})
afterEach(() => rmSync(root, { recursive: true }))

/** The copy of the schema with this change. */
function edit(change: (schema: Schema) => void): void {
  const schema = JSON.parse(readFileSync(join(root, file), 'utf8')) as Schema
  change(schema)
  writeFileSync(join(root, file), JSON.stringify(schema))
}

const field = ({ fields }: Schema, name: string) => fields.find((each) => each.name === name) as Field

const problems = () => {
  const schemas = readEventSchemas('OrderShipped', registry, root)
  return [
    ...fieldProblems('notification', fields, schemas),
    ...versionProblems('notification', 'consumes', schemas),
  ].join('\n')
}

test('the schema as it is has none', () => {
  expect(problems()).toBe('')
})

test.each<[string, (schema: Schema) => void, RegExp]>([
  [
    'a field that is renamed without an alias',
    (schema) => Object.assign(field(schema, 'carrier'), { name: 'shippedBy' }),
    /notification consumes OrderShipped and uses the field carrier, which schemas\/order\/OrderShipped.avsc does not declare/,
  ],
  [
    'a used field that is removed',
    (schema) => schema.fields.splice(schema.fields.indexOf(field(schema, 'trackingNumber')), 1),
    /uses the field trackingNumber/,
  ],
  [
    'a new field without a default',
    (schema) => schema.fields.push({ name: 'depot', type: 'string' }),
    /notification consumes OrderShipped: with schemas\/order\/OrderShipped.avsc as it is now, version 1 cannot be read.*READER_FIELD_MISSING_DEFAULT_VALUE/,
  ],
  [
    'a field that no handler uses and that older readers need',
    (schema) => schema.fields.splice(schema.fields.indexOf(field(schema, 'shippedAt')), 1),
    /who is deployed with version 1 cannot read schemas\/order\/OrderShipped.avsc as it is now.*READER_FIELD_MISSING_DEFAULT_VALUE/,
  ],
  [
    'another type',
    (schema) => Object.assign(field(schema, 'trackingNumber'), { type: 'long' }),
    /notification consumes OrderShipped: .*TYPE_MISMATCH/,
  ],
  [
    'another logical type',
    (schema) => Object.assign(field(schema, 'shippedAt'), { type: { type: 'long', logicalType: 'timestamp-micros' } }),
    /notification consumes OrderShipped: /,
  ],
])('%s is told with the name of the service', (_, change, message) => {
  edit(change)
  expect(problems()).toMatch(message)
})

test('a field more, with a default, is none', () => {
  edit(({ fields }) => fields.push({ name: 'depot', type: 'string', default: '' }))
  expect(problems()).toBe('')
})

test('a file that is missing, or no JSON, is told', () => {
  writeFileSync(join(root, file), '{')
  expect(problems).toThrow('schemas/order/OrderShipped.avsc is no JSON')
  rmSync(join(root, file))
  expect(problems()).toContain(
    'notification consumes OrderShipped, and schemas/*/OrderShipped.avsc is missing: restore it',
  )
})

test("nx watches an event's schema and its golden bytes", () => {
  expect(watchedFiles(readEventSchemas('OrderShipped', registry, root))).toBe(
    '{workspaceRoot}/schemas/{order,golden}/{OrderShipped,*.OrderShipped}.*',
  )
})
