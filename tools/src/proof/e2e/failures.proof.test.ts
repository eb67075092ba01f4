import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { eventually, startMailSink } from '@shopstream/testing'
import {
  type Customer,
  call,
  order,
  orderOf,
  ordersOf,
  persistently,
  register,
  staffToken,
  stock,
  stockOf,
} from '../../local/client.ts'
import { type ServiceName, serviceNames } from '../../local/services.ts'
import type { Shop } from '../../local/shop.ts'
import { mailsAbout, mailsTo, openShop } from './shop-under-test.ts'

let opened: Awaited<ReturnType<typeof openShop>>
let shop: Shop
let staff: string
let customer: Customer

beforeAll(async () => {
  opened = await openShop()
  shop = opened.shop
  staff = await staffToken(shop)
  customer = await register(shop)
}, 180_000)

afterAll(async () => {
  await shop?.stop()
  opened?.forget()
}, 30_000)

const minutes = 60_000
const patience = { timeoutMs: 2 * minutes }
const isDecided = ({ status }: { status: string }) => status !== 'pending'
const restarts = () => Object.fromEntries(serviceNames.map((name) => [name, shop.services[name]?.restartCount]))
async function killOnceReady(name: ServiceName) {
  await eventually(`${name} to be ready`, () => shop.services[name]?.ready, patience)
  shop.services[name]?.kill('SIGKILL')
}
const shopIsReady = () =>
  eventually(
    'every service to be ready',
    async () => {
      const { status, body } = await call(shop, 'GET', '/readyz')
      return status === 200 && body.status === 'ok'
    },
    { timeoutMs: 60_000 },
  )

test(
  'kill -9 of each service in turn, twice, while orders come in: each decided, none twice, one mail each',
  async () => {
    const sku = await stock(shop, staff, 130)
    await order(shop, customer.token, sku)
    const toKill: ServiceName[] = [...serviceNames, ...serviceNames]
    const ids: string[] = []
    const ordersForEach = 20
    const all = ordersForEach * toKill.length
    let started = 1
    const client = async () => {
      while (started < all) {
        started += 1
        if (started % ordersForEach === 5) await killOnceReady(toKill.shift() as ServiceName)
        ids.push((await order(shop, customer.token, sku)).body.id)
      }
    }
    await Promise.all(Array.from({ length: 10 }, client))
    await eventually(
      'the killed services to be back',
      () => Object.values(restarts()).every((count) => count === 2),
      patience,
    )

    const orders = await eventually(
      'all orders to be decided',
      async () => {
        const found = (await ordersOf(shop, staff)).filter(({ items }) => items[0]?.sku === sku)
        return found.every(isDecided) && found
      },
      patience,
    )
    if (!orders) throw new Error('no orders')
    expect(orders).toHaveLength(all)
    expect(new Set([...ids, ...orders.map(({ id }) => id)]).size).toBe(all)
    const confirmed = orders.filter(({ status }) => status === 'confirmed')
    expect(confirmed).toHaveLength(130)
    expect(await stockOf(shop, staff, sku)).toEqual({ sku, onHand: 130, reserved: 130, available: 0 })
    for (const { id } of orders) {
      await eventually(`the mail about ${id}`, () => mailsAbout(shop.mail.mails(), id).length > 0, patience)
    }
    expect(orders.filter(({ id }) => mailsAbout(shop.mail.mails(), id).length !== 1)).toEqual([])
  },
  6 * minutes,
)

test(
  'Postgres restarted: requests get 503 with Retry-After meanwhile, no process dies, every accepted order is decided',
  async () => {
    await shopIsReady()
    const sku = await stock(shop, staff, 1_000)
    const before = restarts()
    const first = await order(shop, customer.token, sku)
    await shop.postgres.stop()
    const refused = await call(shop, 'POST', '/v1/orders', { token: customer.token, body: orderOf(sku) })
    expect(refused).toMatchObject({ status: 503, body: { code: 'database-unavailable' } })
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await call(shop, 'GET', '/livez')).status).toBe(200)
    await shop.postgres.restart()
    const placed = await Promise.all(Array.from({ length: 20 }, () => order(shop, customer.token, sku)))
    await shop.postgres.kill()
    await shop.postgres.restart()
    placed.push(...(await Promise.all(Array.from({ length: 20 }, () => order(shop, customer.token, sku)))))
    for (const { body } of [first, ...placed]) {
      await eventually(
        `${body.id} to be confirmed`,
        async () =>
          (await persistently(shop, 'GET', `/v1/orders/${body.id}`, { token: customer.token })).body.status ===
          'confirmed',
        patience,
      )
    }
    expect(await stockOf(shop, staff, sku)).toMatchObject({ reserved: 41 })
    expect(restarts()).toEqual(before)
  },
  5 * minutes,
)

test(
  'Kafka down for 20 s: orders are taken as pending, readiness says what is degraded, and they are decided when it is back',
  async () => {
    await shopIsReady()
    const sku = await stock(shop, staff, 1_000)
    await order(shop, customer.token, sku, { prefer: 'wait=10' })
    const before = restarts()
    await shop.kafka.stop()
    const down = Date.now()
    const placed = await Promise.all(Array.from({ length: 30 }, () => order(shop, customer.token, sku)))
    expect(placed.map(({ status, body }) => [status, body.status])).toEqual(placed.map(() => [201, 'pending']))
    await eventually(
      'the gateway to say so',
      async () => {
        const { status, body } = await call(shop, 'GET', '/readyz')
        return status === 200 && body.status === 'degraded'
      },
      patience,
    )
    await eventually('20 s to be over', () => Date.now() - down >= 20_000, { timeoutMs: 30_000 })
    await shop.kafka.restart()
    for (const { body } of placed) {
      await eventually(
        `${body.id} to be confirmed`,
        async () =>
          (await call(shop, 'GET', `/v1/orders/${body.id}`, { token: customer.token })).body.status === 'confirmed',
        patience,
      )
    }
    expect(await stockOf(shop, staff, sku)).toMatchObject({ reserved: 31 })
    expect(restarts()).toEqual(before)
  },
  5 * minutes,
)

test(
  'SMTP away: mails wait and go out later, once',
  async () => {
    await shopIsReady()
    const { SMTP_PORT: smtpPort, MAIL_UI_PORT: uiPort } = shop.ports
    await shop.mail.close()
    const newcomer = await register(shop)
    await eventually(
      'a waiting mail',
      async () => {
        const [mail] = (await call(shop, 'GET', '/v1/notifications', { token: newcomer.token })).body.items
        return mail?.state === 'queued'
      },
      patience,
    )
    await eventually(
      'notification to say what is missing',
      async () => {
        const own = await fetch(`${shop.serviceUrls.notification}/readyz`)
        return own.status === 200 && ((await own.json()) as { status: string }).status === 'degraded'
      },
      patience,
    )
    const back = await startMailSink({ smtpPort, uiPort })
    try {
      await eventually('the mail', () => mailsTo(back.mails(), newcomer).length > 0, patience)
      await eventually(
        'its record',
        async () => {
          const [mail] = (await call(shop, 'GET', '/v1/notifications', { token: newcomer.token })).body.items
          return mail?.state === 'sent'
        },
        patience,
      )
      expect(mailsTo(back.mails(), newcomer)).toHaveLength(1)
    } finally {
      await back.close()
    }
  },
  3 * minutes,
)
