import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { decide, lifeCycle, type Order, type OrderCommand, type OrderStatus } from './life-cycle.ts'

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
const commands: Record<OrderCommand['type'], OrderCommand> = {
  confirm: { type: 'confirm' },
  reject: { type: 'reject', shortages: [{ sku: 'mug', requested: 2, available: 1 }] },
  ship: { type: 'ship', carrier: 'Post', trackingNumber: 'T1' },
  deliver: { type: 'deliver' },
  cancel: { type: 'cancel', reason: 'changed my mind' },
}
const announcement = {
  confirmed: 'OrderConfirmed',
  rejected: 'OrderRejected',
  shipped: 'OrderShipped',
  delivered: 'OrderDelivered',
  cancelled: 'OrderCancelled',
}
const statuses = Object.keys(lifeCycle) as OrderStatus[]
const cells = statuses.flatMap((status) =>
  Object.values(commands).map((command) => [status, command.type, command] as const),
)

describe('every cell of the life cycle', () => {
  test.each(cells)('%s: %s', (status, type, command) => {
    const order = orderIn(status)
    const decision = decide(order, command, now, { id: 'the cause' })
    const outcome = lifeCycle[status][type]
    if (outcome === 'already' || outcome === 'impossible') {
      expect(decision).toEqual({ outcome, order: orderIn(status) })
      return
    }
    expect(decision).toMatchObject({
      outcome: 'changed',
      order: { status: outcome, sequence: 8n, updatedAt: now },
      event: {
        type: announcement[outcome as keyof typeof announcement],
        key: 'an order',
        sequence: 8n,
        causedBy: { id: 'the cause' },
      },
    })
    expect(decision.order.history).toHaveLength(2)
    expect(order).toEqual(orderIn(status))
  })
})

test('what ends an order ends it for good, and what happened to it stays in its history', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...Object.values(commands))), (sequence) => {
      let order = orderIn('pending')
      for (const command of sequence) {
        const before = order
        const decision = decide(order, command, now)
        order = decision.order
        if (['rejected', 'cancelled', 'delivered'].includes(before.status)) expect(order.status).toBe(before.status)
        expect(order.history.slice(0, before.history.length)).toEqual(before.history)
        expect(order.sequence - before.sequence).toBe(decision.outcome === 'changed' ? 1n : 0n)
      }
      expect(order.history.at(-1)?.status).toBe(order.status)
    }),
  )
})

test('a rejection says what is short', () => {
  const decision = decide(orderIn('pending'), commands.reject, now)
  expect(decision.order.reason).toBe('out of stock: mug (2 wanted, 1 left)')
})
