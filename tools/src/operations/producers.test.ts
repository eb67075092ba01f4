import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { repository, temporaryFolder } from '@shopstream/testing'
import { Refusal } from '../terminal/options.ts'
import { isListedBy, readProducers } from './verify/producers.ts'

const folder = temporaryFolder('producers')
afterAll(() => rmSync(folder, { recursive: true }))

const erp = { source: '/erp', topic: 'shop.product.v1', events: ['ProductListed'], keys: 'ERP-\\d+|OLD' }
const message = { topic: 'shop.product.v1', key: 'ERP-1', headers: { ce_source: '/erp', ce_type: 'ProductListed' } }

test.each([
  ['an event of its own', {}, true],
  ['its other keys', { key: 'OLD' }, true],
  ['a key that begins like one of its own', { key: 'ERP-1-x' }, false],
  ['a key that ends like one of its own', { key: 'x-OLD' }, false],
  ['no key', { key: null }, false],
  ['another topic', { topic: 'shop.stock.v1' }, false],
  ['another type', { headers: { ...message.headers, ce_type: 'ProductRetired' } }, false],
  ['no type', { headers: { ce_source: '/erp' } }, false],
  ['another source', { headers: { ...message.headers, ce_source: '/erp/other' } }, false],
  ['no source', { headers: { ce_type: 'ProductListed' } }, false],
])('%s: listed %j? %s', (_, change, listed) => {
  expect(isListedBy([erp])({ ...message, ...change })).toBe(listed)
})

test('a listed producer writes keys of its own alone, and nobody as a service', () => {
  const isListed = isListedBy([erp])
  const claimed = { ...message.headers, ce_source: '/shopstream/inventory' }
  const own = [message, { ...message, key: 'sku-1' }, { ...message, headers: claimed }].map(isListed)
  expect(own).toEqual([true, false, false])
})

test.each([
  ['what is no JSON', 'none', /JSON/],
  ['no list', '{}', /no list/],
  ['a row that is none', [null], /row 1: source is missing/],
  ['a source of the shop', [erp, { ...erp, source: '/shopstream/user' }], /row 2: .* is a service of the shop/],
  ['a topic that there is not', [{ ...erp, topic: 'shop.none.v1' }], /topic is none of/],
  ['no events', [{ ...erp, events: [] }], /events/],
  ['an event of another topic', [{ ...erp, events: ['OrderPlaced'] }], /has no event OrderPlaced/],
  ['no keys', [{ ...erp, keys: undefined }], /keys/],
  ['keys that are no expression', [{ ...erp, keys: '(' }], /Invalid regular expression/],
])('%s is refused', async (_, content, reason) => {
  const file = join(folder, 'producers.json')
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
  const reading = readProducers(file)
  await expect(reading).rejects.toThrow(Refusal)
  await expect(reading).rejects.toThrow(reason)
})

test('without a file nobody is listed; that of the examples can be read', async () => {
  expect((await readProducers(undefined))(message)).toBe(false)
  const isListed = await readProducers(join(repository, 'examples/producers.json'))
  expect(isListed({ ...message, headers: { ...message.headers, ce_source: '/erp/price-list' } })).toBe(true)
  await expect(readProducers('none.json')).rejects.toThrow(/FOREIGN_PRODUCERS.*none\.json/)
})
