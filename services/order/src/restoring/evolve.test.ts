import { expect, test } from '@jest/globals'
import { type Changed, decide, type Order, type OrderInput } from '../life-cycle.ts'
import { evolve, type OrderMessage } from './evolve.ts'

const now = new Date('2026-01-02T03:04:05Z')
const later = new Date('2026-01-02T04:00:00Z')

const place: OrderInput = {
  type: 'place',
  order: {
    id: 'an order',
    userId: 'its buyer',
    lines: [{ sku: 'mug', quantity: 2, unitPrice: { amount: 500n, currency: 'EUR' } }],
    total: { amount: 1000n, currency: 'EUR' },
    shippingAddress: { name: 'Ada', line1: '1 Main Street', city: 'Bern', postalCode: '3000', country: 'CH' },
    reservationDeadline: later,
  },
}
const reserved: OrderInput = { type: 'StockReserved' }
const shortages = [{ sku: 'mug', requested: 2, available: 1 }]
const ship: OrderInput = { type: 'ship', carrier: 'DHL', trackingNumber: 'T1' }

/** Every way that an order can go, each with all of its inputs. */
test.each<[string, OrderInput[]]>([
  ['pending', [place]],
  ['confirmed', [place, reserved]],
  ['rejected', [place, { type: 'StockRejected', data: { shortages } }]],
  ['timed out', [place, { type: 'deadline' }]],
  ['cancelled', [place, reserved, { type: 'cancel', reason: 'changed my mind' }]],
  ['shipped', [place, reserved, ship]],
  ['delivered', [place, reserved, ship, { type: 'deliver' }]],
])('an order that is %s comes back whole from its events, but for the address, which no event has', (_, inputs) => {
  let decided: Order | undefined
  let restored: Order | undefined
  for (const [n, input] of inputs.entries()) {
    const { order, event } = decide(decided, input, new Date(now.getTime() + n * 1_000)) as Changed
    decided = order
    restored = evolve(restored, event as unknown as OrderMessage)
  }
  expect(restored).toEqual({ ...decided, shippingAddress: expect.objectContaining({ name: 'lost' }) })
})
