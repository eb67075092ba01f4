import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { eventually } from '@shopstream/testing'
import { type Answer, type Customer, call, orderOf, register, staffToken } from '../client.ts'
import { type Condition, type DemoShop, hasMail, isEvent, openStage, type Stage, say } from './stage.ts'

/** Plays a day in a running shop. Throws with what went otherwise than it should. */
export async function play(shop: DemoShop): Promise<void> {
  const stage = await openStage(shop)
  try {
    const [ada, lee] = await twoRegister(stage)
    const staff = await staffToken(shop)
    const sku = await staffStock(stage, staff)
    const first = await oneOrders(stage, ada, sku)
    const rush = await manyOrder(stage, lee, sku)
    await staffShip(stage, staff, ada, first)
    await oneCancels(stage, lee, rush)
    const { body: level } = await stage.request('GET', `/v1/products/${sku}/stock`, 200, { token: staff })
    if (!isDeepStrictEqual(level, { sku, onHand: 8, reserved: 7, available: 1 }))
      throw new Error(`the stock is ${JSON.stringify(level)}`)
  } finally {
    await stage.close()
  }
}

async function twoRegister(stage: Stage): Promise<[Customer, Customer]> {
  stage.title('Two customers register')
  const [ada, lee] = [await register(stage.shop, 'Ada Lovelace'), await register(stage.shop, '李小龍')]
  say(`  ${ada.email}\n  ${lee.email}`)
  await stage.show(
    'both welcome mails',
    hasMail(ada, 'welcome'),
    hasMail(lee, 'welcome'),
    isEvent('UserRegistered', lee.id),
  )
  return [ada, lee]
}

async function staffStock(stage: Stage, staff: string): Promise<string> {
  stage.title('Staff list a product and put 10 pieces on the shelf')
  const sku = `demo-${randomUUID().slice(0, 8)}`
  const price = { amount: 4_900, currency: 'EUR' }
  await stage.request('PUT', `/v1/products/${sku}`, 201, {
    token: staff,
    body: { name: 'Limited print', description: 'Ten copies, numbered.', price },
  })
  await stage.request('POST', `/v1/products/${sku}/stock-adjustments`, 201, {
    token: staff,
    body: { delta: 10, reason: 'from the printer' },
  })
  await stage.show('the listing', isEvent('ProductListed', sku), isEvent('StockLevelChanged', sku))
  return sku
}

/** Orders, and sends the same request again. Returns the order's id. */
async function oneOrders(stage: Stage, ada: Customer, sku: string): Promise<string> {
  stage.title('Ada orders two; the answer comes when they are reserved')
  await eventually('the order service to know the product', () => isKnown(stage.shop, ada, sku))
  const request = {
    token: ada.token,
    body: orderOf(sku, 2),
    headers: { prefer: 'wait=10', 'idempotency-key': randomUUID() },
  }
  const first = await stage.request('POST', '/v1/orders', 201, request)
  const { id, status } = first.body
  if (status !== 'confirmed') throw new Error(`the first order is ${status}`)
  await stage.show(
    'the confirmation',
    isEvent('StockReserved', id),
    isEvent('OrderConfirmed', id),
    hasMail(ada, 'confirmed'),
  )

  stage.title('Her connection broke, she sends the same request again: nothing happens twice')
  const again = await stage.request('POST', '/v1/orders', 201, request)
  if (again.headers.get('idempotency-replayed') !== 'true' || !isDeepStrictEqual(again.body, first.body))
    throw new Error('the repeated request was not answered with the first answer')
  say('  the same order, answered from memory (Idempotency-Replayed: true)')
  return id
}

/** An order at a wrong price is refused for the price alone once the product is known. */
async function isKnown(shop: DemoShop, { token }: Customer, sku: string): Promise<boolean> {
  const items = [{ sku, quantity: 1, unitPrice: { amount: 1, currency: 'EUR' } }]
  const probe = await call(shop, 'POST', '/v1/orders', { token, body: { ...orderOf(sku), items } })
  return probe.body.code === 'price-changed'
}

/** Returns what the orders were answered. */
async function manyOrder(stage: Stage, lee: Customer, sku: string): Promise<Answer[]> {
  stage.title('Twelve orders at once for the eight that are left')
  const order = () =>
    call(stage.shop, 'POST', '/v1/orders', { token: lee.token, body: orderOf(sku), headers: { prefer: 'wait=15' } })
  const rush = await Promise.all(Array.from({ length: 12 }, order))
  const count = (status: string) => rush.filter(({ body }) => body.status === status).length
  say(`  ${count('confirmed')} confirmed, ${count('rejected')} rejected`)
  if (count('confirmed') !== 8 || count('rejected') !== 4) throw new Error('8 confirmed and 4 rejected were expected')
  const decided: Condition = (events, mails) =>
    rush.every(
      ({ body }) =>
        events.some(({ type, key }) => key === body.id && /^Order(Confirmed|Rejected)$/.test(type)) &&
        mails.some(({ text }) => text.includes(body.id)),
    )
  await stage.show('a mail for each', decided)
  return rush
}

async function staffShip(stage: Stage, staff: string, ada: Customer, order: string): Promise<void> {
  stage.title("Staff ship Ada's order, and it arrives")
  const body = { carrier: 'Post', trackingNumber: 'T-0001' }
  await stage.request('POST', `/v1/orders/${order}/shipment`, 201, { token: staff, body })
  await stage.request('POST', `/v1/orders/${order}/delivery`, 201, { token: staff })
  await stage.show('the sale', isEvent('StockSold', order), isEvent('OrderDelivered', order), hasMail(ada, 'shipped'))
}

async function oneCancels(stage: Stage, lee: Customer, rush: readonly Answer[]): Promise<void> {
  stage.title('Lee cancels one; its piece is on the shelf again')
  const id = rush.find(({ body }) => body.status === 'confirmed')?.body.id
  await stage.request('POST', `/v1/orders/${id}/cancel`, 200, {
    token: lee.token,
    body: { reason: 'changed my mind' },
  })
  await stage.show('the release', isEvent('StockReleased', id), hasMail(lee, 'cancelled'))
}
