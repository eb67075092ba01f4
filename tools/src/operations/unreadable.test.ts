import { expect, test } from '@jest/globals'
import type { PartitionPosition, UnreadableRow } from '@shopstream/messaging/operations'
import { UsageError } from '../terminal/options.ts'
import { run } from './unreadable.ts'
import { detailLines, listLines } from './unreadable-lines.ts'
import { type Met, placeInWords, stateOf, stretchesOf } from './unreadable-stretches.ts'

const now = new Date('2026-01-31T12:00:00Z')
const ago = (seconds: number) => new Date(now.getTime() - seconds * 1_000)
const row: UnreadableRow = {
  id: 1n,
  topic: 'shop.order.v1',
  partition: 3,
  firstOffset: 12n,
  lastOffset: 41n,
  reason: 'unpacked, it would have more than 16777216 bytes',
  size: 100,
  metAt: ago(300),
  lastMetAt: ago(1),
  steppedOverAt: null,
  actor: null,
  steppedOverFor: null,
}
const decided = { steppedOverAt: ago(10), actor: 'ada', steppedOverFor: 'a \u001b[2Jbomb' }
const position = { topic: 'shop.order.v1', partition: 3, start: 0n, end: 60n, stableEnd: 60n, done: 12n }

test.each<[string, Partial<UnreadableRow>, Partial<PartitionPosition> | undefined]>([
  ['stands', {}, {}],
  ['stands', {}, undefined],
  ['stands', {}, { done: 41n }],
  ['not met', { lastMetAt: ago(61) }, {}],
  ['not met', { lastMetAt: ago(61) }, { partition: 4, done: 60n }],
  ['passed', { lastMetAt: ago(61) }, { done: 42n }],
  ['forgotten', { lastMetAt: ago(61) }, { start: 42n, done: 42n }],
  ['stepped over', decided, { done: 60n }],
])('it is %s: %j, %j', (state, change, at) => {
  expect(stateOf({ ...row, ...change }, now, at ? [{ ...position, ...at }] : [])).toBe(state)
})

const met = (service: Met['service'], change: Partial<Met> = {}): Met => ({
  ...row,
  service,
  ref: `${service}/${row.id}`,
  state: 'stands',
  ...change,
})

test('one place is one stretch, however many groups stand before it and wherever they began', () => {
  const stretches = stretchesOf([
    met('inventory', { firstOffset: 20n }),
    met('notification'),
    met('order', { partition: 4 }),
  ])
  expect(stretches.map((one) => [placeInWords(one), one.met.map(({ service }) => service)])).toEqual([
    ['shop.order.v1/3@12-41', ['inventory', 'notification']],
    ['shop.order.v1/4@12-41', ['order']],
  ])
  expect(placeInWords({ ...row, lastOffset: 12n })).toBe('shop.order.v1/3@12')
})

test('list and show name place, groups, decisions and what to run; bytes of any length are dumped', () => {
  const stretches = stretchesOf([met('inventory'), met('notification', { ...decided, state: 'stepped over' })])
  const listed = listLines(stretches, now).join('\n')
  expect(listed).toMatch(/inventory\/1 +shop\.order\.v1\/3@12-41 +100 +5 min +stands +unpacked/)
  expect(listed).toMatch(/notification\/1 .* stepped over 11:59:50\.000 by ada: a \ufffd\[2Jbomb +unpacked/)
  expect(listLines([])).toEqual(['None.'])
  for (const length of [0, 1, 60, 61, 600]) {
    const told = detailLines(stretches[0] as (typeof stretches)[number], Buffer.alloc(length, 2), { now }).join('\n')
    expect(told).toContain("unreadable step-over shop.order.v1/3@12-41 --reason '...'")
    expect(told).not.toContain('\u001b[2J')
  }
})

test('the head of a batch is told: codec, records, writer', () => {
  const bytes = Buffer.alloc(80)
  bytes.writeInt8(2, 16)
  bytes.writeInt16BE(0b1_0100, 21)
  bytes.writeBigInt64BE(BigInt(now.getTime()), 35)
  bytes.writeBigInt64BE(77n, 43)
  bytes.writeInt32BE(30, 57)
  const told = detailLines(stretchesOf([met('order')])[0] as never, bytes, { now }).join('\n')
  expect(told).toContain(
    '30 records, zstd, 80 bytes, written 2026-01-31T12:00:00.000Z, by producer 77, in a transaction',
  )
})

test.each([
  [[]],
  [['skip']],
  [['list', 'order/1']],
  [['list', '--reason', 'x']],
  [['show']],
  [['show', 'gateway/1']],
  [['show', 'shop.order.v1/3']],
  [['step-over', '--reason', 'x']],
  [['step-over', 'shop.order.v1/3@12']],
  [['step-over', 'shop.order.v1/3@12', '--reason', ' ']],
  [['step-over', 'order/1', '--reason', 'x']],
  [['step-over', 'shop.order.v1/3@12', '--reason', 'x', '--service', 'gateway']],
])('%j is refused before anything is asked', async (args) => {
  await expect(run(args)).rejects.toThrow(UsageError)
})
