import { afterEach, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { eventually } from '@shopstream/testing'
import { on } from '../event/consumption.ts'
import { openTestShop, stockEvents, type TestShop } from '../testing/shop.ts'
import { backlogLimitsOf, checkBacklog, checkParked } from './readiness.ts'

let shop: TestShop
afterEach(() => shop?.close())

test('more parked messages than their limit, or older ones, are told with their figures, and are kept', async () => {
  shop = await openTestShop({
    policy: { attempts: 1 },
    trouble: () => {
      throw new Error('never')
    },
  })
  await shop.start()
  await shop.emit(...stockEvents('sku', 1, 3))
  await eventually('the parked', async () => (await shop.parked()).length === 3)
  const check = (count: number, ageSeconds: number) => checkParked(shop.database, { count, ageSeconds })
  await check(3, 3_600)
  await expect(check(2, 3_600)).rejects.toThrow('3 messages are parked, 1 of them dead')
  await sql`update parked_message set parked_at = now() - interval '2 hours' where state = 'dead'`.execute(
    shop.database.query,
  )
  await expect(check(3, 3_600)).rejects.toThrow(/the oldest for 72\d\d s; the limits are 3 and 3600 s/)
  expect(await shop.parked()).toHaveLength(3)
})

test('a topic is late by the lowest limit of the rows that need it', () => {
  const limits = backlogLimitsOf([
    on({ OrderPlaced: [] }, async () => {}, { backlogSeconds: 60 }),
    on({ OrderShipped: [] }, async () => {}, { backlogSeconds: 30 }),
  ])
  expect(limits).toEqual(new Map([['shop.order.v1', 30]]))
  checkBacklog(new Map([['shop.order.v1', 30]]), limits)
  checkBacklog(new Map([['shop.user.v1', 1_000]]), limits)
  expect(() => checkBacklog(new Map([['shop.order.v1', 31]]), limits)).toThrow(
    'shop.order.v1 waits for 31 s, the limit is 30 s',
  )
})
