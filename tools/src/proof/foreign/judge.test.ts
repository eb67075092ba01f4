import { expect, test } from '@jest/globals'
import { delaysOf, judgeDelays, judgeReleased } from './judge.ts'
import type { Order } from './orders.ts'

const order = (partition: number, postedAt: number, decidedAt?: number): Order => ({
  id: `order-${partition}-${postedAt}`,
  partition,
  postedAt,
  status: decidedAt === undefined ? 'pending' : 'confirmed',
  ...(decidedAt !== undefined && { decidedAt }),
})

test('delays are those from post to decision; of an order that nobody decided it has no end', () => {
  const hundred = Array.from({ length: 100 }, (_, n) => order(0, 0, n + 1))
  expect(delaysOf(hundred)).toEqual({ count: 100, median: 51, p99: 100, max: 100 })
  expect(delaysOf([order(0, 0)]).max).toBe(Number.POSITIVE_INFINITY)
  expect(delaysOf([])).toMatchObject({ count: 0, max: 0 })
})

test('an order may be a second later than 99 % of the usual ones, and not more', () => {
  const usual = delaysOf([order(0, 0, 80)])
  expect(judgeDelays('claim', [order(1, 0, 1_080)], usual).against).toEqual([])
  expect(judgeDelays('claim', [order(1, 0, 1_080), order(2, 0, 1_081)], usual).against).toEqual([
    'order order-2-0 of partition 2: confirmed after 1081 ms',
  ])
})

test('orders behind an obstacle have 5 s from its end, later ones from their post; others are none of its concern', () => {
  const ended = new Map([[3, 30_000]])
  const good = [order(3, 1_000, 34_000), order(3, 31_000, 35_500), order(4, 0, 90_000)]
  expect(judgeReleased('claim', good, ended)).toMatchObject({
    against: [],
    told: '1 had waited, the last of them was decided 4000 ms after it',
  })
  const late = [...good, order(3, 2_000, 35_001), order(3, 3_000)]
  expect(judgeReleased('claim', late, ended).against).toHaveLength(2)
})

test('where no order had to wait for an obstacle, nothing was shown', () => {
  expect(judgeReleased('claim', [order(3, 1_000, 2_000)], new Map([[3, 30_000]])).against).toEqual([
    'no order had to wait, so that nothing was shown',
  ])
})
