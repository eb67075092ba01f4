import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import {
  announces,
  type Changed,
  decide,
  lifeCycle,
  type Order,
  type OrderEvent,
  type OrderInput,
  type OrderStatus,
} from './life-cycle.ts'

const now = new Date('2026-01-02T03:04:05Z')
const orderIn = (status: OrderStatus): Order => ({
  id: 'an order',
  userId: 'its buyer',
  status,
  lines: [{ sku: 'mug', quantity: 2, unitPrice: { amount: 500n, currency: 'EUR' } }],
  total: { amount: 1000n, currency: 'EUR' },
  shippingAddress: { name: 'Ada', line1: '1 Main Street', city: 'Bern', postalCode: '3000', country: 'CH' },
  reason: null,
  shipment: null,
  history: [{ status, at: now }],
  reservationDeadline: now,
  sequence: 7n,
  createdAt: now,
  updatedAt: now,
})
const placed = orderIn('pending')
const inputs: { [T in OrderInput['type']]: Extract<OrderInput, { type: T }> } = {
  place: { type: 'place', order: placed },
  StockReserved: { type: 'StockReserved' },
  StockRejected: { type: 'StockRejected', data: { shortages: [{ sku: 'mug', requested: 2, available: 1 }] } },
  deadline: { type: 'deadline' },
  cancel: { type: 'cancel', reason: 'changed my mind' },
  ship: { type: 'ship', carrier: 'Post', trackingNumber: 'T1' },
  deliver: { type: 'deliver' },
}
const later = new Date('2026-01-02T03:05:06Z')
const states = Object.keys(lifeCycle) as (keyof typeof lifeCycle)[]
const cells = states.flatMap((state) => Object.values(inputs).map((input) => [state, input.type, input] as const))

describe('every cell of the life cycle', () => {
  test.each(cells)('%s: %s', (state, type, input) => {
    const order = state === 'none' ? undefined : orderIn(state)
    const decision = decide(order, input, later, { id: 'the cause' })
    const cell = lifeCycle[state][type]
    if (order) expect(order).toEqual(orderIn(order.status))
    if (cell === 'already' || cell === 'impossible') {
      expect(decision).toEqual({ outcome: cell })
      return
    }
    const sequence = order ? 8n : 1n
    expect(decision).toMatchObject({
      outcome: 'changed',
      order: { id: 'an order', status: cell, sequence, updatedAt: later },
      event: { type: announces[cell], key: 'an order', sequence, causedBy: { id: 'the cause' } },
    })
    const { history } = (decision as Changed).order
    expect(history).toEqual([...(order?.history ?? []), { status: cell, at: later }])
  })

  test('there is a row for each state and each row has a column for each input', () => {
    expect(states).toEqual(['none', ...Object.keys(announces)])
    for (const state of states) expect(Object.keys(lifeCycle[state]).sort()).toEqual(Object.keys(inputs).sort())
  })
})

/** What comes of inputs that follow each other. */
function after(...sequence: OrderInput[]) {
  let order: Order | undefined
  const events: OrderEvent[] = []
  for (const input of sequence) {
    const decision = decide(order, input, later)
    if (decision.outcome !== 'changed') continue
    order = decision.order
    events.push(decision.event)
  }
  return { order, events }
}

test('what ends an order ends it for good, and what happened to it stays in its history', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...Object.values(inputs))), (sequence) => {
      let order: Order | undefined
      for (const input of sequence) {
        const decision = decide(order, input, later)
        if (decision.outcome !== 'changed') continue
        expect(['rejected', 'cancelled', 'delivered']).not.toContain(order?.status)
        expect(decision.order.history.slice(0, -1)).toEqual(order?.history ?? [])
        expect(decision.order.sequence).toBe((order?.sequence ?? 0n) + 1n)
        order = decision.order
      }
      expect(order?.history.at(-1)?.status).toBe(order?.status)
    }),
  )
})

test('a rejection says what is short, to the client and to the other services', () => {
  const { order, events } = after(inputs.place, inputs.StockRejected)
  expect(order?.reason).toBe('out of stock: mug (2 wanted, 1 left)')
  expect(events.at(-1)?.data).toMatchObject({ shortages: [{ sku: 'mug', requested: 2, available: 1 }] })
})

test.each([
  ['its deadline', inputs.deadline, 'reservation-timeout'],
  ['its buyer', inputs.cancel, 'changed my mind'],
] as const)('an order that %s cancels says why', (_, input, reason) => {
  const { order, events } = after(inputs.place, input)
  expect(order).toMatchObject({ status: 'cancelled', reason })
  expect(events.at(-1)).toMatchObject({ type: 'OrderCancelled', data: { reason, cancelledAt: later } })
})

test('a shipment is kept and announced', () => {
  const { order, events } = after(inputs.place, inputs.StockReserved, inputs.ship, inputs.deliver)
  const shipment = { carrier: 'Post', trackingNumber: 'T1' }
  expect(order).toMatchObject({ status: 'delivered', shipment, reason: null })
  expect(events.map(({ type }) => type)).toEqual(['OrderPlaced', 'OrderConfirmed', 'OrderShipped', 'OrderDelivered'])
  expect(events[2]?.data).toMatchObject(shipment)
})
