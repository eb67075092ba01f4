import type { Money } from '@shopstream/events'
import { errors } from '../errors.ts'
import { type Changed, decide, type OrderLine, type ShippingAddress } from '../life-cycle.ts'
import type { KnownProduct } from '../products/replica.ts'

export interface OrderedItem {
  sku: string
  quantity: number
  /** The price that the client saw. */
  unitPrice?: Money
}

/** What a placed order is decided by. */
export interface Placement {
  orderId: string
  userId: string
  items: OrderedItem[]
  shippingAddress: ShippingAddress
  /** Known products by sku. */
  products: ReadonlyMap<string, KnownProduct>
  now: Date
  /** How long a reservation may take, in seconds. */
  deadlineSeconds: number
}

/**
 * A new pending order at today's prices. Throws `duplicate-line`, `unknown-product`, `price-changed` (each naming the
 * items) and `mixed-currencies`.
 */
export function decideOrder({
  orderId,
  userId,
  items,
  shippingAddress,
  products,
  now,
  deadlineSeconds,
}: Placement): Changed {
  refuse(items, 'duplicate-line', ({ sku }, i) => items.findIndex((item) => item.sku === sku) !== i)
  refuse(items, 'unknown-product', ({ sku }) => products.get(sku)?.retired !== false)
  refuse(
    items,
    'price-changed',
    ({ sku, unitPrice }) => unitPrice !== undefined && !sameMoney(unitPrice, products.get(sku)?.price),
  )
  const lines = items.map(
    ({ sku, quantity }): OrderLine => ({ sku, quantity, unitPrice: (products.get(sku) as KnownProduct).price }),
  )
  const total = totalOf(lines)
  const reservationDeadline = new Date(now.getTime() + deadlineSeconds * 1000)
  const order = { id: orderId, userId, lines, total, shippingAddress, reservationDeadline }
  const placed = decide(undefined, { type: 'place', order }, now)
  if (placed.outcome !== 'changed') throw new Error('the life cycle knows no way to place an order')
  return placed
}

const reasons = {
  'duplicate-line': 'is in the order twice',
  'unknown-product': 'is no product on sale',
  'price-changed': 'has another price now',
}

function refuse(
  items: OrderedItem[],
  code: keyof typeof reasons,
  isWrong: (item: OrderedItem, index: number) => boolean,
): void {
  const fields = items.flatMap((item, index) =>
    isWrong(item, index) ? [{ field: `items[${index}].sku`, message: `${item.sku} ${reasons[code]}` }] : [],
  )
  if (fields.length > 0) throw errors[code](undefined, fields)
}

function totalOf(lines: OrderLine[]): Money {
  const currencies = new Set(lines.map(({ unitPrice }) => unitPrice.currency))
  const [currency, another] = currencies
  if (currency === undefined || another !== undefined) throw errors['mixed-currencies']()
  return {
    amount: lines.reduce((sum, { unitPrice, quantity }) => sum + unitPrice.amount * BigInt(quantity), 0n),
    currency,
  }
}

const sameMoney = (a: Money, b: Money | undefined) => a.amount === b?.amount && a.currency === b.currency
