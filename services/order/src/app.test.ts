import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { createDatabase, sql } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import type { AnyNewEvent, Message } from '@shopstream/messaging'
import { createWorld, eventually, type World } from '@shopstream/testing'
import { buildOrder } from './app.ts'
import { waiting } from './prefer-wait.ts'
import type { Tables } from './tables.ts'

let world: World
let orders: Awaited<ReturnType<typeof buildOrder>>
let staff: string
let buyer: string

beforeAll(async () => {
  world = await createWorld('order')
  await world.publishSigningKey()
  await world.publish(
    product('mug', 1450n, 'EUR'),
    product('tea', 1290n, 'EUR'),
    product('import', 5n, 'USD'),
    product('old', 1n, 'EUR'),
  )
  await world.publish({ ...product('old', 1n, 'EUR', 2n), type: 'ProductRetired' })
  orders = await buildOrder({ ...world.settings, RESERVATION_DEADLINE_SECONDS: 900 }, world.logger)
  await orders.start()
  staff = await world.token({ id: newEventId(), roles: ['customer', 'staff'] })
  buyer = await world.token({ id: newEventId(), roles: ['customer'] })
  await eventually('readiness', async () => (await orders.http.inject('/readyz')).statusCode === 200)
})

afterAll(async () => {
  await orders.stop()
  await world.close()
})

function product(sku: string, amount: bigint, currency: string, sequence = 1n) {
  const data = { sku, name: sku, description: '', price: { amount, currency }, version: Number(sequence) }
  return { type: 'ProductListed' as const, key: sku, sequence, data }
}
const reserved = (orderId: string): AnyNewEvent<'StockReserved'> => ({
  type: 'StockReserved',
  key: orderId,
  sequence: 1n,
  data: { orderId, lines: [{ sku: 'mug', quantity: 1 }] },
})
const rejected = (orderId: string): AnyNewEvent<'StockRejected'> => ({
  type: 'StockRejected',
  key: orderId,
  sequence: 1n,
  data: { orderId, shortages: [{ sku: 'mug', requested: 1, available: 0 }] },
})

async function call(
  method: 'GET' | 'POST',
  url: string,
  token?: string,
  body?: object,
  headers: Record<string, string> = {},
) {
  const response = await orders.http.inject({
    method,
    url,
    headers: { ...headers, ...(token && { authorization: `Bearer ${token}` }) },
    ...(body && { payload: body }),
  })
  return { status: response.statusCode, body: response.json(), headers: response.headers }
}

const shippingAddress = { name: '李小龍', line1: '1 Main Street', city: 'Zürich', postalCode: '8001', country: 'CH' }
const mug = { items: [{ sku: 'mug', quantity: 1 }], shippingAddress }
const place = async (token = buyer) => (await call('POST', '/v1/orders', token, mug)).body.id as string
const statusOf = async (id: string) => (await call('GET', `/v1/orders/${id}`, staff)).body.status
const reaches = (id: string, status: string) =>
  eventually(`${id} to be ${status}`, async () => (await statusOf(id)) === status)

async function confirmed(): Promise<string> {
  const id = await place()
  await world.publish(reserved(id))
  await reaches(id, 'confirmed')
  return id
}

describe('placing', () => {
  test('an order is pending, priced from the catalogue, and announced', async () => {
    const items = [
      { sku: 'mug', quantity: 2, unitPrice: { amount: 1450, currency: 'EUR' } },
      { sku: 'tea', quantity: 1 },
    ]
    const { status, body, headers } = await call('POST', '/v1/orders', buyer, { items, shippingAddress })
    expect({ status, body }).toMatchObject({
      status: 201,
      body: {
        status: 'pending',
        total: { amount: 4190, currency: 'EUR' },
        reason: null,
        shippingAddress,
        shipment: null,
        history: [{ status: 'pending' }],
      },
    })
    expect(headers.location).toBe(`/v1/orders/${body.id}`)
    const [event] = (await eventually('the event', () => {
      const events = world.events('OrderPlaced').filter(({ key }) => key === body.id)
      return events.length > 0 ? events : undefined
    })) as Message<'OrderPlaced'>[]
    expect(event).toMatchObject({ sequence: 1n, data: { orderId: body.id, total: { amount: 4190n, currency: 'EUR' } } })
  })

  test.each([
    ['unknown-product', 422, { items: [{ sku: 'nothing', quantity: 1 }] }],
    ['unknown-product', 422, { items: [{ sku: 'old', quantity: 1 }] }],
    [
      'duplicate-line',
      422,
      {
        items: [
          { sku: 'mug', quantity: 1 },
          { sku: 'mug', quantity: 1 },
        ],
      },
    ],
    [
      'mixed-currencies',
      422,
      {
        items: [
          { sku: 'mug', quantity: 1 },
          { sku: 'import', quantity: 1 },
        ],
      },
    ],
    ['price-changed', 422, { items: [{ sku: 'mug', quantity: 1, unitPrice: { amount: 1, currency: 'EUR' } }] }],
    ['invalid-request', 400, { items: [] }],
    ['invalid-request', 400, { items: Array.from({ length: 101 }, (_, i) => ({ sku: `sku-${i}`, quantity: 1 })) }],
    ...[0, -1, 1.5, 1_000_000_000, '1'].map(
      (quantity) => ['invalid-request', 400, { items: [{ sku: 'mug', quantity }] }] as const,
    ),
    ['invalid-request', 400, { ...mug, coupon: 'free' }],
    ['invalid-request', 400, { ...mug, shippingAddress: { ...shippingAddress, name: 'a\nb' } }],
    ['invalid-request', 400, { ...mug, shippingAddress: { ...shippingAddress, country: 'Switzerland' } }],
  ])('%s (%i): %j', async (code, status, body) => {
    expect(await call('POST', '/v1/orders', buyer, { shippingAddress, ...body })).toMatchObject({
      status,
      body: { code, status },
    })
  })

  test('the same idempotency key places one order, also ten times at once', async () => {
    const key = { 'idempotency-key': newEventId() }
    const answers = await Promise.all(Array.from({ length: 10 }, () => call('POST', '/v1/orders', buyer, mug, key)))
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1)
    expect(answers.filter(({ headers }) => headers['idempotency-replayed'] === undefined)).toHaveLength(1)
    const other = { ...mug, items: [{ sku: 'tea', quantity: 1 }] }
    expect(await call('POST', '/v1/orders', buyer, other, key)).toMatchObject({
      status: 422,
      body: { code: 'idempotency-key-reused' },
    })
  })

  test('with Prefer: wait the answer comes when it is decided, and a replay gives that answer', async () => {
    const headers = { prefer: 'wait=10', 'idempotency-key': newEventId() }
    const id = newEventId()
    const patient = await world.token({ id, roles: ['customer'] })
    const waiting = call('POST', '/v1/orders', patient, mug, headers)
    const event = (await eventually('the order', () =>
      world.events('OrderPlaced').find(({ data }) => data.userId === id),
    )) as Message<'OrderPlaced'>
    await world.publish(reserved(event.key))
    const first = await waiting
    expect(first).toMatchObject({ status: 201, body: { id: event.key, status: 'confirmed' } })
    expect((await call('POST', '/v1/orders', patient, mug, headers)).body).toEqual(first.body)
  })

  test('without a decision the answer comes after the wait, with what is known', async () => {
    expect(await call('POST', '/v1/orders', buyer, mug, { prefer: 'wait=1' })).toMatchObject({
      status: 201,
      body: { status: 'pending' },
    })
  })

  test('many that wait ask the database together, and see what another instance has decided', async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, () => place()))
    const { DATABASE_URL: url, DATABASE_POOL_SIZE: poolSize } = world.settings
    const database = createDatabase<Tables>({ url, poolSize, applicationName: 'another', logger: world.logger })
    try {
      let statements = 0
      const query = database.query.withPlugin({
        transformQuery({ node }) {
          statements++
          return node
        },
        transformResult: async ({ result }) => result,
      })
      const waitUntilDecided = waiting({ ...database, query })
      const { signal } = new AbortController()
      const answers = ids.map((id) => waitUntilDecided({ id, owner: undefined, seconds: 10, signal }))
      await delay(1_500)
      expect(statements).toBeGreaterThan(ids.length) // each once, and then all together, every 300 ms at the most
      expect(statements).toBeLessThan(2 * ids.length)
      await sql`update "order" set status = 'confirmed' where id = any(${ids}::uuid[])`.execute(database.query)
      expect((await Promise.all(answers)).map((order) => order?.status)).toEqual(ids.map(() => 'confirmed'))
    } finally {
      await database.close()
    }
  })
})

describe('the life of an order', () => {
  test('confirmed, shipped, delivered; each step once and in its history', async () => {
    const id = await confirmed()
    const shipment = { carrier: 'Post', trackingNumber: 'T1' }
    expect(await call('POST', `/v1/orders/${id}/delivery`, staff)).toMatchObject({
      status: 409,
      body: { code: 'not-deliverable' },
    })
    expect(await call('POST', `/v1/orders/${id}/shipment`, buyer, shipment)).toMatchObject({ status: 403 })
    expect(await call('POST', `/v1/orders/${id}/shipment`, staff, shipment)).toMatchObject({
      status: 201,
      body: { status: 'shipped', shipment },
    })
    expect(await call('POST', `/v1/orders/${id}/shipment`, staff, shipment)).toMatchObject({
      status: 409,
      body: { code: 'not-shippable' },
    })
    expect(await call('POST', `/v1/orders/${id}/cancel`, buyer, {})).toMatchObject({
      status: 409,
      body: { code: 'not-cancellable' },
    })
    const { body } = await call('POST', `/v1/orders/${id}/delivery`, staff)
    expect(body.history.map(({ status }: { status: string }) => status)).toEqual([
      'pending',
      'confirmed',
      'shipped',
      'delivered',
    ])
    const types = ['OrderPlaced', 'OrderConfirmed', 'OrderShipped', 'OrderDelivered'] as const
    const told = () => types.flatMap((type) => world.events(type)).filter(({ key }) => key === id)
    await eventually('four events', () => told().length === 4)
    expect(told().map(({ sequence }) => sequence)).toEqual([1n, 2n, 3n, 4n])
  })

  test('a rejection says what was short', async () => {
    const id = await place()
    await world.publish(rejected(id))
    await reaches(id, 'rejected')
    expect((await call('GET', `/v1/orders/${id}`, buyer)).body.reason).toContain('mug (1 wanted, 0 left)')
  })

  test('what is confirmed can be cancelled, what is rejected or cancelled is over', async () => {
    const [held, short] = [await confirmed(), await place()]
    await world.publish(rejected(short))
    await reaches(short, 'rejected')
    expect(await call('POST', `/v1/orders/${held}/cancel`, buyer, { reason: 'too late' })).toMatchObject({
      status: 200,
      body: { status: 'cancelled', reason: 'too late' },
    })
    for (const [id, url, code] of [
      [short, 'cancel', 'not-cancellable'],
      [short, 'shipment', 'not-shippable'],
      [held, 'shipment', 'not-shippable'],
      [held, 'delivery', 'not-deliverable'],
    ]) {
      const shipment = url === 'shipment' ? { carrier: 'Post', trackingNumber: 'T1' } : {}
      const body = url === 'delivery' ? undefined : shipment
      expect(await call('POST', `/v1/orders/${id}/${url}`, staff, body)).toMatchObject({ status: 409, body: { code } })
    }
  })

  test('a cancellation wins over a reservation that comes later, and may be repeated', async () => {
    const id = await place()
    expect(await call('POST', `/v1/orders/${id}/cancel`, buyer)).toMatchObject({
      status: 200,
      body: { status: 'cancelled' },
    })
    const other = await place()
    await world.publish(reserved(id), reserved(other))
    await reaches(other, 'confirmed')
    expect(await call('POST', `/v1/orders/${id}/cancel`, buyer, { reason: 'again' })).toMatchObject({
      status: 200,
      body: { status: 'cancelled' },
    })
    expect(world.events('OrderCancelled').filter(({ key }) => key === id)).toHaveLength(1)
  })

  test('the same reservation delivered three times confirms once', async () => {
    const id = await place()
    const messages = await world.publish(reserved(id))
    await world.bus.publish(messages)
    await world.bus.publish(messages)
    await confirmed()
    await reaches(id, 'confirmed')
    await eventually('the confirmation', () => world.events('OrderConfirmed').some(({ key }) => key === id))
    expect(world.events('OrderConfirmed').filter(({ key }) => key === id)).toHaveLength(1)
  })
})

describe('reading', () => {
  test("somebody else's order is not there", async () => {
    const id = await place()
    const stranger = await world.token({ id: newEventId(), roles: ['customer'] })
    for (const [method, url] of [
      ['GET', `/v1/orders/${id}`],
      ['POST', `/v1/orders/${id}/cancel`],
    ] as const) {
      expect(await call(method, url, stranger)).toMatchObject({ status: 404, body: { code: 'order-not-found' } })
    }
    expect((await call('GET', '/v1/orders', stranger)).body).toEqual({ items: [], nextCursor: null })
    expect(await call('GET', `/v1/orders/${id}`)).toMatchObject({ status: 401 })
    expect(await call('GET', '/v1/orders/17', buyer)).toMatchObject({ status: 400, body: { code: 'invalid-request' } })
  })

  test('the list is the newest first, by status and in pages', async () => {
    const customer = await world.token({ id: newEventId(), roles: ['customer'] })
    const ids = [await place(customer), await place(customer), await place(customer)]
    await call('POST', `/v1/orders/${ids[1]}/cancel`, customer)
    const list = async (query: string) => (await call('GET', `/v1/orders?${query}`, customer)).body
    const idsOf = ({ items }: { items: { id: string }[] }) => items.map(({ id }) => id)
    expect(idsOf(await list(''))).toEqual(ids.toReversed())
    expect(idsOf(await list('status=cancelled'))).toEqual([ids[1]])
    const first = await list('limit=2')
    expect(idsOf(first)).toEqual([ids[2], ids[1]])
    expect(idsOf(await list(`limit=2&cursor=${first.nextCursor}`))).toEqual([ids[0]])
  })
})

test('requests that hold all connections that are theirs keep no event from taking effect, and no deadline', async () => {
  const [id, overdue, held] = [await place(), await place(), await place()]
  const { DATABASE_URL: url, DATABASE_POOL_SIZE: poolSize } = world.settings
  const database = createDatabase<Tables>({ url, poolSize: 1, applicationName: 'holder', logger: world.logger })
  const holder = await database.session('holder', { idle_in_transaction_session_timeout: 0 })
  const waiting = async () => {
    const { rows } = await sql`
      select 1 from pg_stat_activity
      where datname = current_database() and application_name = 'order' and wait_event_type = 'Lock'`.execute(
      database.query,
    )
    return rows.length
  }
  const limitLocks = async (ms: number) => {
    const { username, pathname } = new URL(url)
    await holder.query(`alter role "${username}" in database "${pathname.slice(1)}" set lock_timeout = ${ms}`)
    await holder.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'order'`,
    )
  }
  try {
    await limitLocks(0)
    await holder.query('begin')
    await holder.query(`select from "order" where id = '${held}' for update`)
    // Some get a connection that has just been ended, and are answered at once.
    const asking = Array.from({ length: 3 * poolSize }, () => call('POST', `/v1/orders/${held}/cancel`, buyer))
    await eventually('all connections to be taken', async () => (await waiting()) === poolSize)
    await world.publish(reserved(id))
    await sql`update "order" set reservation_deadline = now() where id = ${overdue}`.execute(database.query)
    const becomes = (order: string, status: string) =>
      eventually(`${order} to be ${status}`, async () => {
        const { rows } = await sql<{ status: string }>`select status from "order" where id = ${order}`.execute(
          database.query,
        )
        return rows[0]?.status === status
      })
    await becomes(id, 'confirmed')
    await becomes(overdue, 'cancelled')
    expect(await waiting()).toBe(poolSize)
    await holder.query('commit')
    await Promise.all(asking)
    await limitLocks(5_000)
  } finally {
    await holder.close()
    await database.close()
  }
})

test('an order without a reservation is cancelled after its deadline', async () => {
  const hasty = await createWorld('order')
  await hasty.publishSigningKey()
  await hasty.publish(product('mug', 1450n, 'EUR'))
  const service = await buildOrder({ ...hasty.settings, RESERVATION_DEADLINE_SECONDS: 1 }, hasty.logger)
  await service.start()
  try {
    await eventually('readiness', async () => (await service.http.inject('/readyz')).statusCode === 200)
    const authorization = `Bearer ${await hasty.token({ id: newEventId(), roles: ['customer'] })}`
    const placed = await service.http.inject({
      method: 'POST',
      url: '/v1/orders',
      headers: { authorization },
      payload: mug,
    })
    const cancelled = await eventually('the cancellation', () => hasty.events('OrderCancelled')[0])
    expect(cancelled).toMatchObject({ key: placed.json().id, data: { reason: 'reservation-timeout' } })
    await eventually('its outcome', async () =>
      /^shopstream_order_decision_seconds_count\{\S*outcome="expired"\S* 1$/m.test(
        (await service.http.inject('/metrics')).body,
      ),
    )
  } finally {
    await service.stop()
    await hasty.close()
  }
})

test('metrics say how orders were decided, how long that took, and which are not', async () => {
  const measured = async (name: string, label = '') => {
    const { body } = await orders.http.inject('/metrics')
    const line = body.split('\n').find((one) => one.startsWith(`${name}{`) && one.includes(label))
    if (line === undefined) throw new Error(`${name} ${label} is not measured`)
    return Number(line.split(' ')[1])
  }
  const decided = (outcome: string) => measured('shopstream_order_decision_seconds_count', `outcome="${outcome}"`)
  const pending = () => measured('shopstream_orders_pending')
  const before = {
    confirmed: await decided('confirmed'),
    cancelled: await decided('cancelled'),
    expired: await decided('expired'),
    pending: await pending(),
  }
  const id = await confirmed()
  expect(await decided('confirmed')).toBe(before.confirmed + 1)
  expect((await call('POST', `/v1/orders/${id}/cancel`, buyer, { reason: 'x' })).status).toBeLessThan(300)
  const cancelled = await place()
  const words = { reason: 'reservation-timeout' } // a buyer's own
  expect((await call('POST', `/v1/orders/${cancelled}/cancel`, buyer, words)).status).toBeLessThan(300)
  expect([await decided('cancelled'), await decided('expired')]).toEqual([before.cancelled + 1, before.expired])
  await place()
  expect(await decided('confirmed')).toBe(before.confirmed + 1) // a cancellation after it decides nothing
  expect(await pending()).toBe(before.pending + 1)
  expect(await measured('shopstream_orders_overdue')).toBe(0)
  expect(await measured('shopstream_orders_pending_oldest_seconds')).toBeGreaterThan(0)
  expect(await measured('shopstream_database_connections', 'pool="sweeper",state="waiting"')).toBe(0)
})
