import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { topics } from '@shopstream/events'
import { register } from '../workspace/register.ts'
import { diff } from './diff.ts'
import { layOut } from './layout.ts'
import { type Copy, copySchemas, type Json } from './testing.ts'

let copy: Copy
beforeEach(() => {
  copy = copySchemas(layOut)
})
afterEach(() => copy.drop())

const placed = 'schemas/order/OrderPlaced.avsc'

test('the file against the version it follows, in words', () => {
  copy.edit(placed, ({ fields }) => {
    const named = (all: Json[], name: string) => all.find((field) => field.name === name)
    named(named(fields, 'lines').type.items.fields, 'quantity').type = 'long'
    named(fields, 'orderId').name = 'orderNumber'
    fields.push({ name: 'note', doc: 'A note.', type: ['null', 'string'], default: null })
  })
  const { from, to, changes, backward, forward } = diff(copy.root, 'OrderPlaced')
  expect([from, to]).toEqual(['version 1', 'file'])
  expect(changes).toEqual([
    { what: 'removed', path: 'orderId', from: 'uuid' },
    { what: 'changed', path: 'lines[].quantity', from: 'int', to: 'long' },
    { what: 'added', path: 'orderNumber', to: 'uuid' },
    { what: 'added', path: 'note', to: 'string or null, default null' },
  ])
  expect(backward.map(({ type }) => type)).toEqual(['READER_FIELD_MISSING_DEFAULT_VALUE'])
  expect(forward.map(({ type }) => type).toSorted()).toEqual(['READER_FIELD_MISSING_DEFAULT_VALUE', 'TYPE_MISMATCH'])
})

test('two versions, the last two by default; docs are no part of them', async () => {
  copy.edit(placed, ({ fields }) => fields.push({ name: 'note', doc: 'A.', type: ['null', 'string'], default: null }))
  await register({ root: copy.root, wiring: [], topics })
  copy.replace(placed, 'The buyer.', 'Who buys.')
  const expected = { from: 'version 1', to: 'version 2', backward: [], forward: [] }
  expect(diff(copy.root, 'OrderPlaced')).toMatchObject({ ...expected, changes: [{ what: 'added', path: 'note' }] })
  expect(diff(copy.root, 'OrderPlaced', '2', '1')).toMatchObject({ changes: [{ what: 'removed', path: 'note' }] })
  expect(diff(copy.root, 'OrderPlaced', '2', 'file').changes).toEqual([])
})

test('what there is not', () => {
  expect(diff(copy.root, 'OrderShipped')).toMatchObject({ from: 'version 1', to: 'version 1', changes: [] })
  expect(() => diff(copy.root, 'OrderLost')).toThrow('there is no event OrderLost; there are NotificationFailed')
  expect(() => diff(copy.root, 'OrderPlaced', '1', '9')).toThrow('there is no 9 of it; there are version 1, file')
  copy.write(placed, '{')
  expect(() => diff(copy.root, 'OrderPlaced', '1', 'file')).toThrow('is no schema')
})
