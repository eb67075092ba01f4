import type { Money } from '@shopstream/events'
import type { Message } from '@shopstream/messaging'
import type { Cause } from '../notifications/cause.ts'
import type { EventKind, Facts } from '../tables.ts'

export type OrderMessage =
  | Message<'OrderConfirmed', 'orderId' | 'userId' | 'lines' | 'total'>
  | Message<'OrderRejected', 'orderId' | 'userId' | 'shortages'>
  | Message<'OrderShipped', 'orderId' | 'userId' | 'carrier' | 'trackingNumber'>
  | Message<'OrderCancelled', 'orderId' | 'userId'>
export type OrderEvent = OrderMessage['type']

/** How each event of an order becomes a mail: its kind, and the facts that its template names. */
const mailsOf: { [M in OrderMessage as M['type']]: { kind: EventKind; facts(data: M['data']): Facts } } = {
  OrderConfirmed: {
    kind: 'confirmed',
    facts: ({ lines, total }) => ({
      total: priceText(total),
      items: lines.map(({ sku, quantity, unitPrice }) => `${quantity} × ${sku} at ${priceText(unitPrice)}`),
    }),
  },
  OrderRejected: {
    kind: 'rejected',
    facts: ({ shortages }) => ({
      items: shortages.map(({ sku, requested, available }) => `${sku}: ${requested} ordered, ${available} in stock`),
    }),
  },
  OrderShipped: { kind: 'shipped', facts: ({ carrier, trackingNumber }) => ({ carrier, trackingNumber }) },
  OrderCancelled: { kind: 'cancelled', facts: () => ({}) },
}

/** The mail that an order's event asks for. */
export function causeOf(message: OrderMessage): Cause {
  const { kind, facts } = mailsOf[message.type] as { kind: EventKind; facts(data: OrderMessage['data']): Facts }
  const { orderId, userId } = message.data
  return {
    kind,
    userId,
    orderId,
    causeId: message.id,
    traceparent: message.traceparent ?? null,
    facts: { orderId, ...facts(message.data) },
  }
}

/** By currency: to make one took 3 % of this service's CPU under load. */
const formats = new Map<string, Intl.NumberFormat>()

/** An amount in minor units as people read it, such as `€12.50`. */
export function priceText({ amount, currency }: Money): string {
  const format = formats.get(currency) ?? new Intl.NumberFormat('en', { style: 'currency', currency })
  formats.set(currency, format)
  const digits = format.resolvedOptions().maximumFractionDigits ?? 2
  const sign = amount < 0n ? '-' : ''
  const minor = String(amount < 0n ? -amount : amount).padStart(digits + 1, '0')
  const whole = minor.slice(0, minor.length - digits)
  // As a decimal text, which the formatter takes without rounding, whatever its size.
  return format.format(`${sign}${whole}${digits > 0 ? '.' : ''}${minor.slice(minor.length - digits)}` as `${number}`)
}
