import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { Lane } from '../event/consumption.ts'
import { createGate, nextTurn } from './lanes.ts'

test.each<[Record<Lane, number>, number, Lane | undefined]>([
  [{ urgent: 0, bulk: 0 }, 0, undefined],
  [{ urgent: 1, bulk: 5 }, 0, 'urgent'],
  [{ urgent: 0, bulk: 5 }, 0, 'bulk'],
  [{ urgent: 9, bulk: 1 }, 7, 'urgent'],
  [{ urgent: 9, bulk: 1 }, 8, 'bulk'],
  [{ urgent: 9, bulk: 0 }, 8, 'urgent'],
])('of %j after %d urgent turns: %s', (waiting, passed, lane) => {
  expect(nextTurn(waiting, passed)).toBe(lane)
})

test('whatever comes, no more run than may, all get their turn, and bulk never lets more than eight pass', async () => {
  // From as many of each to a single bulk one among all the others, which is the one that would starve.
  const arrivals = fc.integer({ min: 1, max: 50 }).chain((weight) => {
    const urgent = { weight, arbitrary: fc.constant<Lane>('urgent') }
    return fc.array(fc.oneof(urgent, { weight: 1, arbitrary: fc.constant<Lane>('bulk') }), {
      minLength: 1,
      maxLength: 60,
      size: 'max',
    })
  })
  await fc.assert(
    fc.asyncProperty(arrivals, fc.integer({ min: 1, max: 5 }), async (lanes, atOnce) => {
      const gate = createGate(atOnce)
      const turns: Lane[] = []
      let running = 0
      let most = 0
      await Promise.all(
        lanes.map(async (lane) => {
          const turn = await gate.enter(lane, undefined)
          turns.push(lane)
          most = Math.max(most, ++running)
          await new Promise(setImmediate)
          running -= 1
          turn?.leave()
        }),
      )
      expect(turns).toHaveLength(lanes.length)
      expect(most).toBeLessThanOrEqual(atOnce)
      const queued = turns.slice(Math.min(atOnce, turns.length)) // the first went in before anybody waited
      const text = queued.map((lane) => lane[0]).join('')
      const lastBulk = text.lastIndexOf('b')
      expect(text.slice(0, lastBulk + 1)).not.toMatch(/u{9}/)
    }),
    { numRuns: 100 },
  )
})
