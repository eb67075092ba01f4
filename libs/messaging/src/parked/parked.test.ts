import { afterEach, expect, test } from '@jest/globals'
import { topicOf } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { collect, openTestShop, sequencesByKey, type TestShop, upTo } from '../testing/shop.ts'
import { stockEvent } from '../testing/stock.ts'

const topic = topicOf('StockLevelChanged')
let shop: TestShop
afterEach(() => shop.close())

test.each([
  ['an Error', new Error('no')],
  ['a TypeError', new TypeError('no')],
  ['a RangeError', new RangeError('no')],
  ['undefined', undefined],
])('a handler that throws %s parks its message and what follows of its key, while others go on', async (_, thrown) => {
  let isBroken = true
  shop = await openTestShop({
    policy: { attempts: 1_000 },
    trouble: ({ key, sequence }) => {
      if (isBroken && key === 'bad' && sequence === 2n) throw thrown
    },
  })
  await shop.start()
  await shop.emit(...upTo(4).flatMap((n) => [stockEvent('bad', BigInt(n)), stockEvent('good', BigInt(n))]))
  await eventually('the others', async () => (await shop.effects()).length === 5)
  await eventually('the parked', async () => (await shop.parked()).length === 3)
  expect(sequencesByKey(await shop.effects())).toEqual({ bad: [1], good: upTo(4) })
  isBroken = false
  await eventually('the retried', async () => (await shop.effects()).length === 8)
  expect(sequencesByKey(await shop.effects())).toEqual({ bad: upTo(4), good: upTo(4) })
  expect(await shop.parked()).toEqual([])
})

test('a message that fails for good is dead, goes to the dead-letter topic, and goes on blocking its key', async () => {
  shop = await openTestShop({
    policy: { attempts: 3 },
    trouble: ({ sequence }) => {
      if (sequence === 1n) throw new Error('never')
    },
  })
  const original = collect(shop.bus, topic.name)
  const dead = collect(shop.bus, 'shop.shop.dlq')
  await shop.start()
  await shop.emit(stockEvent('bad', 1n), stockEvent('bad', 2n))
  await eventually('the dead letter', () => dead.messages.length === 1)
  await eventually('both originals', () => original.messages.length === 2)
  expect(dead.messages[0]?.value).toEqual(original.messages[0]?.value)
  expect(dead.messages[0]?.headers.dlq_error?.toString()).toBe('Error: never')
  await shop.emit(stockEvent('good', 2n))
  await eventually('another key', async () => (await shop.effects()).length === 1)
  expect(await shop.parked()).toMatchObject([
    { key: 'bad', state: 'dead', attempts: 3 },
    { key: 'bad', state: 'waiting', attempts: 0 },
  ])
  await Promise.all([original.close(), dead.close()])
})

test('a dead message blocks nothing where the policy says pass', async () => {
  shop = await openTestShop({
    policy: { attempts: 1, whenDead: 'pass' },
    trouble: ({ sequence }) => {
      if (sequence === 1n) throw new Error('never')
    },
  })
  await shop.start()
  await shop.emit(stockEvent('bad', 1n), stockEvent('bad', 2n))
  await eventually('the one after', async () => (await shop.effects()).length === 1)
  expect(await shop.parked()).toMatchObject([{ state: 'dead', attempts: 1 }])
})
