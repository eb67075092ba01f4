import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { newEventId } from '@shopstream/events'
import type { NewEvent } from '@shopstream/messaging'
import { createWorld, eventually, type ProxiedKafka, startProxiedKafka, type World } from '@shopstream/testing'
import { buildOrder } from './app.ts'

let kafka: ProxiedKafka
let world: World
let orders: Awaited<ReturnType<typeof buildOrder>>

beforeAll(async () => {
  kafka = await startProxiedKafka()
  process.env.TEST_KAFKA_BROKERS = kafka.direct.join() // of this test file alone
  world = await createWorld('order')
  await world.publishSigningKey()
  const data = { sku: 'mug', name: 'mug', description: '', price: { amount: 1450n, currency: 'EUR' }, version: 1 }
  await world.publish({ type: 'ProductListed', key: 'mug', sequence: 1n, data } as NewEvent)
  const limits = { OUTBOX_LIMIT_AGE_SECONDS: 1, OUTBOX_SHED_AGE_SECONDS: 1, RESERVATION_DEADLINE_SECONDS: 900 }
  orders = await buildOrder({ ...world.settings, ...limits, KAFKA_BROKERS: kafka.proxied }, world.logger)
  await orders.start()
  await eventually('readiness', async () => (await orders.http.inject('/readyz')).statusCode === 200, patience)
}, 120_000)

afterAll(async () => {
  await orders?.stop()
  await world?.close()
  await kafka?.close()
}, 60_000)

const patience = { timeoutMs: 60_000 }
const shippingAddress = { name: 'Li', line1: '1 Main Street', city: 'Zürich', postalCode: '8001', country: 'CH' }
const mug = { items: [{ sku: 'mug', quantity: 1 }], shippingAddress }

async function post(url: string, token: string, { body = {}, key }: { body?: object; key?: string } = {}) {
  const headers = { authorization: `Bearer ${token}`, ...(key && { 'idempotency-key': key }) }
  const {
    statusCode: status,
    headers: answered,
    payload,
  } = await orders.http.inject({ method: 'POST', url, headers, payload: body })
  return { status, headers: answered, body: JSON.parse(payload) }
}
const readiness = async () => (await orders.http.inject('/readyz')).json()

test('Kafka away for too long: new orders are refused, everything else goes on, and all that was taken is published', async () => {
  const buyer = await world.token({ id: newEventId(), roles: ['customer'] })
  const taken: string[] = []
  const place = async (key?: string) => {
    const answer = await post('/v1/orders', buyer, { body: mug, ...(key && { key }) })
    if (answer.status === 201 && !answer.headers['idempotency-replayed']) taken.push(answer.body.id)
    return answer
  }
  expect((await place()).status).toBe(201)

  kafka.proxy.cut()
  const first = await place('once')
  expect(first.status).toBe(201)
  const refused = await eventually(
    'a refusal',
    async () => {
      const answer = await place()
      return answer.status === 503 && answer
    },
    patience,
  )
  expect(refused).toMatchObject({
    headers: { 'content-type': expect.stringContaining('application/problem+json') },
    body: { code: 'overloaded', detail: expect.stringMatching(/has waited for Kafka for \d+ s/) },
  })
  expect(Number((refused as typeof first).headers['retry-after'])).toBeGreaterThan(0)
  expect(await readiness()).toMatchObject({
    status: 'degraded',
    checks: expect.arrayContaining([{ name: 'outbox', status: 'failed', reason: expect.stringContaining('MiB') }]),
  })

  const again = await place('once')
  expect([again.status, again.body.id, again.headers['idempotency-replayed']]).toEqual([201, first.body.id, 'true'])
  expect((await post(`/v1/orders/${first.body.id}/cancel`, buyer)).status).toBe(200)

  kafka.proxy.heal()
  await eventually('orders being taken again', async () => (await place()).status === 201, patience)
  await eventually(
    'the outbox to be as it should',
    async () => (await readiness()).checks.find(({ name }: { name: string }) => name === 'outbox').status === 'ok',
    patience,
  )
  await eventually(
    'every order that was taken to be announced',
    () => new Set(world.events('OrderPlaced').map(({ key }) => key)).size === taken.length,
    patience,
  )
  expect(new Set(world.events('OrderPlaced').map(({ key }) => key))).toEqual(new Set(taken))
}, 180_000)
