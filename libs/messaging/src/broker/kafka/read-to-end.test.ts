import { afterEach, expect, test } from '@jest/globals'
import { eventually } from '@shopstream/testing'
import { openTestShop, type TestShop } from '../../testing/shop.ts'
import { stockEvent } from '../../testing/stock.ts'

let shop: TestShop
afterEach(() => shop.close())

test('a topic is read to its end, from the beginning or from a time, without a group that stays', async () => {
  shop = await openTestShop()
  const relay = await shop.start([])
  await shop.emit(...[1n, 2n, 3n].map((sequence) => stockEvent('early', sequence)))
  await eventually('the first events to be out', () => relay.hasPublished())
  const between = new Date(Date.now() + 1)
  await eventually('a later millisecond', () => new Date() > between)
  await shop.emit(stockEvent('late', 1n))
  await eventually('the last event to be out', () => relay.hasPublished())
  const read = async (from?: Date | 'end') => {
    const keys: (string | null)[] = []
    await shop.bus.read({
      topics: ['shop.stock.v1', 'shop.product.v1'],
      toEnd: true,
      ...(from && { from }),
      handle: (messages) => void keys.push(...messages.map(({ key }) => key)),
    })
    return keys.filter((key) => key === 'early' || key === 'late')
  }
  expect((await read()).sort()).toEqual(['early', 'early', 'early', 'late'])
  expect(await read(between)).toEqual(['late'])
  expect(await read('end')).toEqual([])
})
