import { expect, test } from '@jest/globals'
import { eventually } from '@shopstream/testing'
import { silent } from '../../testing/shop.ts'
import { keepConsuming } from './consuming.ts'

const begin = (run: (working: () => void, stop: AbortSignal) => Promise<void>, isThere = true) =>
  keepConsuming({
    group: 'group',
    topics: [],
    topicIds: async () => new Map(),
    logger: silent,
    meters: undefined,
    pulse: { isThere: () => isThere, check: () => {} },
    run,
    isPassing: () => false,
  })

test('a consumer that breaks again and again though the broker answers fails its check, with the reason', async () => {
  const consumer = begin(async (working) => {
    working()
    throw new Error('it cannot read')
  })
  expect(() => consumer.check()).not.toThrow()
  await eventually('it to have been built anew three times', () => {
    try {
      consumer.check()
      return false
    } catch (error) {
      return String(error).includes('3 times in a row: it cannot read')
    }
  })
  await consumer.close()
})

test('one that cannot work since the broker is away does not', async () => {
  let built = 0
  const consumer = begin(async () => {
    built += 1
    throw new Error('nobody answers')
  }, false)
  await eventually('several', () => built > 4)
  expect(() => consumer.check()).not.toThrow()
  await consumer.close()
})

test('one that broke once and works does not', async () => {
  let built = 0
  const consumer = begin(async (working, stop) => {
    built += 1
    if (built === 1) throw new Error('once')
    working()
    await new Promise((resolve) => stop.addEventListener('abort', resolve))
  })
  expect(consumer.isWorking()).toBe(false)
  await eventually('it to work again', () => consumer.isWorking())
  expect(built).toBe(2)
  expect(() => consumer.check()).not.toThrow()
  await consumer.close()
})
