import { expect, test } from '@jest/globals'
import { bridgeHandlingLine, handlingOf } from './bridge-handlings.ts'
import { groupOfBridge, serviceOf } from './bridges.ts'
import type { BridgeState } from './shop-state.ts'
import { bridgeProblems } from './status-problems.ts'

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
  awaySince: null,
  awayReason: null,
  unseenSeconds: 4,
  behind: behind(299),
}
const away = { awaySince: new Date('2026-01-31T11:55:00Z'), awayReason: 'connect ECONNREFUSED\u001b[2J\nat x' }

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

const event = { topic: 'shop.order.v1', partition: 1, offset: 5n }
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
  const found = handlingOf({ name: 'tasks', awaySince: away.awaySince }, event, parked, stands(done))
  const line = bridgeHandlingLine({ bridge: 'tasks', kind: 'redis', ...found }, now)
  expect(line).toMatch(new RegExp(`bridge tasks \\(redis\\) .*${words}`))
  expect(line).not.toContain('\u001b[2J')
})

test('where Kafka cannot be asked, what a bridge has done is not known', () => {
  const found = handlingOf({ name: 'tasks', awaySince: null }, event, [], { reason: 'cannot be asked: gone' })
  expect(found).toEqual({ state: 'unknown', reason: 'cannot be asked: gone' })
})
