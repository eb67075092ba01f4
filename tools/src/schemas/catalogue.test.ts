import { beforeAll, expect, test } from '@jest/globals'
import { topics } from '@shopstream/events'
import { parseSchema } from '@shopstream/events/schema'
import { printCatalogue } from './catalogue.ts'
import { readModel } from './model-of-workspace.ts'
import { ofTheShop } from './testing.ts'
import type { Model } from './wiring.ts'

let model: Model
let text: string
beforeAll(async () => {
  const read = await readModel()
  model = { ...read, wiring: ofTheShop(read.wiring) }
  text = printCatalogue(model)
})

/** The part below the heading of an event. */
const about = (event: string, catalogue = text) => catalogue.split(`\n### ${event}\n`)[1]?.split('\n##')[0] ?? ''

test('tells of every event once, under its topic', () => {
  const headings = text.split('\n').filter((line) => line.startsWith('## shop.') || line.startsWith('### '))
  expect(headings).toEqual(
    topics.flatMap(({ name, events }) => [`## ${name}`, ...events.map((event) => `### ${event}`)]),
  )
})

test('tells who writes an event and who reads it, with the fields that are used', () => {
  expect(about('StockRejected')).toContain('- Written by: inventory\n- Read by: order (uses `shortages`)')
  expect(about('StockReserved')).toContain('- Read by: order (its key and headers alone)')
  expect(about('OrderShipped')).toContain('- Read by: inventory (uses `orderId`); notification (uses ')
  expect(about('OrderDelivered')).toContain('- Read by: nobody yet')
  expect(about('SchemaRegistered')).toContain('- Written by: deployment')
})

test('has a row for each field, also of records in records', () => {
  expect(
    about('OrderPlaced')
      .split('\n')
      .filter((line) => line.startsWith('| `')),
  ).toEqual(
    expect.arrayContaining([
      '| `orderId` | uuid | 1 | The order, and the key of its topic. |',
      '| `userId` | uuid | 1 | The buyer. |',
      '| `lines` | array of OrderLine | 1 | What was ordered, 1 to 100 lines. |',
      '| `lines[].sku` | string | 1 | The product. |',
      '| `lines[].quantity` | int | 1 | Pieces ordered, 1 to 10,000. |',
      '| `lines[].unitPrice` | Money | 1 | Price of one piece at the time of the order. |',
      expect.stringContaining('| `lines[].unitPrice.amount` | long | 1 | '),
      expect.stringContaining('| `lines[].unitPrice.currency` | string | 1 | '),
      '| `total` | Money | 1 | Sum of all lines, in their one currency. |',
      expect.stringContaining('| `total.amount` | long | 1 | '),
      expect.stringContaining('| `total.currency` | string | 1 | '),
      '| `placedAt` | timestamp-millis | 1 | When it was accepted. |',
      '| `reservationDeadline` | timestamp-millis | 1 | An order still waiting then is cancelled. |',
    ]),
  )
})

test('says with which version a field came, and which is not registered yet', () => {
  const schema = (...more: object[]) => ({
    type: 'record',
    name: 'UserErased',
    namespace: 'shopstream.user',
    doc: 'It is gone.',
    fields: [{ name: 'userId', doc: 'One | two\nthree.', type: 'string' }, ...more],
  })
  const note = { name: 'note', doc: 'A note.', type: ['null', { type: 'map', values: 'long' }], default: null }
  const mark = { name: 'mark', doc: 'A mark.', type: { type: 'fixed', name: 'Mark', size: 2 } }
  const row = (version: number, of: object) => ({
    id: 7 + version,
    subject: 'shopstream.user.UserErased',
    version,
    fingerprint: '',
    schema: of,
  })
  const part = about(
    'UserErased',
    printCatalogue({
      ...model,
      events: [parseSchema(schema(note, mark))],
      lock: [row(1, schema()), row(2, schema(note))],
    }),
  )
  expect(part).toContain('version 1 with schema id 8, version 2 with schema id 9')
  expect(part).toContain('| `userId` | string | 1 | One \\| two three. |')
  expect(part).toContain('| `note` | map of long or null | 2 | A note. |')
  expect(part).toContain('| `mark` | 2 bytes | next | A mark. |')
})

test('links only to what is there', () => {
  const anchors = new Set(
    text
      .split('\n')
      .filter((line) => line.startsWith('### '))
      .map((line) => line.slice(4).toLowerCase()),
  )
  const links = [...text.matchAll(/\]\(#([^)]+)\)/g)].map(([, anchor]) => anchor)
  expect(links.filter((anchor) => !anchors.has(anchor as string))).toEqual([])
  expect(links.length).toBeGreaterThan(40)
})
