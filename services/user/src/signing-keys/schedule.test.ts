import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { clockSkewMs, type KeySettings, nextKeyActions, type ScheduledKey, signingKey } from './schedule.ts'

const minute = 60_000
const day = 1440 * minute
const settings: KeySettings = { lifetimeMs: 30 * day, leadMs: 10 * minute, checkMs: minute, tokenMs: 15 * minute }
const start = Date.UTC(2026, 0, 1)
const at = (ms: number) => new Date(start + ms)

const whole = settings.lifetimeMs + settings.leadMs + settings.tokenMs + clockSkewMs
const key = (id: string, activeFrom: number, retired = false): ScheduledKey => ({
  id,
  activeFrom: at(activeFrom),
  expiresAt: at(activeFrom + whole),
  retired,
})
const publish = (activeFrom: number) => ({
  do: 'publish',
  activeFrom: at(activeFrom),
  expiresAt: at(activeFrom + whole),
})
const handover = settings.lifetimeMs
const lead = settings.leadMs

const table: [what: string, keys: ScheduledKey[], now: number, actions: unknown[]][] = [
  ['the first key is used at once', [], 0, [publish(0)]],
  ['nothing is due in the middle of a key', [key('a', 0)], 10 * day, []],
  ['the next key is not published long before', [key('a', 0)], handover - lead - 3 * minute, []],
  ['it is published the lead before its use', [key('a', 0)], handover - lead - 2 * minute, [publish(handover)]],
  ['it is published once', [key('a', 0), key('b', handover)], handover - lead, []],
  ['published late, it is used the lead later', [key('a', 0)], handover - minute, [publish(handover + lead - minute)]],
  ['later still, it is used before the old one ends', [key('a', 0)], handover + lead - 1, [publish(handover + lead)]],
  ['the old key stays while its tokens live', [key('a', 0), key('b', handover)], handover + 15 * minute, []],
  [
    'then it is retired',
    [key('a', 0), key('b', handover)],
    handover + 15 * minute + clockSkewMs,
    [{ do: 'retire', id: 'a' }],
  ],
  ['a retired key is left alone', [key('a', 0, true), key('b', handover)], handover + day, []],
  [
    'after an outage longer than a key there is a new one at once',
    [key('a', 0)],
    2 * handover,
    [publish(2 * handover), { do: 'retire', id: 'a' }],
  ],
]

test.each(table)('%s', (_what, keys, now, actions) => {
  expect(nextKeyActions(keys, at(now), settings)).toEqual(actions)
})

test('the newer of two active keys signs, a future or retired one does not', () => {
  const keys = [key('a', 0), key('b', day), key('c', 3 * day), key('d', 2 * day, true)]
  expect(signingKey(keys, at(2.5 * day), settings)?.id).toBe('b')
})

test('a clock that was set back to before all keys signs with the first of them, and makes no other', () => {
  const keys = [key('b', day), key('a', 0, true), key('c', 2 * day)]
  expect(signingKey(keys, at(-10 * minute), settings)?.id).toBe('b')
  expect(nextKeyActions(keys, at(-10 * minute), settings)).toEqual([])
})

/** Runs the schedule at the given times and says what was signed with what, when. */
function simulate(checks: number[], by: KeySettings) {
  const keys: (ScheduledKey & { publishedAt: number; retiredAt?: number })[] = []
  const signed: { time: number; key: ScheduledKey & { publishedAt: number; retiredAt?: number } }[] = []
  for (const time of checks) {
    for (const action of nextKeyActions(keys, at(time), by)) {
      const retired = keys.find((each) => action.do === 'retire' && each.id === action.id)
      if (retired) Object.assign(retired, { retired: true, retiredAt: time })
      if (action.do === 'publish') keys.push({ ...action, id: `${keys.length}`, retired: false, publishedAt: time })
    }
    const signing = signingKey(keys, at(time), by)
    if (signing) signed.push({ time, key: signing })
  }
  return { keys, signed }
}

const anySettings = fc.record({
  lifetimeMs: fc.integer({ min: 60 * minute, max: 40 * day }),
  leadMs: fc.integer({ min: 1_000, max: 20 * minute }),
  checkMs: fc.integer({ min: 200, max: minute / 2 }),
  tokenMs: fc.integer({ min: minute, max: 60 * minute }),
})

test('after every check there is a key to sign with, and no token outlives its key', () => {
  fc.assert(
    fc.property(anySettings, fc.array(fc.integer({ min: 0, max: 100 * day }), { maxLength: 60 }), (by, times) => {
      const checks = times.sort((a, b) => a - b)
      const { keys, signed } = simulate(checks, by)
      expect(signed).toHaveLength(checks.length)
      for (const { time, key } of signed)
        expect(key.expiresAt.getTime()).toBeGreaterThanOrEqual(start + time + by.tokenMs)
      for (const { retiredAt, id } of keys.filter((each) => each.retiredAt !== undefined)) {
        const last = Math.max(-Infinity, ...signed.filter((each) => each.key.id === id).map((each) => each.time))
        expect(retiredAt).toBeGreaterThanOrEqual(last + by.tokenMs)
      }
    }),
  )
})

test('while the schedule is looked at in time, every key but the first is known the lead before its first use', () => {
  fc.assert(
    fc.property(anySettings, (by) => {
      const step = Math.max(by.checkMs, by.lifetimeMs / 200)
      const checks = Array.from({ length: 600 }, (_, i) => i * step)
      const { keys } = simulate(checks, { ...by, checkMs: step })
      expect(keys.length).toBeGreaterThan(2)
      for (const { activeFrom, publishedAt } of keys.slice(1)) {
        expect(activeFrom.getTime() - start - publishedAt).toBeGreaterThanOrEqual(by.leadMs)
      }
    }),
  )
})
