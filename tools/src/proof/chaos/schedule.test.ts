import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { faultKinds } from './faults.ts'
import { planFaults } from './schedule.ts'

const occupied = (kind: string, target: string) => faultKinds.find((one) => one.kind === kind)?.occupies(target) ?? []

test('two minutes hold every kind of fault, and nothing is touched by two at once', () => {
  fc.assert(
    fc.property(fc.string(), fc.integer({ min: 120_000, max: 600_000 }), (seed, runMs) => {
      const plan = planFaults(seed, runMs, faultKinds)
      expect([...new Set(plan.map(({ kind }) => kind))].toSorted()).toEqual(
        faultKinds.map(({ kind }) => kind).toSorted(),
      )
      const busyUntil = new Map<string, number>()
      for (const { at, kind, target, durationMs } of plan) {
        expect(at + durationMs).toBeLessThanOrEqual(runMs + 1)
        for (const place of occupied(kind, target)) {
          expect(busyUntil.get(place) ?? 0).toBeLessThanOrEqual(at)
          busyUntil.set(place, at + durationMs)
        }
      }
    }),
    { numRuns: 200 },
  )
})

test('the same seed plans the same faults, another seed others', () => {
  const [first, again, other] = ['7', '7', '8'].map((seed) => planFaults(seed, 600_000, faultKinds))
  expect(again).toEqual(first)
  expect(other).not.toEqual(first)
})
