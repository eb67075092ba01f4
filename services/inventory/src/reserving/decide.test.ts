import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { Line } from '../tables.ts'
import {
  decide,
  entering,
  ImpossibleReservation,
  lifeCycle,
  type OrderEvent,
  type ReservationState,
  type Shelf,
} from './decide.ts'

const shelfOf = (levels: Record<string, number>): Shelf => ({
  stock: new Map(
    Object.entries(levels).map(([sku, onHand]) => [sku, { sku, onHand, reserved: 0, sequence: 0n, sellable: true }]),
  ),
  reservations: new Map(),
})

const event = (type: OrderEvent['type'], orderId: string, more: object = {}) =>
  ({ id: `event of ${orderId}`, type, key: orderId, data: { orderId, ...more } }) as unknown as OrderEvent
const placed = (orderId: string, lines: Line[]) => event('OrderPlaced', orderId, { lines })
const shipped = (orderId: string) => event('OrderShipped', orderId)
const cancelled = (orderId: string) => event('OrderCancelled', orderId, { reason: 'changed my mind' })

const story = (shelf: Shelf, ...events: OrderEvent[]) =>
  events.map((each) => decide(shelf, each).map(({ type }) => type))
const levelOf = (shelf: Shelf, sku: string) => {
  const { onHand, reserved } = shelf.stock.get(sku) as { onHand: number; reserved: number }
  return { onHand, reserved }
}

const mug = [{ sku: 'mug', quantity: 2 }]
const anOrder = {
  OrderPlaced: placed('a', mug),
  OrderShipped: shipped('a'),
  OrderCancelled: cancelled('a'),
} satisfies Record<OrderEvent['type'], OrderEvent>
const states = Object.keys(lifeCycle) as (keyof typeof lifeCycle)[]
const cells = states.flatMap((state) => Object.values(anOrder).map((event) => [state, event.type, event] as const))

/** A shelf of 5 mugs with a reservation of 2 in this state, where it is one that holds any. */
function shelfWith(state: ReservationState | 'none', onHand = 5): Shelf {
  const shelf = shelfOf({ mug: onHand })
  if (state !== 'none') shelf.reservations.set('a', { orderId: 'a', state, lines: mug, sequence: 7n })
  if (state === 'reserved') Object.assign(shelf.stock.get('mug') as object, { reserved: 2 })
  return shelf
}

describe('every cell of the life of a reservation', () => {
  test.each(cells)('%s: %s', (state, type, event) => {
    const cell = lifeCycle[state][type]
    for (const [onHand, key] of [
      [5, 'enough'],
      [1, 'short'],
    ] as const) {
      const shelf = shelfWith(state, typeof cell === 'object' ? onHand : 5)
      const before = structuredClone(shelf)
      if (cell === 'impossible') {
        expect(() => decide(shelf, event)).toThrow(ImpossibleReservation)
        expect(shelf).toEqual(before)
        continue
      }
      const events = decide(shelf, event)
      if (cell === 'already') {
        expect(events).toEqual([])
        expect(shelf).toEqual(before)
        continue
      }
      const next = typeof cell === 'object' ? cell[key] : cell
      const sequence = state === 'none' ? 1n : 8n
      expect(shelf.reservations.get('a')).toEqual({ orderId: 'a', state: next, lines: mug, sequence })
      expect(events).toMatchObject([{ type: entering[next].announces, key: 'a', sequence, causedBy: { id: event.id } }])
      const level = levelOf(before, 'mug')
      expect(levelOf(shelf, 'mug')).toEqual({
        onHand: level.onHand + 2 * entering[next].onHand,
        reserved: level.reserved + 2 * entering[next].reserved,
      })
    }
  })

  test('there is a row for each state and each row has a column for each event', () => {
    expect(states).toEqual(['none', ...Object.keys(entering)])
    for (const state of states) expect(Object.keys(lifeCycle[state])).toEqual(Object.keys(anOrder))
  })
})

describe('the story of a reservation', () => {
  test.each([
    ['reserved', [placed('a', mug)], [['StockReserved']], { onHand: 5, reserved: 2 }],
    ['sold', [placed('a', mug), shipped('a')], [['StockReserved'], ['StockSold']], { onHand: 3, reserved: 0 }],
    [
      'released',
      [placed('a', mug), cancelled('a')],
      [['StockReserved'], ['StockReleased']],
      { onHand: 5, reserved: 0 },
    ],
    ['the same event again', [placed('a', mug), placed('a', mug)], [['StockReserved'], []], { onHand: 5, reserved: 2 }],
    [
      'sold twice',
      [placed('a', mug), shipped('a'), shipped('a')],
      [['StockReserved'], ['StockSold'], []],
      { onHand: 3, reserved: 0 },
    ],
    [
      'a rejected order is cancelled',
      [placed('a', [{ sku: 'mug', quantity: 6 }]), cancelled('a')],
      [['StockRejected'], []],
      { onHand: 5, reserved: 0 },
    ],
  ])('%s', (_, events, types, level) => {
    const shelf = shelfOf({ mug: 5 })
    expect(story(shelf, ...events)).toEqual(types)
    expect(levelOf(shelf, 'mug')).toEqual(level)
  })

  test.each([
    ['shipping what was never reserved', [shipped('a')]],
    ['shipping what was released', [placed('a', mug), cancelled('a'), shipped('a')]],
    ['cancelling what was sold', [placed('a', mug), shipped('a'), cancelled('a')]],
    ['cancelling what was never placed', [cancelled('a')]],
  ])('%s is impossible', (_, events) => {
    expect(() => story(shelfOf({ mug: 5 }), ...events)).toThrow(/reservation is/)
  })

  test('a rejection names the short lines and takes nothing of the others', () => {
    const shelf = shelfOf({ mug: 1, tea: 9 })
    const [rejected] = decide(
      shelf,
      placed('a', [
        { sku: 'tea', quantity: 3 },
        { sku: 'mug', quantity: 2 },
        { sku: 'no-such', quantity: 1 },
      ]),
    )
    expect(rejected).toMatchObject({
      type: 'StockRejected',
      key: 'a',
      sequence: 1n,
      data: {
        shortages: [
          { sku: 'mug', requested: 2, available: 1 },
          { sku: 'no-such', requested: 1, available: 0 },
        ],
      },
    })
    expect(levelOf(shelf, 'tea')).toEqual({ onHand: 9, reserved: 0 })
  })

  test('a retired product is not available', () => {
    const shelf = shelfOf({ mug: 5 })
    Object.assign(shelf.stock.get('mug') as object, { sellable: false })
    expect(story(shelf, placed('a', mug))).toEqual([['StockRejected']])
  })
})

test('whatever happens, nothing is oversold and on hand = stocked - sold = available + reserved', () => {
  const skus = ['a', 'b', 'c']
  const lines = fc.uniqueArray(fc.record({ sku: fc.constantFrom(...skus), quantity: fc.integer({ min: 1, max: 8 }) }), {
    selector: ({ sku }) => sku,
    minLength: 1,
  })
  const step = fc.tuple(fc.constantFrom('place', 'ship', 'cancel'), fc.integer({ min: 0, max: 9 }).map(String), lines)
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const shelf = shelfOf({ a: 20, b: 10, c: 3 })
      const stocked = { a: 20, b: 10, c: 3 } as Record<string, number>
      const sold: Record<string, number> = { a: 0, b: 0, c: 0 }
      for (const [kind, orderId, ordered] of steps) {
        const state = shelf.reservations.get(orderId)?.state
        if (kind !== 'place' && state !== 'reserved') continue
        const events = decide(
          shelf,
          kind === 'place' ? placed(orderId, ordered) : kind === 'ship' ? shipped(orderId) : cancelled(orderId),
        )
        for (const { type, data } of events) {
          if (type === 'StockSold')
            for (const line of data.lines) sold[line.sku] = (sold[line.sku] ?? 0) + line.quantity
        }
      }
      for (const sku of skus) {
        const { onHand, reserved } = levelOf(shelf, sku)
        const held = [...shelf.reservations.values()]
          .filter(({ state }) => state === 'reserved')
          .flatMap((reservation) => reservation.lines)
        expect(onHand).toBe((stocked[sku] as number) - (sold[sku] as number))
        expect(reserved).toBe(held.filter((line) => line.sku === sku).reduce((sum, line) => sum + line.quantity, 0))
        expect(onHand - reserved).toBeGreaterThanOrEqual(0)
      }
    }),
  )
})
