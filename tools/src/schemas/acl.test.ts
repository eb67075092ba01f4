import { beforeAll, expect, test } from '@jest/globals'
import { topics } from '@shopstream/events'
import { aclsOf, printAcls } from './acl.ts'
import { readModel } from './model-of-workspace.ts'
import type { Model } from './wiring.ts'

let model: Model
beforeAll(async () => {
  model = await readModel()
})

const kinds = { TOPIC: '', GROUP: 'group ', TRANSACTIONAL_ID: 'as ' }

/** `READ shop.order.v1`, one line for each permission of a principal. */
const permissions = (principal: string) =>
  aclsOf(model)
    .filter((row) => row.principal === principal)
    .flatMap(({ operations, resourceType, resourceName }) =>
      operations
        .filter((operation) => operation !== 'DESCRIBE')
        .map((operation) => `${operation} ${kinds[resourceType]}${resourceName}`),
    )
    .toSorted()

test('a service may do what its tables say, and nothing else', () => {
  expect(permissions('User:order')).toEqual([
    'READ group order',
    'READ shop.product.v1',
    'READ shop.reservation.v1',
    'READ shop.schema.v1',
    'READ shop.signing-key.v1',
    'WRITE as order-relay',
    'WRITE shop.order.dlq',
    'WRITE shop.order.v1',
  ])
})

test('a service that consumes nothing has no group, no dead letters, and does not read schemas', () => {
  expect(permissions('User:user')).toEqual(['WRITE as user-relay', 'WRITE shop.signing-key.v1', 'WRITE shop.user.v1'])
})

test('the deployment alone creates and configures topics, and writes schemas', () => {
  const created = [...topics.map(({ name }) => name), ...model.wiring.map(({ service }) => `shop.${service}.dlq`)]
  expect(permissions('User:deployment')).toEqual(
    [
      ...created.flatMap((name) => [`CREATE ${name}`, `ALTER_CONFIGS ${name}`]),
      'WRITE shop.schema.v1', // nothing else is written by it
    ].toSorted(),
  )
  const operationsOf = (isMeant: (principal: string) => boolean) =>
    new Set(aclsOf(model).flatMap((row) => (isMeant(row.principal) ? row.operations : [])))
  const services = model.wiring.map(({ service }) => `User:${service}`)
  expect(operationsOf((principal) => services.includes(principal))).toEqual(new Set(['READ', 'WRITE', 'DESCRIBE']))
  expect(operationsOf((principal) => principal === 'User:operator')).toEqual(
    new Set(['READ', 'DESCRIBE', 'ALTER', 'WRITE']),
  )
})

test('operators read all topics and groups, and write what they move where topics keep states', () => {
  const may = permissions('User:operator')
  const names = [...topics.map(({ name }) => name), ...model.wiring.map(({ service }) => `shop.${service}.dlq`)]
  expect(may.filter((one) => one.startsWith('READ shop.'))).toEqual(names.map((name) => `READ ${name}`).toSorted())
  const withBridges = model.wiring.filter(({ forwards }) => forwards)
  expect(may.filter((one) => one.startsWith('READ group '))).toHaveLength(model.wiring.length + withBridges.length)
  expect(may.filter((one) => one.startsWith('WRITE'))).toEqual([
    'WRITE shop.product.v1',
    'WRITE shop.signing-key.v1',
    'WRITE shop.user.v1',
  ])
  expect(may).not.toContain('ALTER shop.schema.v1') // `grow` refuses it
})

test('each topic of the catalogue that is written has its writers and readers, by row of the tables', () => {
  for (const { service, produces, consumes, forwards = [] } of model.wiring) {
    for (const { name, events } of topics) {
      if (name === 'shop.schema.v1') continue
      const may = permissions(`User:${service}`)
      expect(may.includes(`WRITE ${name}`)).toBe(events.some((event) => produces.includes(event)))
      const read = [...consumes.map(({ event }) => event), ...forwards]
      expect(may.includes(`READ ${name}`)).toBe(events.some((event) => read.includes(event)))
    }
  }
})

test('no row is a wildcard, groups of bridges alone are a prefix, and no principal has two rows for one thing', () => {
  const rows = aclsOf(model)
  expect(rows.filter(({ resourceName }) => resourceName === '*')).toEqual([])
  const prefixes = rows.filter(({ patternType }) => patternType !== 'LITERAL')
  expect(prefixes.map(({ resourceType, resourceName }) => `${resourceType} ${resourceName}`)).toEqual([
    'GROUP bridge-',
    'GROUP bridge-',
  ])
  const places = rows.map(({ principal, resourceType, resourceName }) => `${principal} ${resourceType} ${resourceName}`)
  expect(new Set(places).size).toBe(places.length)
})

test('one that both writes and reads a topic has one row for it', () => {
  const both = {
    service: 'a',
    produces: ['UserErased' as const],
    consumes: [{ event: 'UserErased' as const, fields: [] }],
  }
  expect(aclsOf({ topics, wiring: [both] })).toContainEqual(
    expect.objectContaining({ resourceName: 'shop.user.v1', operations: ['WRITE', 'READ', 'DESCRIBE'] }),
  )
})

test('is printed as JSON that says the same', () => {
  expect(JSON.parse(printAcls(model))).toEqual({ acls: aclsOf(model) })
  expect(printAcls(model)).toContain('"operations": ["READ", "DESCRIBE"]')
})
