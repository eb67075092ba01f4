import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { serviceNames } from '../services.ts'
import { deadLetterTopics, readWiring, withSchemas } from './wiring.ts'

const workspace = join(import.meta.dirname, '../../..')

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'shopstream-wiring-'))
})
afterEach(() => rmSync(root, { recursive: true }))

const write = (file: string, text: string) => {
  mkdirSync(join(root, dirname(file)), { recursive: true })
  writeFileSync(join(root, file), text)
}
const produces = (name: string) => `export const produces = { service: '${name}', events: ['OrderPlaced'] }`
const consumes = `export const consumes = [{ events: ['UserErased'], uses: { UserErased: ['userId'], StockSold: [] } }]`

test('reads the tables of the services of this workspace', async () => {
  const wiring = await readWiring(workspace)
  expect(wiring.map(({ service }) => service)).toEqual(serviceNames.toSorted())
  const order = wiring.find(({ service }) => service === 'order')
  expect(order?.produces).toContain('OrderPlaced')
  expect(order?.consumes).toContainEqual({ event: 'StockRejected', fields: ['shortages'] })
  expect(wiring.find(({ service }) => service === 'user')?.consumes).toEqual([])
})

test('reads services in order, each event with the fields that are used', async () => {
  for (const name of ['b', 'a']) {
    write(`services/${name}/src/produces.ts`, produces(name))
    write(`services/${name}/src/consumes.ts`, consumes)
  }
  write('services/gateway/src/app.ts', '')
  const used = [
    { event: 'UserErased', fields: ['userId'] },
    { event: 'StockSold', fields: [] },
  ]
  expect(await readWiring(root)).toEqual([
    { service: 'a', produces: ['OrderPlaced'], consumes: used },
    { service: 'b', produces: ['OrderPlaced'], consumes: used },
  ])
})

test.each([
  ['a table is missing', { 'services/a/src/produces.ts': produces('a') }, 'services/a/src/consumes.ts is missing'],
  [
    'a table is not exported',
    { 'services/b/src/produces.ts': produces('b'), 'services/b/src/consumes.ts': 'export const other = []' },
    'services/b/src/consumes.ts exports no `consumes`',
  ],
  [
    'the events are not exported',
    { 'services/c/src/produces.ts': 'export const events = []', 'services/c/src/consumes.ts': consumes },
    'services/c/src/produces.ts exports no `produces`',
  ],
])('is refused when %s', async (_, files, problem) => {
  for (const [file, text] of Object.entries(files)) write(file, text as string)
  await expect(readWiring(root)).rejects.toThrow(problem)
})

test('the deployment writes the schemas, and whoever consumes anything reads them', () => {
  const consumer = { service: 'a', produces: [], consumes: [{ event: 'UserErased' as const, fields: ['userId'] }] }
  const producer = { service: 'b', produces: ['OrderPlaced' as const], consumes: [] }
  expect(withSchemas([consumer, producer])).toEqual([
    { service: 'deployment', produces: ['SchemaRegistered'], consumes: [] },
    {
      ...consumer,
      consumes: [...consumer.consumes, { event: 'SchemaRegistered', fields: ['schemaId', 'subject', 'schema'] }],
    },
    producer,
  ])
  expect(deadLetterTopics([consumer, producer]).map(({ name }) => name)).toEqual(['shop.a.dlq'])
})
