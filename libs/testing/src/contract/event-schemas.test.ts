import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { registry } from '@shopstream/events'
import { repository } from '@shopstream/local-servers'
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

const parties = { consumers: ['inventory', 'notification'], producers: ['order'] }

const problems = async () => {
  const schemas = readEventSchemas('OrderShipped', registry, root)
  return [
    ...fieldProblems('notification', fields, schemas),
    ...(await versionProblems('notification', 'consumes', schemas, async () => parties)),
    ...(await versionProblems('order', 'produces', schemas, async () => parties)),
  ].join('\n')
}

test('the schema as it is has none', async () => {
  expect(await problems()).toBe('')
})

test.each<[string, (schema: Schema) => void, RegExp]>([
  [
    'a field that is renamed without an alias',
    (schema) => Object.assign(field(schema, 'carrier'), { name: 'shippedBy' }),
    /notification consumes OrderShipped and uses its field carrier, which schemas\/order\/OrderShipped.avsc does not declare/,
  ],
  [
    'a used field that is removed',
    (schema) => schema.fields.splice(schema.fields.indexOf(field(schema, 'trackingNumber')), 1),
    /uses its field trackingNumber/,
  ],
  [
    'a new field without a default',
    (schema) => schema.fields.push({ name: 'addedHere', type: 'string' }),
    /notification consumes OrderShipped: \[READER_FIELD_MISSING_DEFAULT_VALUE .*\n.*With schemas\/order\/OrderShipped.avsc as reader and version 1 .* could no longer be read/,
  ],
  [
    'a field that no handler uses and that older readers need',
    (schema) => schema.fields.splice(schema.fields.indexOf(field(schema, 'shippedAt')), 1),
    /notification consumes OrderShipped: \[READER_FIELD_MISSING_DEFAULT_VALUE .*\n.*With version 1 .* as reader and schemas\/order\/OrderShipped.avsc as writer: services that are not yet redeployed/,
  ],
  [
    'another type',
    (schema) => Object.assign(field(schema, 'trackingNumber'), { type: 'long' }),
    /notification consumes OrderShipped: \[TYPE_MISMATCH/,
  ],
  [
    'another logical type',
    (schema) => Object.assign(field(schema, 'shippedAt'), { type: { type: 'long', logicalType: 'timestamp-micros' } }),
    /notification consumes OrderShipped: \[LOGICAL_TYPE_CHANGED/,
  ],
])(
  '%s is told with the name of the service, and to the producer with those of the consumers',
  async (_, change, message) => {
    edit(change)
    const told = await problems()
    expect(told).toMatch(message)
    expect(told).toMatch(
      /order produces OrderShipped: .*\n.*Breaks consumers of OrderShipped: inventory, notification; producers: order/,
    )
  },
)

test('a field more, with a default, is none', async () => {
  edit(({ fields }) => fields.push({ name: 'addedHere', type: 'string', default: '' }))
  expect(await problems()).toBe('')
})

test('a file that is missing, or no JSON, or no schema, is told', async () => {
  writeFileSync(join(root, file), '{')
  await expect(problems()).rejects.toThrow('schemas/order/OrderShipped.avsc is no JSON')
  writeFileSync(join(root, file), '{"type": "recrd"}')
  expect(await problems()).toContain('notification consumes OrderShipped: [NO_SCHEMA')
  rmSync(join(root, file))
  expect(await problems()).toContain(
    'notification consumes OrderShipped, and schemas/*/OrderShipped.avsc is missing: restore it',
  )
})

test("nx watches an event's schema and its golden bytes", () => {
  expect(watchedFiles(readEventSchemas('OrderShipped', registry, root))).toBe(
    '{workspaceRoot}/schemas/{order,golden}/{OrderShipped,*.OrderShipped}.*',
  )
})
