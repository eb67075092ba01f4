import { expect, test } from '@jest/globals'
import { type Message, on } from '../index.ts'
import { byEvent, topicsOf } from './consumption.ts'

const never = async () => {}

test('a row tells its events, the fields that it uses of each, and its topics', () => {
  const row = on({ StockReserved: ['orderId'], OrderShipped: ['orderId', 'carrier'] }, never, { attempts: 3 })
  expect(row).toMatchObject({
    events: ['StockReserved', 'OrderShipped'],
    uses: { StockReserved: ['orderId'], OrderShipped: ['orderId', 'carrier'] },
    policy: { attempts: 3, whenDead: 'block' },
  })
  expect(topicsOf([row])).toEqual(['shop.reservation.v1', 'shop.order.v1'])
})

test('two rows for one event are refused', () => {
  expect(() => byEvent([on({ StockReserved: [] }, never), on({ StockReserved: ['orderId'] }, never)])).toThrow(
    'consumes.ts has two rows for StockReserved',
  )
})

/** Compiled by `npm run typecheck`, never run: each line would be accepted if types did not hold handlers to their rows. */
export function whatDoesNotCompile() {
  on({ StockRejected: ['shortages'] }, async (_tx, messages) => {
    for (const { data } of messages) {
      data.shortages[0]?.sku.toUpperCase()
      // @ts-expect-error: a field that the row does not declare
      data.orderId
    }
  })
  on({ StockReserved: [], StockRejected: ['shortages'] }, async (_tx, messages) => {
    for (const message of messages) {
      if (message.type === 'StockRejected') message.data.shortages
      // @ts-expect-error: declared for the other event only
      else message.data.shortages
    }
  })
  // @ts-expect-error: a field that the event does not have
  on({ OrderShipped: ['shippedTo'] }, never)
  // @ts-expect-error: a field of another event
  on({ OrderShipped: ['carrier'], OrderCancelled: ['carrier'] }, never)
  // @ts-expect-error: no event
  on({ OrderShipped: ['carrier'], OrderShiped: [] }, never)
  // @ts-expect-error: a handler of another event
  on({ OrderShipped: ['orderId'] }, async (_tx, _messages: Message<'OrderCancelled', 'orderId'>[]) => {})
  // @ts-expect-error: a handler that takes the whole payload
  on({ OrderShipped: ['orderId'] }, async (_tx, _messages: Message<'OrderShipped'>[]) => {})
  on({ OrderShipped: ['orderId', 'carrier'] }, async (_tx, _messages: Message<'OrderShipped', 'orderId'>[]) => {})
}
