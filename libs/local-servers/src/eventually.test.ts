import { expect, test } from '@jest/globals'
import { eventually } from './eventually.ts'

test('returns the first truthy value', async () => {
  let calls = 0
  const probe = () => {
    calls += 1
    if (calls === 1) throw new Error('not yet')
    return calls > 2 ? `call ${calls}` : 0
  }
  expect(await eventually('the third call', probe, { everyMs: 1 })).toBe('call 3')
})

test.each([
  ['the last value', async () => 0, 'waited 20 ms for bread; the last value was 0'],
  ['the last error', () => Promise.reject(new Error('oven off')), 'oven off'],
])('says what it waited for and %s', async (_, probe, message) => {
  await expect(eventually<unknown>('bread', probe, { timeoutMs: 20, everyMs: 1 })).rejects.toThrow(message)
})

test('a probe that hangs does not hide what was awaited', async () => {
  const hanging = eventually('an answer', () => new Promise<boolean>(() => {}), { timeoutMs: 20 })
  await expect(hanging).rejects.toThrow('waited 20 ms for an answer')
})
