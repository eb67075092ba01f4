import { afterEach, expect, test } from '@jest/globals'
import { partitionOf, topicOf } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { openTestShop, type TestShop } from '../../testing/shop.ts'
import { stockEvent } from '../../testing/stock.ts'
import { GroupHasMembers } from '../bus.ts'

const topic = topicOf('StockLevelChanged')
let shop: TestShop
afterEach(() => shop.close())

/** Publishes three events of each key. */
async function publish(...skus: string[]): Promise<void> {
  shop = await openTestShop()
  const relay = await shop.start([])
  await shop.emit(...skus.flatMap((sku) => [1n, 2n, 3n].map((sequence) => stockEvent(sku, sequence))))
  await eventually('the events to be out', () => relay.hasPublished())
}

const placeOfSku = (sku: string) => ({ topic: topic.name, partition: partitionOf(sku, topic.partitions) })

test('of topics only the partitions that are asked for are read, each from its offset', async () => {
  const [wanted, other] = ['sku-1', 'sku-3']
  expect(placeOfSku(wanted)).not.toEqual(placeOfSku(other))
  await publish(wanted, other)
  const read: string[] = []
  await shop.bus.read({
    topics: [topic.name],
    partitions: [{ ...placeOfSku(wanted), from: 1n }],
    toEnd: true,
    handle: (messages) => void read.push(...messages.map(({ key, offset }) => `${key}@${offset}`)),
  })
  expect(read).toEqual([`${wanted}@1`, `${wanted}@2`])
})

test('a group is rewound to offsets, a time or the beginning, never forward, and not while it has members', async () => {
  const sku = 'sku-1'
  await publish(sku)
  const { bus } = shop
  const done = async () => {
    const positions = await bus.positions('rewound', [topic.name])
    return positions.find(({ partition }) => partition === placeOfSku(sku).partition)?.done
  }
  const consumer = bus.consume({
    group: 'rewound',
    topics: [topic.name],
    handle: async ({ next }, partition) => partition.done(next),
  })
  await eventually('all to be handled', async () => (await done()) === 3n)
  await expect(bus.rewind('rewound', [topic.name])).rejects.toThrow(GroupHasMembers)
  await consumer.close()
  await eventually('the group to be empty', async () => (await bus.members('rewound')) === 0)

  await bus.rewind('rewound', [topic.name], [{ ...placeOfSku(sku), offset: 2n }])
  expect(await done()).toBe(2n)
  await bus.rewind('rewound', [topic.name], [{ ...placeOfSku(sku), offset: 3n }])
  expect(await done()).toBe(2n)
  await bus.rewind('rewound', [topic.name], new Date(Date.now() + 60_000)) // nothing was written since
  expect(await done()).toBe(2n)
  await bus.rewind('rewound', [topic.name])
  expect(await done()).toBe(0n)
})
