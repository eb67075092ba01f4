import { afterEach, beforeEach, expect, jest, test } from '@jest/globals'
import { createMetrics, measureTogether } from './index.ts'

beforeEach(() => void jest.useFakeTimers())
afterEach(() => void jest.useRealTimers())

const metrics = createMetrics('order')
const failed = jest.fn()
/** The looks that have no answer yet. */
const looks: PromiseWithResolvers<number>[] = []
measureTogether(
  metrics,
  () => {
    const look = Promise.withResolvers<number>()
    looks.push(look)
    return look.promise
  },
  failed,
  [
    { name: 'first', help: 'One.', value: (found) => found },
    { name: 'second', help: 'By state.', labelNames: ['state'], values: (found) => ({ on: found }) },
  ],
)
/** What is shown once this time has passed. */
async function shown(ms: number): Promise<string> {
  const text = metrics.metrics()
  await jest.advanceTimersByTimeAsync(ms)
  return text
}

test('a look that hangs is given up after 3 s, told once, and not begun again beside itself', async () => {
  expect(await shown(3_000)).not.toMatch(/^(first|second)\{/m)
  expect(await shown(3_000)).toMatch(/^shopstream_service_info\{service="order"\} 1$/m)
  expect(failed.mock.calls).toEqual([[new Error('not measured within 3000 ms')], [expect.any(Error)]])
  expect(looks).toHaveLength(1)
  const text = metrics.metrics()
  looks[0]?.resolve(7)
  expect(await text).toMatch(/^first\{service="order"\} 7\n(.*\n)*second\{state="on",service="order"\} 7$/m)
})

test('a look that fails after it was given up harms nobody, and the next one counts', async () => {
  await shown(3_000)
  looks[1]?.reject(new Error('the database has ended'))
  await jest.advanceTimersByTimeAsync(0)
  const text = metrics.metrics()
  looks[2]?.resolve(8)
  expect(await text).toMatch(/^first\{service="order"\} 8$/m)
})
