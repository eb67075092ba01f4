import { expect, test } from '@jest/globals'
import { UsageError } from '../terminal/options.ts'
import {
  detailLines,
  type Found,
  isSettled,
  listLines,
  outcomeLines,
  outcomeOf,
  withAbsence,
} from './dead-letter-lines.ts'
import { run, stepOf } from './dead-letters.ts'

const letter: Found = {
  ref: 'order/7',
  group: 'order',
  id: 7n,
  state: 'waiting',
  topic: 'shop.reservation.v1',
  partition: 1,
  offset: 12n,
  key: 'o-1',
  type: 'StockReserved',
  eventId: null,
  attempts: 3,
  error: 'Error: no',
  followers: 0,
  behindDead: null,
  parkedAt: new Date('2026-01-31T12:00:00Z'),
  nextAttemptAt: null,
  redrivenAt: null,
  endedAt: null,
  waitsForSchema: null,
}

test.each([
  ['handled', 'redrive', { state: 'handled' }, true],
  ['dead again', 'redrive', { state: 'dead' }, true],
  ['failed again, with attempts left', 'redrive', { attempts: 4 }, false],
  ['failed again after a retry', 'retry', { attempts: 4 }, true],
  ['not tried yet', 'retry', {}, false],
  ['behind one that waits', 'redrive', { state: 'behind' }, false],
  ['behind one that is dead', 'redrive', { state: 'behind', behindDead: 3n }, true],
] as const)('%s after a %s, as %j: is the command done with it? %s', (_, action, change, settled) => {
  expect(isSettled(action, letter, { ...letter, ...change })).toBe(settled)
})

test('what became of redriven messages decides about the exit code, and each that was not handled is named', () => {
  const handled = { ...letter, state: 'handled' as const }
  const stuck = { ...letter, ref: 'order/9', state: 'behind' as const, behindDead: 8n }
  const done = {
    action: 'redrive' as const,
    planned: [handled, stuck, letter],
    doubtful: [],
    waited: true,
    interrupted: false,
  }
  expect(outcomeOf({ ...done, ended: [handled] })).toMatchObject({ exitCode: 0, applied: 1, leftOut: 2 })
  expect(outcomeOf({ ...done, ended: [stuck], waited: false })).toMatchObject({ exitCode: 0 })
  expect(outcomeOf({ ...done, ended: [handled], interrupted: true })).toMatchObject({ exitCode: 130 })
  const result = outcomeOf({ ...done, ended: [handled, stuck] })
  expect(result.exitCode).toBe(1)
  const [summary, left, ...named] = outcomeLines(result)
  expect([summary, left?.slice(0, 10)]).toEqual(['2 messages redriven: handled 1, behind 1.', '1 left out'])
  expect(named.join('\n')).toMatch(/order\/9 StockReserved of o-1: .*behind order\/8, which is dead/)
})

test('what waits for the broker of its bridge says so, and is not waited for', () => {
  const note = {
    name: 'tasks',
    direction: 'send' as const,
    kind: 'redis',
    events: [],
    leavesOut: [],
    awaySince: new Date('2026-01-31T11:55:00Z'),
    awayReason: 'connect ECONNREFUSED\nat x',
    unseenSeconds: 1,
  }
  const parked = {
    ...letter,
    topic: 'shop.order.v1@tasks',
    group: 'bridge' as const,
    ref: 'bridge/7',
    error: 'Error: too large',
  }
  const [waits] = withAbsence([parked], [note]) as [Found]
  expect(isSettled('redrive', parked, waits)).toBe(true)
  const done = { action: 'redrive' as const, planned: [parked], doubtful: [], waited: true, interrupted: false }
  const [, line] = outcomeLines(outcomeOf({ ...done, ended: [waits] }))
  expect(line).toMatch(
    /the broker \(redis\) of bridge tasks takes nothing since .*ECONNREFUSED\); it is tried once that is back$/,
  )
  expect(line).not.toContain('too large')
  expect(withAbsence([parked], [{ ...note, awaySince: null }])).toEqual([parked])
  expect(withAbsence([{ ...parked, state: 'dead' }], [note])).toEqual([{ ...parked, state: 'dead' }])
  for (const one of [
    { ...note, name: 'other' },
    { ...note, direction: 'receive' as const },
  ]) {
    const [gone] = withAbsence([parked], [one]) as [Found]
    expect(isSettled('redrive', parked, gone)).toBe(true)
    expect(outcomeLines(outcomeOf({ ...done, ended: [gone] })).join()).toContain('no process has bridge tasks')
    const details = { headers: {}, schemaId: 9, data: {}, failures: [], actions: [] }
    const told = detailLines({ ...gone, ...details } as never).join()
    expect(told).toContain('put its row back')
    expect(told).not.toContain('does not take it')
  }
  expect(withAbsence([letter], [])).toEqual([letter])
})

test('a row of the list says of which topic it is; what waits for a schema can be given up', () => {
  const [head, row] = listLines([letter])
  expect([head, row].map((line) => line?.trim().split(/ {2,}/).slice(0, 4))).toEqual([
    ['ID', 'STATE', 'TOPIC', 'TYPE'],
    ['order/7', 'waiting', 'shop.reservation.v1', 'StockReserved'],
  ])
  const details = { headers: {}, schemaId: 9, problem: 'schema 9 is not known here', failures: [], actions: [] }
  const told = detailLines({ ...letter, ...details, waitsForSchema: 9n } as never)
  expect(told.join('\n')).toContain("dead-letters discard order/7 --reason '...'")
})

test.each([
  ['shop.order.v1@tasks', 'shop.order.v1/1@12, parked by bridge tasks'],
  ['inbound@erp', 'StockReserved of o-1, which came in by bridge erp and does not fit$'],
  ['shop.order.v1', 'shop.order.v1/1@12$'],
])('what is parked under %s says by whom: %s', (topic, words) => {
  const details = { headers: {}, schemaId: undefined, problem: 'no', text: '{"id":"a"}', failures: [], actions: [] }
  const [head, ...lines] = detailLines({ ...letter, ...details, topic } as never)
  expect(head).toMatch(new RegExp(words))
  expect(lines).toContain('  {"id":"a"}')
})

test('what came in by a bridge is for its sender first, and tells no stack of ours', () => {
  const failures = [{ number: 1, at: letter.parkedAt, error: 'Malformed: no id\n    at read.ts:1:2' }]
  const details = { headers: {}, schemaId: undefined, problem: 'no', text: '{}', failures, actions: [] }
  const told = detailLines({
    ...letter,
    ...details,
    state: 'dead',
    topic: 'inbound@erp',
    type: null,
    key: null,
  } as never)
  expect(told[0]).toContain('a message without a type, which came in')
  expect(told.at(-2)).toMatch(/have its sender mend it and send it again, then: .* discard order\/7/)
  expect(told.at(-1)).toContain('redrive order/7')
  expect(told.join('\n')).toContain('Malformed: no id')
  expect(told.join('\n')).not.toContain('read.ts')
})

test('a rate is kept in small steps, and never exceeded', () => {
  for (const rate of [1, 7, 10, 15, 100, 12_345]) {
    const { size, pauseMs } = stepOf(rate)
    expect(size).toBeGreaterThanOrEqual(1)
    expect((size / pauseMs) * 1_000).toBeLessThanOrEqual(rate + 1e-6)
    expect(pauseMs).toBeLessThanOrEqual(1_000)
  }
  expect(stepOf(undefined).pauseMs).toBe(0)
})

test('what cannot be read is shown in bytes, and what came with a message cannot command a terminal', () => {
  const bytes = Buffer.from([0, 0, 1, 134, 161, 65, 66, 255])
  const lines = detailLines({
    ...letter,
    key: 'k\u001b[2J',
    headers: { ce_type: 'x\u0007' },
    schemaId: undefined,
    problem: 'cut off',
    bytes,
    failures: [{ number: 1, at: letter.parkedAt, error: 'Error: \u001b]0;x' }],
    actions: [],
  }).join('\n')
  expect(lines).toContain('000000  00 00 01 86 a1 41 42 ff')
  expect(lines).toContain('.....AB.')
  expect(lines).toContain(`base64 ${bytes.toString('base64')}`)
  for (const hostile of ['\u001b[2J', '\u0007', '\u001b]0']) expect(lines).not.toContain(hostile)
})

test.each([
  [['list', '--group', 'gateway']],
  [['list', '--older-than', 'yesterday']],
  [['list', '--state', 'lost']],
  [['list', '--topic', 'shop.orders']],
  [['list', '--topic', 'shop.orders@mirror']],
  [['show']],
  [['show', 'order/1', 'order/2']],
  [['redrive']],
  [['redrive', '--all', '--state', 'waiting']],
  [['redrive', '--all', '--rate', '0.5']],
  [['discard', '--all']],
  [['delete', '--all']],
])('%j is refused before anything is asked', async (args) => {
  await expect(run(args)).rejects.toThrow(UsageError)
})
