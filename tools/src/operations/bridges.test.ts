import { expect, test } from '@jest/globals'
import { type BridgeHandling, bridgeHandlingLine, goneHandlings, handlingOf } from './bridge-handlings.ts'
import { groupOfBridge, serviceOf } from './bridges.ts'
import { placeOf } from './explain-event.ts'
import { receivingOf } from './lag.ts'
import type { BridgeState } from './shop-state.ts'
import { problemLines } from './status.ts'
import { bridgeProblems } from './status-problems.ts'
import type { EventStory } from './story.ts'
import { eventsVerdict, type Verdict } from './verdict.ts'

const now = new Date('2026-01-31T12:00:00Z')
const lag = { group: 'bridge-tasks', topic: 'shop.order.v1', partition: 1, position: 5n, end: 9n, messages: 4n }
const behind = (seconds: number, hidden = 0n): NonNullable<BridgeState['behind']> => ({
  answer: {
    group: 'bridge-tasks',
    messages: 4n,
    seconds,
    partitions: [{ ...lag, seconds, hidden, hiddenSeconds: 0 }],
  },
})
const bridge: BridgeState = {
  name: 'tasks',
  direction: 'send',
  kind: 'rabbitmq',
  events: ['OrderConfirmed', 'OrderShipped', 'UserErased'],
  leavesOut: [],
  awaySince: null,
  awayReason: null,
  unseenSeconds: 4,
  behind: behind(299),
}
const away = { awaySince: new Date('2026-01-31T11:55:00Z'), awayReason: 'connect ECONNREFUSED\u001b[2J\nat x' }

const lagging = { state: 'lagging', before: 2n, awaySince: away.awaySince } as const

/** Of one bridge, while its service is in this state. */
const told = (change: Partial<BridgeState>, state: 'ready' | 'away' = 'ready') =>
  bridgeProblems(
    {
      bridges: { answer: [{ ...bridge, ...change }] },
      services: [{ service: 'bridge', state, reasons: [] }],
      unreadable: [],
    },
    now,
  )

test.each<[string, Partial<BridgeState>, string, string]>([
  ['its broker is away', away, 'takes nothing for 5 min, since 2026-01-31T11:55:00.000Z: connect ECONN', 'broker-away'],
  ['the one that it receives from is', { ...away, direction: 'receive' }, 'gives nothing for 5 min', 'broker-away'],
  ['it was not seen for a minute', { unseenSeconds: 61 }, 'has not been seen for 61 s', 'behind'],
  ['it is behind', { behind: behind(301) }, 'is 4 messages behind, by 5 min', 'behind'],
])('a bridge is a problem when %s', (_, change, words, page) => {
  const [one, ...more] = told({ ...change, ...(page === 'broker-away' && { behind: behind(301) }) })
  expect(more).toEqual([]) // by what it waits for it is behind
  expect(one?.what).toContain(words)
  expect(one?.what).not.toContain('\u001b')
  expect(one?.runbook).toBe(`docs/runbooks/bridge-${page}.md`)
})

test('a broker that is away for seconds is restarted, and no problem yet', () => {
  const since = (seconds: number) => ({ ...away, awaySince: new Date(now.getTime() - seconds * 1_000) })
  expect([told(since(30)), told(since(31))].map((all) => all.length)).toEqual([0, 1])
})

test.each<[state: Verdict['state'], words: string, age: number, Partial<BridgeHandling>]>([
  ['working', 'has not passed it: it is the next.', 5, { state: 'lagging', before: 0n }],
  ['stuck', 'has not passed it: 2 messages before it. Its broker takes nothing since ', 61, lagging],
  ['working', 'has parked it, and tries it again: no', 61, { state: 'waiting', id: 7n, error: 'no \u001b[2J' }],
  ['stuck', 'has given up on it: no.', 5, { state: 'dead', id: 7n, error: 'no' }],
  ['stuck', 'cannot be asked: gone.', 5, { state: 'unknown', reason: 'gone' }],
])('the verdict on an event is %s while a bridge %s', (state, words, age, handling) => {
  const story = {
    type: 'OrderDelivered',
    sequence: 4n,
    writtenAt: new Date(now.getTime() - age * 1_000),
    handledBy: [],
    bridges: [{ bridge: 'tasks', kind: 'redis', ...handling }],
  } as unknown as EventStory
  const verdict = eventsVerdict([story], new Map(), now)
  expect(verdict).toMatchObject({ state, text: expect.stringContaining(`bridge tasks (redis) ${words}`) })
  expect(verdict?.run.join()).toContain(state === 'working' && handling.state === 'lagging' ? '' : 'npm run shop -- ')
  const done = ['passed', 'handled', 'discarded'].map((over) => ({ bridge: 'tasks', kind: 'redis', state: over }))
  expect(eventsVerdict([{ ...story, bridges: done as BridgeHandling[] }], new Map(), now)).toBeUndefined()
})

test('a bridge is none that keeps up, waits for an open transaction, or whose service is told as away', () => {
  expect(told({})).toEqual([])
  expect(told({ behind: behind(301, 4n) })).toEqual([])
  expect(told({ ...away, unseenSeconds: 500 }, 'away')).toEqual([])
  expect(told({ behind: behind(301) }, 'away')).toHaveLength(1)
})

test('a bridge that sends has a group of its own, of the topics of its events; its service is bridge', () => {
  expect(groupOfBridge(bridge)).toEqual({ group: 'bridge-tasks', topics: ['shop.order.v1', 'shop.user.v1'] })
  expect(groupOfBridge({ ...bridge, direction: 'receive' })).toBeUndefined()
  expect(['bridge-tasks', 'bridge', 'order'].map(serviceOf)).toEqual(['bridge', 'bridge', 'order'])
})

const event = { topic: 'shop.order.v1', partition: 1, offset: 5n, headers: {} as Record<string, string> }
const parkedAt = (topic: string, state: 'waiting' | 'dead' | 'handled' | 'discarded', offset = 5n) => ({
  ...event,
  id: 7n,
  topic,
  offset,
  state,
  error: 'no\u001b[2J',
})
const stands = (done: bigint) => ({ answer: [{ ...event, start: 0n, end: 9n, stableEnd: 9n, done }] })

test.each([
  ['has passed it$', [], 6n],
  ['has passed it$', [parkedAt('shop.order.v1@other', 'dead'), parkedAt('shop.order.v1@tasks', 'dead', 4n)], 6n],
  ['has not passed it: it is the next; its broker is away since ', [], 5n],
  ['has not passed it: 2 messages before it; ', [], 3n],
  ['has parked it as bridge/7, and tries it again: no', [parkedAt('shop.order.v1@tasks', 'waiting')], 6n],
  ['has given up on it, bridge/7: no', [parkedAt('shop.order.v1@tasks', 'dead')], 6n],
  ['handed it on, parked before as bridge/7', [parkedAt('shop.order.v1@tasks', 'handled')], 6n],
  ['bridge/7 was discarded', [parkedAt('shop.order.v1@tasks', 'discarded')], 6n],
])('of an event it is told that a bridge %s', (words, parked, done) => {
  const found = handlingOf({ name: 'tasks', leavesOut: [], awaySince: away.awaySince }, event, parked, stands(done))
  const line = bridgeHandlingLine({ bridge: 'tasks', kind: 'redis', ...found }, now)
  expect(line).toMatch(new RegExp(`bridge tasks \\(redis\\) .*${words}`))
  expect(line).not.toContain('\u001b[2J')
})

test('where Kafka cannot be asked, what a bridge has done is not known', () => {
  const found = handlingOf({ name: 'tasks', leavesOut: [], awaySince: null }, event, [], {
    reason: 'cannot be asked: gone',
  })
  expect(found).toEqual({ state: 'unknown', reason: 'cannot be asked: gone' })
})

test('what came from the broker of a bridge is not told as handed on to it', () => {
  const note = { name: 'tasks', leavesOut: ['erp'], awaySince: null }
  const by = (origin: string) => ({ ...event, headers: { ce_origin: origin } })
  const told = (origin: string, done: bigint, state?: 'handled' | 'dead') =>
    handlingOf(note, by(origin), state ? [parkedAt('shop.order.v1@tasks', state)] : [], stands(done)).state
  expect([told('erp', 6n), told('erp', 6n, 'handled'), told('other', 6n)]).toEqual(['left-out', 'left-out', 'passed'])
  expect([told('erp', 5n), told('erp', 6n, 'dead')]).toEqual(['lagging', 'dead'])
  expect(bridgeHandlingLine({ bridge: 'tasks', kind: 'redis', state: 'left-out', origin: 'erp' }, now)).toMatch(
    /does not hand it on: it came from that broker, by bridge erp$/,
  )
})

test('what waits for a bridge that no process has any more is not told as done', () => {
  const parked = [parkedAt('shop.order.v1@tasks', 'waiting'), parkedAt('shop.order.v1@old', 'handled')]
  expect(goneHandlings([{ name: 'tasks' }], event, parked)).toEqual([])
  expect(goneHandlings([], { ...event, offset: 6n }, parked)).toEqual([])
  const gone = goneHandlings([], event, parked)
  expect(gone).toMatchObject([{ bridge: 'tasks', state: 'gone', id: 7n }])
  const story = { type: 'OrderDelivered', sequence: 4n, handledBy: [], bridges: gone } as unknown as EventStory
  expect(eventsVerdict([story], new Map(), now)).toMatchObject({ state: 'stuck' })
})

test('Kafka is asked for the topic of what a bridge has parked, and not at all for what came in by one', () => {
  const row = { id: 7n, state: 'dead', topic: 'shop.user.v1@tasks', partition: 1, offset: 5n }
  const inbound = { ...row, topic: 'inbound@erp' }
  expect(placeOf([row]).place).toMatchObject({ topic: 'shop.user.v1', partition: 1, offset: 5n })
  expect(placeOf([inbound])).toMatchObject({ place: undefined, inbound: { bridge: 'erp', id: 7n, state: 'dead' } })
  expect(placeOf([{ ...row, id: null, topic: 'shop.user.v1' }]).inbound).toBeUndefined()
})

test('one that receives is known by the group that it would have', () => {
  const both = [
    { name: 'tasks', direction: 'send' as const },
    { name: 'erp', direction: 'receive' as const },
  ]
  expect(['bridge-erp', 'bridge-tasks', 'erp'].map((group) => receivingOf(group, both))).toEqual([
    'erp',
    undefined,
    undefined,
  ])
})

test('bridges whose broker is away for one reason are one problem; advice and runbook are said once', () => {
  const some: BridgeState[] = [
    { ...bridge, ...away },
    { ...bridge, ...away, name: 'erp', direction: 'receive' },
    { ...bridge, ...away, name: 'other', awayReason: 'no password' },
  ]
  const services = [{ service: 'bridge', state: 'ready' as const, reasons: [] }]
  const problems = bridgeProblems({ bridges: { answer: some }, services, unreadable: [] }, now)
  expect(problems.map(({ what }) => what)).toEqual([
    expect.stringMatching(/^bridges tasks, erp: their broker \(rabbitmq\) takes and gives nothing for 5 min.*ECONN/),
    expect.stringMatching(/^bridge other: its broker .* no password$/),
  ])
  const lines = problemLines([...problems, { what: 'x', run: 'y', runbook: 'z' }])
  expect(lines).toHaveLength(7) // 2 with one advice and runbook, and 1 with its own
})
