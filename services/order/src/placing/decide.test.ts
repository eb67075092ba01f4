import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { KnownProduct } from '../products/replica.ts'
import { decideOrder, type OrderedItem } from './decide.ts'

const eur = (amount: bigint) => ({ amount, currency: 'EUR' })
const products = new Map<string, KnownProduct>(
  [
    { sku: 'mug', price: eur(1450n), retired: false },
    { sku: 'tea', price: eur(1290n), retired: false },
    { sku: 'old', price: eur(1n), retired: true },
    { sku: 'import', price: { amount: 5n, currency: 'USD' }, retired: false },
  ].map((product) => [product.sku, product]),
)
const now = new Date('2026-01-02T03:04:05Z')
const shippingAddress = { name: 'Ada', line1: '1 Main Street', city: 'Bern', postalCode: '3000', country: 'CH' }
const placing = (items: OrderedItem[]) =>
  decideOrder({ orderId: 'an order', userId: 'its buyer', items, shippingAddress, products, now, deadlineSeconds: 900 })

test('an order is pending, priced as today, and announced', () => {
  const { order, event } = placing([
    { sku: 'mug', quantity: 2 },
    { sku: 'tea', quantity: 1, unitPrice: eur(1290n) },
  ])
  expect(order).toMatchObject({
    status: 'pending',
    total: eur(4190n),
    sequence: 1n,
    reservationDeadline: new Date('2026-01-02T03:19:05Z'),
  })
  expect(event).toMatchObject({
    type: 'OrderPlaced',
    key: 'an order',
    sequence: 1n,
    data: { total: eur(4190n), userId: 'its buyer' },
  })
})

describe('refusals name the items', () => {
  test.each([
    [
      'duplicate-line',
      [
        { sku: 'mug', quantity: 1 },
        { sku: 'mug', quantity: 2 },
      ],
      ['items[1].sku'],
    ],
    [
      'unknown-product',
      [
        { sku: 'mug', quantity: 1 },
        { sku: 'nothing', quantity: 2 },
      ],
      ['items[1].sku'],
    ],
    ['unknown-product', [{ sku: 'old', quantity: 1 }], ['items[0].sku']],
    ['price-changed', [{ sku: 'mug', quantity: 1, unitPrice: eur(1400n) }], ['items[0].sku']],
    ['price-changed', [{ sku: 'mug', quantity: 1, unitPrice: { amount: 1450n, currency: 'USD' } }], ['items[0].sku']],
    [
      'mixed-currencies',
      [
        { sku: 'mug', quantity: 1 },
        { sku: 'import', quantity: 1 },
      ],
      undefined,
    ],
  ])('%s', (code, items, fields) => {
    const refusal = (() => {
      try {
        placing(items)
      } catch (error) {
        return error
      }
    })()
    expect(refusal).toMatchObject({ code, status: 422 })
    expect((refusal as { fields?: { field: string }[] }).fields?.map(({ field }) => field)).toEqual(fields)
  })
})

test('the total is the sum of the lines, to the last digit', () => {
  const item = fc.record({ sku: fc.constantFrom('mug', 'tea'), quantity: fc.integer({ min: 1, max: 10_000 }) })
  fc.assert(
    fc.property(fc.uniqueArray(item, { selector: ({ sku }) => sku, minLength: 1 }), (items) => {
      const total = items.reduce(
        (sum, { sku, quantity }) => sum + (products.get(sku) as KnownProduct).price.amount * BigInt(quantity),
        0n,
      )
      expect(placing(items).order.total).toEqual(eur(total))
    }),
  )
})
