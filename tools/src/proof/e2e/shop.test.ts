import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { topics } from '@shopstream/events'
import { openKafkaBus } from '@shopstream/messaging'
import type { Bus } from '@shopstream/messaging/operations'
import { eventually, repository, runCommand, temporaryFolder, testLogger } from '@shopstream/testing'
import { call, order, orderOf, ordersOf, password, register, staffToken, stock, stockOf } from '../../local/client.ts'
import type { Shop } from '../../local/shop.ts'
import { keepsAnswers, serviceOf } from '../../services.ts'
import { mailsAbout, mailsTo, openShop } from './shop-under-test.ts'

let opened: Awaited<ReturnType<typeof openShop>>
let shop: Shop
let staff: string
let bus: Bus | undefined

beforeAll(async () => {
  opened = await openShop({ env: { LOG_LEVEL: 'trace' } })
  shop = opened.shop
  staff = await staffToken(shop)
}, 180_000)

afterAll(async () => {
  await bus?.close()
  await shop?.stop()
  opened?.forget()
}, 30_000)

/** One at a time: the last is closed after the tests, also when one of them failed. */
async function openBus({ kafka }: Shop): Promise<Bus> {
  const logger = testLogger()
  bus = await openKafkaBus({ brokers: kafka.brokers, topicPrefix: '', clientId: 'test', logger })
  return bus
}

const minutes = 60_000

test(
  'the demo plays, and shows what the README says',
  async () => {
    const readme = readFileSync(join(repository, 'README.md'), 'utf8')
    const sample = /The demo shows what becomes of one order:\n\n```\n([^`]+)```/.exec(readme)?.[1] ?? ''
    const lines = sample.split('\n').filter((line) => line !== '')
    expect(lines.length).toBeGreaterThan(10)
    const env = { ...process.env, SHOPSTREAM_HOME: opened.home }
    const said = await runCommand(process.execPath, ['tools/src/commands/demo.ts'], { cwd: repository, env })
    // Ids, places in a topic and the stock's own changes differ from one day to the next.
    const shape = (text: string) =>
      text.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID').replaceAll(/\/\d+ at \d+/g, '/P at N')
    const shown = shape(said).split('\n')
    let from = 0
    for (const line of lines.map(shape)) {
      const at = shown.indexOf(line, from)
      expect({ line, at: at < 0 ? 'not shown' : 'shown' }).toEqual({ line, at: 'shown' })
      from = at + 1
    }
  },
  minutes,
)
const subjectsTo = (customer: { email: string }) => mailsTo(shop.mail.mails(), customer).map(({ subject }) => subject)
const statusOf = async (token: string, id: string) =>
  (await call(shop, 'GET', `/v1/orders/${id}`, { token })).body.status

test(
  'the whole story: welcome, order, confirmation, shipping, delivery, and a mail for each that needs one',
  async () => {
    const customer = await register(shop, '李小龍 🐉 Łukasz')
    await eventually('the welcome mail', () => subjectsTo(customer).length === 1)
    const sku = await stock(shop, staff, 5)
    const placed = await order(shop, customer.token, sku, { prefer: 'wait=10' })
    expect(placed).toMatchObject({
      status: 201,
      body: { status: 'confirmed', total: { amount: 1_000, currency: 'EUR' } },
    })
    const path = `/v1/orders/${placed.body.id}`
    expect(
      await call(shop, 'POST', `${path}/shipment`, { token: staff, body: { carrier: 'Post', trackingNumber: 'T-1' } }),
    ).toMatchObject({ status: 201 })
    expect(await call(shop, 'POST', `${path}/delivery`, { token: staff })).toMatchObject({
      status: 201,
      body: { status: 'delivered' },
    })
    await eventually('three mails', () => subjectsTo(customer).length === 3)
    for (const word of ['welcome', 'confirmed', 'shipped']) {
      expect(subjectsTo(customer).filter((subject) => subject.toLowerCase().includes(word))).toHaveLength(1)
    }
    // Nobody has confirmed the address, so that no mail holds a word of whoever registered.
    expect(JSON.stringify(mailsTo(shop.mail.mails(), customer))).not.toContain('李小龍')
    await eventually('the sale', async () => (await stockOf(shop, staff, sku)).onHand === 4)
    const sent = (await call(shop, 'GET', '/v1/notifications', { token: customer.token })).body.items
    expect(sent.map(({ state }: { state: string }) => state)).toEqual(['sent', 'sent', 'sent'])
  },
  minutes,
)

test(
  '40 clients for 10 pieces: 10 confirmed, 30 rejected, none left, one mail each',
  async () => {
    const customers = await Promise.all(Array.from({ length: 40 }, () => register(shop)))
    const sku = await stock(shop, staff, 10)
    const first = await order(shop, (customers[0] as (typeof customers)[number]).token, sku, { prefer: 'wait=20' })
    const others = await Promise.all(
      customers.slice(1).map(({ token }) => order(shop, token, sku, { prefer: 'wait=20' })),
    )
    const statuses = [first, ...others].map(({ body }) => body.status)
    expect(statuses.filter((status) => status === 'confirmed')).toHaveLength(10)
    expect(statuses.filter((status) => status === 'rejected')).toHaveLength(30)
    expect(await stockOf(shop, staff, sku)).toEqual({ sku, onHand: 10, reserved: 10, available: 0 })
    for (const { body } of [first, ...others]) {
      await eventually(`the mail about ${body.id}`, () => mailsAbout(shop.mail.mails(), body.id).length === 1)
    }
  },
  2 * minutes,
)

test(
  'a cancelled order gives its pieces back',
  async () => {
    const customer = await register(shop)
    const sku = await stock(shop, staff, 1)
    const { body } = await order(shop, customer.token, sku, { prefer: 'wait=10' })
    expect((await order(shop, customer.token, sku, { prefer: 'wait=10' })).body.status).toBe('rejected')
    expect(await call(shop, 'POST', `/v1/orders/${body.id}/cancel`, { token: customer.token })).toMatchObject({
      status: 200,
    })
    await eventually('the piece', async () => (await stockOf(shop, staff, sku)).available === 1)
    await eventually('the mail', () => subjectsTo(customer).some((subject) => subject.includes('cancelled')))
  },
  minutes,
)

describe('bad input is refused with a stable code, and nothing is half done', () => {
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    call(shop, 'POST', path, { body, headers, token: staff })
  const account = (more: object) => ({ email: `x-${Date.now()}@example.com`, password, displayName: 'X', ...more })

  test.each<[string, () => ReturnType<typeof call>, number, string]>([
    ['malformed JSON', () => post('/v1/orders', '{"items": ['), 400, 'malformed-json'],
    ['an unknown field', () => post('/v1/orders', { ...orderOf('mug-enamel'), coupon: 1 }), 400, 'invalid-request'],
    ['a wrong type', () => post('/v1/orders', { items: 'all' }), 400, 'invalid-request'],
    ['a quantity of 0', () => post('/v1/orders', orderOf('mug-enamel', 0)), 400, 'invalid-request'],
    ['a quantity of -1', () => post('/v1/orders', orderOf('mug-enamel', -1)), 400, 'invalid-request'],
    ['a quantity of 1.5', () => post('/v1/orders', orderOf('mug-enamel', 1.5)), 400, 'invalid-request'],
    ['a quantity of 10^9', () => post('/v1/orders', orderOf('mug-enamel', 1e9)), 400, 'invalid-request'],
    [
      'duplicate lines',
      () =>
        post('/v1/orders', {
          ...orderOf('x'),
          items: [
            { sku: 'mug-enamel', quantity: 1 },
            { sku: 'mug-enamel', quantity: 1 },
          ],
        }),
      422,
      'duplicate-line',
    ],
    ['an unknown sku', () => post('/v1/orders', orderOf('no-such-thing')), 422, 'unknown-product'],
    [
      '101 lines',
      () =>
        post('/v1/orders', {
          ...orderOf('x'),
          items: Array.from({ length: 101 }, (_, i) => ({ sku: `s${i}`, quantity: 1 })),
        }),
      400,
      'invalid-request',
    ],
    ['an empty order', () => post('/v1/orders', { ...orderOf('x'), items: [] }), 400, 'invalid-request'],
    [
      'a body of 2 MB',
      () => post('/v1/orders', JSON.stringify({ text: 'x'.repeat(2_000_000) })),
      413,
      'body-too-large',
    ],
    [
      'a body that is no JSON',
      () => post('/v1/orders', 'x', { 'content-type': 'text/plain' }),
      415,
      'unsupported-media-type',
    ],
    ['no token', () => call(shop, 'GET', '/v1/orders'), 401, 'invalid-token'],
    ['a bad token', () => call(shop, 'GET', '/v1/orders', { token: 'not.a.token' }), 401, 'invalid-token'],
    ['a path id that is no UUID', () => call(shop, 'GET', '/v1/orders/17', { token: staff }), 400, 'invalid-request'],
    [
      'a line break in a name',
      () => post('/v1/users', account({ displayName: 'x\r\nBcc: everyone@example.com' })),
      400,
      'invalid-request',
    ],
    ['a short password', () => post('/v1/users', account({ password: 'short' })), 400, 'invalid-request'],
    ['an unknown route', () => call(shop, 'GET', '/v1/nothing'), 404, 'route-not-found'],
    ['a way to the inside', () => call(shop, 'GET', '/v1/users/..%2f..%2fmetrics'), 404, 'route-not-found'],
  ])('%s', async (_, attempt, status, code) => {
    const answer = await attempt()
    expect(answer).toMatchObject({ status, body: { status, code, requestId: expect.any(String) } })
    expect(answer.headers.get('content-type')).toContain('application/problem+json')
    expect(answer.headers.get('x-request-id')).toBe(answer.body.requestId)
  })

  test('an email in other case is the same account', async () => {
    const customer = await register(shop)
    const shouted = { email: customer.email.toUpperCase(), password }
    expect(await call(shop, 'POST', '/v1/users', { body: { ...shouted, displayName: 'Ada' } })).toMatchObject({
      status: 409,
      body: { code: 'email-taken' },
    })
    expect(await call(shop, 'POST', '/v1/sessions', { body: shouted })).toMatchObject({ status: 201 })
  })

  test("somebody else's order is not there", async () => {
    const [owner, stranger] = [await register(shop), await register(shop)]
    const { body } = await order(shop, owner.token, await stock(shop, staff, 1))
    expect(await call(shop, 'GET', `/v1/orders/${body.id}`, { token: stranger.token })).toMatchObject({
      status: 404,
      body: { code: 'order-not-found' },
    })
    expect(await call(shop, 'POST', `/v1/orders/${body.id}/cancel`, { token: stranger.token })).toMatchObject({
      status: 404,
    })
    expect(await statusOf(owner.token, body.id)).not.toBe('cancelled')
  })
})

test('the logs of the day, at their most talkative, are JSON with the ids to search by, and hold nothing personal and no secret', async () => {
  const ada = await register(shop, 'Ada Lovelace')
  await call(shop, 'POST', '/v1/sessions', { body: { email: ada.email, password: 'a wrong guess at it' } })
  await eventually('her welcome mail', () => subjectsTo(ada).length === 1)
  const secrets: object = JSON.parse(readFileSync(join(opened.home, 'secrets.json'), 'utf8'))
  const texts = (value: object): string[] =>
    Object.values(value).flatMap((one) => (typeof one === 'string' ? [one] : texts(one)))
  const personal = ['@example.com', 'Ada', 'Lovelace', '李小龍', 'St James', 'SW1Y', password, 'wrong guess', 'Bearer']
  const forbidden = [...personal, 'eyJhbGciOi', ada.token.split('.')[2] ?? '', ...texts(secrets)]
  expect(opened.lines.length).toBeGreaterThan(300)
  for (const text of forbidden) expect(opened.lines.find((line) => line.includes(text))).toBeUndefined()
  const parsed = opened.lines.map((line) => JSON.parse(line))
  for (const line of parsed)
    expect(line).toMatchObject({
      level: expect.any(String),
      time: expect.any(String),
      service: expect.any(String),
      msg: expect.any(String),
    })
  const answered = parsed.filter(({ route, status }) => route && status)
  expect(answered.length).toBeGreaterThan(100)
  for (const line of answered)
    expect(line).toMatchObject({ requestId: expect.any(String), traceId: expect.stringMatching(/^[0-9a-f]{32}$/) })
})

test('the documentation of the gateway covers every route', async () => {
  const { body } = await call(shop, 'GET', '/openapi.json')
  expect(body.openapi).toMatch(/^3\.1/)
  const paths = [
    '/v1/users',
    '/v1/users/me',
    '/v1/sessions',
    '/v1/sessions/refresh',
    '/v1/sessions/current',
    '/v1/products',
    '/v1/products/{sku}',
    '/v1/products/{sku}/stock',
    '/v1/products/{sku}/stock-adjustments',
    '/v1/orders',
    '/v1/orders/{id}',
    '/v1/orders/{id}/cancel',
    '/v1/orders/{id}/shipment',
    '/v1/orders/{id}/delivery',
    '/v1/notifications',
  ]
  expect(Object.keys(body.paths)).toEqual(expect.arrayContaining(paths))
})

test('a POST that the gateway may send again acts once by its key, as its documentation says, or whoever sends it', async () => {
  const { body } = await call(shop, 'GET', '/openapi.json')
  const kept = Object.keys(body.paths).filter((path) => {
    const owner = serviceOf(path)
    return body.paths[path].post && owner !== undefined && keepsAnswers(owner)
  })
  expect(kept.length).toBeGreaterThan(5)
  const takesKey = (path: string) =>
    JSON.stringify(body.paths[path].post.parameters ?? [])
      .toLowerCase()
      .includes('idempotency-key')
  // Who has opted out has opted out, however often it is said.
  expect(kept.filter((path) => !takesKey(path))).toEqual(['/v1/mailings/opt-out/{token}'])
})

test(
  'the documentation of the gateway keeps the rules of redocly.yaml, which generators of clients rely on',
  async () => {
    const folder = temporaryFolder('openapi')
    try {
      const file = join(folder, 'openapi.json')
      writeFileSync(file, JSON.stringify((await call(shop, 'GET', '/openapi.json')).body))
      const env = { ...process.env, REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' }
      const redocly = join(repository, 'node_modules', '.bin', 'redocly')
      await runCommand(process.execPath, [redocly, 'lint', file], { cwd: repository, env })
    } finally {
      rmSync(folder, { recursive: true })
    }
  },
  minutes,
)

test(
  'the same events delivered three times, and every group reset to the beginning: no effect twice; state survives a restart',
  async () => {
    const customer = await register(shop)
    const sku = await stock(shop, staff, 20)
    for (let n = 0; n < 5; n++) await order(shop, customer.token, sku, { prefer: 'wait=10' })
    const groups = ['order', 'inventory', 'notification', 'user']
    const names = topics.map(({ name }) => name)
    let wire = await openBus(shop)
    const ends = async () =>
      Object.fromEntries(
        (await wire.positions('nobody', names)).map(({ topic, partition, end }) => [
          `${topic}/${partition}`,
          Number(end),
        ]),
      )
    const total = async () => Object.values(await ends()).reduce((sum, end) => sum + end, 0)

    /** Waits until nothing is under way: no lag of any group, no new message, no mail to be sent. */
    const rest = async () => {
      let before = -1
      await eventually(
        'the shop to rest',
        async () => {
          const now = await total()
          const lags = await Promise.all(groups.map((group) => lagOf(group)))
          const isQuiet = now === before && lags.every((lag) => lag === 0)
          before = now
          return isQuiet
        },
        { timeoutMs: 60_000, everyMs: 1_000 },
      )
    }
    const subscribed: Record<string, string[]> = {
      order: ['shop.reservation.v1', 'shop.product.v1', 'shop.signing-key.v1'],
      inventory: ['shop.order.v1', 'shop.signing-key.v1'],
      notification: ['shop.user.v1', 'shop.order.v1', 'shop.signing-key.v1'],
      user: [],
    }
    const lagOf = async (group: string) => {
      const wanted = subscribed[group] ?? []
      if (wanted.length === 0) return 0
      return (await wire.positions(group, wanted)).reduce((sum, { end, done }) => sum + Number(end - done), 0)
    }
    const state = async () => ({
      orders: (await ordersOf(shop, staff)).map(({ id, status }) => [id, status]),
      stock: await stockOf(shop, staff, sku),
      mails: shop.mail
        .mails()
        .map(({ headers }) => headers['message-id'])
        .toSorted(),
    })

    await rest()
    const before = await state()

    const messages: Parameters<Bus['publish']>[0][number][] = []
    const reader = wire.consume({
      group: 'test-reader',
      topics: names,
      async handle(batch, partition) {
        messages.push(...batch.messages)
        partition.done(batch.next)
      },
    })
    const written = await total()
    await eventually('all messages', () => messages.length >= written, { timeoutMs: 30_000 })
    await reader.close()
    const copies = [...messages]
    for (let round = 0; round < 2; round++) {
      for (let start = 0; start < copies.length; start += 200) await wire.publish(copies.slice(start, start + 200))
    }
    await rest()
    expect(await state()).toEqual(before)

    const { home } = opened
    const { ports } = shop
    await wire.close()
    await shop.stop()
    const idle = await openShop({ home, ports, only: [] })
    wire = await openBus(idle.shop)
    for (const group of groups) if (subscribed[group]?.length) await wire.rewind(group, subscribed[group])
    expect(await lagOf('notification')).toBeGreaterThan(0)
    await wire.close()
    await idle.shop.stop()

    opened = await openShop({ home, ports })
    shop = opened.shop
    staff = await staffToken(shop)
    wire = await openBus(shop)
    await rest()
    expect(await state()).toEqual(before)
  },
  4 * minutes,
)
