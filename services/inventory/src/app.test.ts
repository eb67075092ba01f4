import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { newEventId } from '@shopstream/events'
import { createWorld, eventually, type World } from '@shopstream/testing'
import { buildInventory } from './app.ts'

let world: World
let inventory: Awaited<ReturnType<typeof buildInventory>>
let staff: string
let customer: string

beforeAll(async () => {
  world = await createWorld('inventory')
  await world.publishSigningKey()
  inventory = await buildInventory({ ...world.settings, SEED_CATALOGUE: false }, world.logger)
  await inventory.start()
  staff = await world.token({ id: newEventId(), roles: ['customer', 'staff'] })
  customer = await world.token({ id: newEventId(), roles: ['customer'] })
  await eventually('readiness', async () => (await inventory.http.inject('/readyz')).statusCode === 200)
})

afterAll(async () => {
  await inventory.stop()
  await world.close()
})

type Method = 'GET' | 'PUT' | 'POST' | 'DELETE'
async function call(method: Method, url: string, token?: string, body?: object, headers: Record<string, string> = {}) {
  const response = await inventory.http.inject({
    method,
    url,
    headers: { ...headers, ...(token && { authorization: `Bearer ${token}` }) },
    ...(body && { payload: body }),
  })
  return {
    status: response.statusCode,
    body: response.body === '' ? undefined : response.json(),
    headers: response.headers,
  }
}

const details = { name: 'Enamel mug', description: 'Holds 350 ml.', price: { amount: 1450, currency: 'EUR' } }

async function stocked(pieces: number): Promise<string> {
  const sku = `sku-${newEventId()}`
  await call('PUT', `/v1/products/${sku}`, staff, details)
  await call('POST', `/v1/products/${sku}/stock-adjustments`, staff, { delta: pieces, reason: 'delivery' })
  return sku
}

const levelOf = async (sku: string) => (await call('GET', `/v1/products/${sku}/stock`, staff)).body

function placed(...lines: { sku: string; quantity: number }[]) {
  const orderId = newEventId()
  const price = { amount: 1450n, currency: 'EUR' }
  return {
    type: 'OrderPlaced' as const,
    key: orderId,
    sequence: 1n,
    data: {
      orderId,
      userId: newEventId(),
      lines: lines.map((line) => ({ ...line, unitPrice: price })),
      total: price,
      placedAt: new Date(),
      reservationDeadline: new Date(Date.now() + 900_000),
    },
  }
}
const shipped = (orderId: string) => ({
  type: 'OrderShipped' as const,
  key: orderId,
  sequence: 3n,
  data: { orderId, userId: newEventId(), carrier: 'Post', trackingNumber: 'T1', shippedAt: new Date() },
})
const cancelled = (orderId: string) => ({
  type: 'OrderCancelled' as const,
  key: orderId,
  sequence: 2n,
  data: { orderId, userId: newEventId(), reason: 'changed my mind', cancelledAt: new Date() },
})

const answersTo = (orderId: string) =>
  (['StockReserved', 'StockRejected', 'StockReleased', 'StockSold'] as const)
    .flatMap((type) => world.events(type))
    .filter(({ key }) => key === orderId)

describe('the catalogue', () => {
  test('a product is listed, changed, retired and listed again, each announced once', async () => {
    const sku = `mug-${newEventId()}`
    expect(await call('PUT', `/v1/products/${sku}`, staff, details)).toMatchObject({
      status: 201,
      body: { sku, ...details, available: 0, version: 1 },
    })
    expect(await call('PUT', `/v1/products/${sku}`, staff, details)).toMatchObject({
      status: 200,
      body: { version: 1 },
    })
    const changed = { ...details, price: { amount: 1500, currency: 'EUR' } }
    expect(await call('PUT', `/v1/products/${sku}`, staff, changed)).toMatchObject({
      status: 200,
      body: { ...changed, version: 2 },
    })
    expect((await call('DELETE', `/v1/products/${sku}`, staff)).status).toBe(204)
    expect(await call('GET', `/v1/products/${sku}`)).toMatchObject({ status: 404, body: { code: 'product-not-found' } })
    expect((await call('PUT', `/v1/products/${sku}`, staff, changed)).status).toBe(201)
    const types = ['ProductListed', 'ProductChanged', 'ProductRetired'] as const
    const announced = () => types.flatMap((type) => world.events(type)).filter(({ key }) => key === sku)
    await eventually('four events', () => announced().length === 4)
    const inOrder = announced().toSorted((a, b) => Number(a.sequence - b.sequence))
    expect(inOrder.map(({ type, sequence }) => [type, sequence])).toEqual([
      ['ProductListed', 1n],
      ['ProductChanged', 2n],
      ['ProductRetired', 3n],
      ['ProductListed', 4n],
    ])
    expect(inOrder[1]?.data).toMatchObject({ price: { amount: 1500n, currency: 'EUR' } })
  })

  test('twenty puts of a new sku at once list it once', async () => {
    const sku = `rush-${newEventId()}`
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => call('PUT', `/v1/products/${sku}`, staff, details)),
    )
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1)
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(19)
  })

  test('the list comes in pages and leaves nothing out', async () => {
    const skus = await Promise.all(Array.from({ length: 5 }, () => stocked(1)))
    const found: string[] = []
    let next = '/v1/products?limit=2'
    for (;;) {
      const { body } = await call('GET', next)
      found.push(...body.items.map(({ sku }: { sku: string }) => sku))
      if (body.nextCursor === null) break
      next = `/v1/products?limit=2&cursor=${body.nextCursor}`
    }
    expect(found).toEqual(expect.arrayContaining(skus))
    expect(new Set(found).size).toBe(found.length)
  })

  test('only staff may change it', async () => {
    expect(await call('PUT', '/v1/products/mug', customer, details)).toMatchObject({
      status: 403,
      body: { code: 'staff-only' },
    })
    expect(await call('PUT', '/v1/products/mug', undefined, details)).toMatchObject({
      status: 401,
      body: { code: 'invalid-token' },
    })
  })

  test.each([
    ['a name with a line break', { ...details, name: 'a\r\nBcc: x' }],
    ['a negative price', { ...details, price: { amount: -1, currency: 'EUR' } }],
    ['an unknown field', { ...details, colour: 'red' }],
    ['a number as text', { ...details, price: { amount: '5', currency: 'EUR' } }],
  ])('%s is refused', async (_, body) => {
    expect(await call('PUT', '/v1/products/mug', staff, body)).toMatchObject({
      status: 400,
      body: { code: 'invalid-request' },
    })
  })
})

describe('stock', () => {
  test('adjustments never bring what is available below zero', async () => {
    const sku = await stocked(5)
    await world.publish(placed({ sku, quantity: 3 }))
    await eventually('the reservation', async () => (await levelOf(sku)).reserved === 3)
    const url = `/v1/products/${sku}/stock-adjustments`
    expect(await call('POST', url, staff, { delta: -3, reason: 'broken' })).toMatchObject({
      status: 409,
      body: { code: 'stock-below-zero' },
    })
    expect(await call('POST', url, staff, { delta: -2, reason: 'broken' })).toMatchObject({
      status: 201,
      body: { sku, onHand: 3, reserved: 3, available: 0 },
    })
  })

  test('an adjustment with an idempotency key is booked once', async () => {
    const sku = await stocked(0)
    const url = `/v1/products/${sku}/stock-adjustments`
    const book = () =>
      call('POST', url, staff, { delta: 7, reason: 'delivery' }, { 'idempotency-key': `delivery-1${sku}` })
    const [first, again] = [await book(), await book()]
    expect(first.status).toBe(201)
    expect(again).toMatchObject({ status: 201, body: first.body, headers: { 'idempotency-replayed': 'true' } })
    expect(await levelOf(sku)).toMatchObject({ onHand: 7 })
  })
})

describe('orders', () => {
  test('are reserved whole or not at all, and never oversold', async () => {
    const sku = await stocked(10)
    const orders = Array.from({ length: 40 }, () => placed({ sku, quantity: 1 }))
    await world.publish(...orders)
    await eventually('all answers', () => orders.every(({ key }) => answersTo(key).length === 1))
    const types = orders.map(({ key }) => answersTo(key)[0]?.type)
    expect(types.filter((type) => type === 'StockReserved')).toHaveLength(10)
    expect(types.filter((type) => type === 'StockRejected')).toHaveLength(30)
    expect(await levelOf(sku)).toEqual({ sku, onHand: 10, reserved: 10, available: 0 })
  })

  test('many orders over the same skus in any order of lines do not deadlock', async () => {
    const skus = await Promise.all(Array.from({ length: 4 }, () => stocked(1_000)))
    const orders = Array.from({ length: 200 }, (_, i) => {
      const rotated = [...skus.slice(i % 4), ...skus.slice(0, i % 4)]
      return placed(...rotated.map((sku) => ({ sku, quantity: 1 })))
    })
    await world.publish(...orders)
    await eventually('all answers', () => orders.every(({ key }) => answersTo(key).length === 1))
    for (const sku of skus) expect(await levelOf(sku)).toMatchObject({ reserved: 200 })
  })

  test('shipping sells, cancelling releases, and each counts once however often it is delivered', async () => {
    const sku = await stocked(10)
    const [sold, released] = [placed({ sku, quantity: 2 }), placed({ sku, quantity: 3 })]
    const messages = await world.publish(sold, released, shipped(sold.key), cancelled(released.key))
    await world.bus.publish(messages)
    await world.bus.publish(messages)
    const last = placed({ sku, quantity: 1 })
    await world.publish(last)
    await eventually('the last answer', () => answersTo(last.key).length === 1)
    await eventually('the sale', () => answersTo(sold.key).length === 2 && answersTo(released.key).length === 2)
    expect(answersTo(sold.key).map(({ type, sequence }) => [type, sequence])).toEqual([
      ['StockReserved', 1n],
      ['StockSold', 2n],
    ])
    expect(await levelOf(sku)).toEqual({ sku, onHand: 8, reserved: 1, available: 7 })
  })

  test('an order that names its cause carries its trace on', async () => {
    const sku = await stocked(1)
    const order = placed({ sku, quantity: 1 })
    const [message] = await world.publish(order)
    await eventually('the answer', () => answersTo(order.key).length === 1)
    const traceOf = (header: unknown) => String(header).split('-')[1]
    expect(traceOf(answersTo(order.key)[0]?.traceparent)).toBe(traceOf(message?.headers.traceparent))
  })
})
