import { setImmediate } from 'node:timers/promises'
import { expect, test } from '@jest/globals'
import { childOf, currentTrace, formatTraceparent, parseTraceparent, runInTrace } from './index.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const spanId = '00f067aa0ba902b7'

test('a traceparent is read and written back', () => {
  const header = `00-${traceId}-${spanId}-01`
  const context = parseTraceparent(header)
  expect(context).toEqual({ traceId, spanId, flags: '01' })
  expect(context && formatTraceparent(context)).toBe(header)
})

test.each([
  ['missing', undefined],
  ['empty', ''],
  ['short', `00-${traceId}-${spanId}`],
  ['upper case', `00-${traceId.toUpperCase()}-${spanId}-01`],
  ['no trace', `00-${'0'.repeat(32)}-${spanId}-01`],
  ['no span', `00-${traceId}-${'0'.repeat(16)}-01`],
  ['version ff', `ff-${traceId}-${spanId}-01`],
  ['version 00 with more', `00-${traceId}-${spanId}-01-more`],
  ['more than one', `00-${traceId}-${spanId}-01, 00-${traceId}-${spanId}-01`],
])('an invalid traceparent counts as none: %s', (_, header) => {
  expect(parseTraceparent(header)).toBeUndefined()
})

test('a later version with more fields is read', () => {
  expect(parseTraceparent(`01-${traceId}-${spanId}-00-more`)).toEqual({ traceId, spanId, flags: '00' })
})

test('a child keeps the trace and has its own span; without a parent a new trace begins', () => {
  const child = childOf({ traceId, spanId, flags: '00' })
  expect(child).toMatchObject({ traceId, flags: '00' })
  expect(child.spanId).not.toBe(spanId)
  expect(parseTraceparent(formatTraceparent(childOf(undefined)))).toBeDefined()
})

test('the current trace follows what is awaited, and only that', async () => {
  const one = childOf(undefined)
  const two = childOf(undefined)
  const seen = await Promise.all(
    [one, two].map((context) =>
      runInTrace(context, async () => {
        await setImmediate()
        return currentTrace()
      }),
    ),
  )
  expect(seen).toEqual([one, two])
  expect(currentTrace()).toBeUndefined()
})
