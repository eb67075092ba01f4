import { expect, test } from '@jest/globals'
import { judgeOutbox } from './load-shedding.ts'

const limits = { OUTBOX_LIMIT_AGE_SECONDS: 300, OUTBOX_SHED_AGE_SECONDS: 3_600, OUTBOX_SHED_BYTES: 1_000_000 }

test.each([
  ['empty', 0, 8_192, { late: false, overloaded: false }],
  ['large on disk, with nothing that waits', 0, 5_000_000, { late: false, overloaded: false }],
  ['large and busy', 299, 5_000_000, { late: false, overloaded: false }],
  ['late', 300, 999_999, { late: true, overloaded: false }],
  ['late and large', 300, 1_000_000, { late: true, overloaded: true }],
  ['far too late', 3_600, 8_192, { late: true, overloaded: true }],
])('an outbox that is %s', (_what, ageSeconds, bytes, expected) => {
  const { late, overloaded } = judgeOutbox({ ageSeconds, bytes }, limits)
  expect({ late: late !== undefined, overloaded: overloaded !== undefined }).toEqual(expected)
})

test('an age limit for new work below the one for readiness degrades readiness too', () => {
  const swapped = { ...limits, OUTBOX_SHED_AGE_SECONDS: 10 }
  expect(judgeOutbox({ ageSeconds: 10, bytes: 0 }, swapped)).toEqual({
    late: expect.stringContaining('for 10 s'),
    overloaded: expect.stringContaining('for 10 s'),
  })
})
