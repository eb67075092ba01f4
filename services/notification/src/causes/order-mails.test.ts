import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { subjectOf } from '../mails/mail.ts'
import { firstState } from '../notifications/cause.ts'
import type { Recipient, State } from '../tables.ts'
import { causeOf, type OrderEvent, type OrderMessage, priceText } from './order-mails.ts'

const orderId = '01900000-0000-7000-8000-000000000001'
const userId = '01900000-0000-7000-8000-0000000000aa'
const eur = (amount: bigint) => ({ amount, currency: 'EUR' })
const message = (type: OrderEvent, data: object) =>
  ({ id: 'cause', type, data: { orderId, userId, ...data } }) as OrderMessage

test.each([
  [
    message('OrderConfirmed', { lines: [{ sku: 'tea', quantity: 2, unitPrice: eur(625n) }], total: eur(1250n) }),
    { kind: 'confirmed', facts: { orderId, total: '€12.50', items: ['2 × tea at €6.25'] } },
  ],
  [
    message('OrderRejected', { shortages: [{ sku: 'tea', requested: 5, available: 2 }] }),
    { kind: 'rejected', facts: { orderId, items: ['tea: 5 ordered, 2 in stock'] } },
  ],
  [
    message('OrderShipped', { carrier: 'Post', trackingNumber: 'RR1' }),
    { kind: 'shipped', facts: { orderId, carrier: 'Post', trackingNumber: 'RR1' } },
  ],
  [message('OrderCancelled', { reason: 'too late' }), { kind: 'cancelled', facts: { orderId } }],
])('an event of an order asks for a mail (%#)', (event, expected) => {
  const cause = causeOf(event)
  expect(cause).toEqual({ userId, orderId, causeId: 'cause', traceparent: null, ...expected })
  expect(subjectOf(cause.kind, cause.facts)).toContain(orderId)
})

const recipient: Recipient = { user_id: userId, email: 'a@example.com', erased: false, sequence: 1n }

test.each<[string, Recipient | undefined, State]>([
  ['known', recipient, 'queued'],
  ['not known', { ...recipient, email: null, sequence: 0n }, 'awaiting-recipient'],
  ['not even expected', undefined, 'awaiting-recipient'],
  ['erased', { ...recipient, email: null, erased: true }, 'cancelled'],
])('for a recipient that is %s', (_what, to, state) => {
  expect(firstState(to)).toBe(state)
})

test.each<[bigint, string, string]>([
  [1250n, 'EUR', '€12.50'],
  [5n, 'EUR', '€0.05'],
  [0n, 'EUR', '€0.00'],
  [-1250n, 'EUR', '-€12.50'],
  [1250n, 'JPY', '¥1,250'],
  [1250n, 'KWD', 'KWD 1.250'],
  [9_007_199_254_740_993_01n, 'USD', '$9,007,199,254,740,993.01'],
])('%d minor units of %s are %s', (amount, currency, text) => {
  expect(priceText({ amount, currency }).replaceAll('\u00a0', ' ')).toBe(text)
})

test('no digit of an amount is lost', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (amount) => {
      expect(BigInt(priceText(eur(amount)).replaceAll(/[€,.]/g, ''))).toBe(amount)
    }),
  )
})
