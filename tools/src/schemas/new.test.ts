import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { runCommand } from '@shopstream/testing'
import { checkSchemas } from './check.ts'
import { workspace } from './files.ts'
import { layOut } from './layout.ts'
import { newEvent } from './new.ts'
import { type Copy, copySchemas } from './testing.ts'
import { readTopics } from './topics-lock.ts'
import { readWiring } from './wiring.ts'

let copy: Copy
beforeEach(() => {
  copy = copySchemas(layOut)
})
afterEach(() => copy.drop())

const add = (event: string, topic: string, more = {}) => newEvent({ root: copy.root, event, topic, ...more })

test('schema, topic, row of the producer and what nx watches', async () => {
  expect(add('OrderRehearsed', 'shop.order.v1')).toEqual([
    'schemas/order/OrderRehearsed.avsc',
    'libs/events/src/catalogue/topics.ts',
    'services/order/src/produces.ts',
    'services/order/package.json',
  ])
  expect(JSON.parse(copy.read('schemas/order/OrderRehearsed.avsc'))).toEqual({
    type: 'record',
    name: 'OrderRehearsed',
    namespace: 'shopstream.order',
    doc: 'An order was rehearsed.',
    fields: [
      { name: 'orderId', doc: 'The order, and the key of its topic.', type: { type: 'string', logicalType: 'uuid' } },
      { name: 'rehearsedAt', doc: 'When this happened.', type: { type: 'long', logicalType: 'timestamp-millis' } },
    ],
  })
  expect(copy.read('libs/events/src/catalogue/topics.ts')).toContain(
    "    'OrderCancelled',\n    'OrderRehearsed',\n  ]),",
  )
  expect(copy.read('services/order/src/produces.ts')).toContain("  'OrderCancelled',\n  'OrderRehearsed',\n])")
  expect(JSON.parse(copy.read('services/order/package.json')).nx.namedInputs.contracts).toContain(
    '{workspaceRoot}/schemas/{order,golden}/{OrderRehearsed,*.OrderRehearsed}.*',
  )
  const topics = await readTopics(copy.root)
  const findings = await checkSchemas({ root: copy.root, topics, wiring: await readWiring(workspace) })
  expect(findings.map(({ rule }) => rule)).toEqual(['unregistered', 'topic-unregistered'])
})

test.each([
  ['StockCounted', 'shop.stock.v1', { producer: 'inventory' }],
  ['SigningKeyRevoked', 'shop.signing-key.v1', {}],
  ['UserRenamed', 'shop.user.v1', { doc: 'A user has another name.' }],
  ['NotificationBounced', 'shop.notification.v1', {}],
])('%s: biome leaves the files as they are', async (event, topic, more) => {
  const files = add(event, topic, more)
  const [schema = ''] = files
  expect(layOut(copy.read(schema))).toBe(copy.read(schema))
  const { formatter, javascript } = JSON.parse(biomeSettings())
  copy.write('biome.json', JSON.stringify({ formatter, javascript }))
  const biome = join(workspace, 'node_modules/.bin/biome')
  await runCommand(biome, ['format', ...files.slice(1)], { cwd: copy.root })
})

const biomeSettings = () => readFileSync(join(workspace, 'biome.json'), 'utf8')

describe('refused, and nothing is written:', () => {
  test.each([
    ['orderRehearsed', 'shop.order.v1', {}, 'PascalCase'],
    ['Returned', 'shop.order.v1', {}, 'two words or more'],
    ['Order-Rehearsed', 'shop.order.v1', {}, 'PascalCase'],
    ['../OrderRehearsed', 'shop.order.v1', {}, 'PascalCase'],
    ['AbortController', 'shop.order.v1', {}, 'taken by JavaScript'],
    ['EventName', 'shop.order.v1', {}, 'taken by the generated types'],
    ['OrderPlaced', 'shop.order.v1', {}, 'there already, as shopstream.order.OrderPlaced'],
    ['OrderLine', 'shop.order.v1', {}, 'there already, as shopstream.order.OrderLine'],
    ['OrderRehearsed', 'shop.orders.v1', {}, 'there is no topic shop.orders.v1; there are shop.user.v1'],
    ['OrderRehearsed', 'order', {}, 'there is no topic order'],
    ['OrderRehearsed', 'shop.order.v1', { producer: 'orders' }, 'services/orders/src/produces.ts is missing'],
    ['SchemaForgotten', 'shop.schema.v1', {}, 'no service produces the other events'],
  ])('%s in %s', (event, topic, more, words) => {
    const files = [
      'libs/events/src/catalogue/topics.ts',
      'services/order/src/produces.ts',
      'services/order/package.json',
    ]
    const before = files.map(copy.read)
    expect(() => add(event, topic, more)).toThrow(words)
    expect(files.map(copy.read)).toEqual(before)
  })

  test('what is there already', () => {
    add('OrderRehearsed', 'shop.order.v1')
    expect(() => add('OrderRehearsed', 'shop.order.v1')).toThrow('there already')
    copy.remove('schemas/order/OrderRehearsed.avsc')
    expect(() => add('OrderRehearsed', 'shop.order.v1')).toThrow('shop.order.v1 lists OrderRehearsed already')
  })
})
