import { afterEach, expect, test } from '@jest/globals'
import { eventually } from '@shopstream/testing'
import { outgoing } from '../outbox/outbox.ts'
import { openTestShop, sequencesByKey, stockEvents, type TestShop, upTo } from '../testing/shop.ts'
import { stockEvent } from '../testing/stock.ts'

let shop: TestShop
afterEach(() => shop?.close())

const partitionFor = (key: string) => outgoing('shop', stockEvent(key, 1n)).partition
/** A key like `name`, in the partition of `other` or in another one. */
const keyIn = (name: string, other: string, same: boolean) =>
  upTo(100)
    .map((n) => `${name}-${n}`)
    .find((key) => (partitionFor(key) === partitionFor(other)) === same) as string

test('a partition whose row says block stands still until its message is handled, and says so; others go on, none is parked', async () => {
  const [behind, elsewhere] = [keyIn('behind', 'bad', true), keyIn('elsewhere', 'bad', false)]
  let isBroken = true
  let tries = 0
  shop = await openTestShop({
    policy: { onFailure: 'block', attempts: 2 },
    trouble: ({ key, sequence }) => {
      if (!isBroken || key !== 'bad' || sequence !== 2n) return
      tries += 1
      throw new Error('not yet')
    },
  })
  const { checks } = await shop.start()
  const standing = async () => {
    const verdicts = await Promise.allSettled(checks.map(async (check) => check.check()))
    return verdicts.flatMap((verdict) => (verdict.status === 'rejected' ? [String(verdict.reason)] : [])).join()
  }
  await shop.emit(...stockEvents('bad', 1, 3), stockEvent(behind, 1n), ...stockEvents(elsewhere, 1, 3))
  await eventually('more attempts than a parked message gets', () => tries > 6)
  await eventually('the other partition', async () => (await shop.effects()).length === 4)
  expect(sequencesByKey(await shop.effects())).toEqual({ bad: [1], [elsewhere]: upTo(3) })
  expect(await standing()).toMatch(/shop\.stock\.v1\/\d+ stands still since .* Error: not yet/)
  expect(await shop.parked()).toEqual([])

  isBroken = false
  await eventually('all effects', async () => (await shop.effects()).length === 7)
  expect(sequencesByKey(await shop.effects())).toEqual({ bad: upTo(3), [behind]: [1], [elsewhere]: upTo(3) })
  await eventually('the check to be in order', async () => !(await standing()).includes('stands still'))
})
