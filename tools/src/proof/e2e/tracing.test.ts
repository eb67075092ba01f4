import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { eventually } from '@shopstream/testing'
import { order, register, staffToken, stock } from '../../local/client.ts'
import { openShop } from './shop-under-test.ts'

interface Span {
  service: string
  name: string
  traceId: string
  spanId: string
  parentSpanId?: string
}

let spans: Span[]
let opened: Awaited<ReturnType<typeof openShop>>
/** Takes OTLP's JSON, as a collector does. */
const collector = createServer(async (request, response) => {
  // biome-ignore lint/suspicious/noExplicitAny: JSON of OTLP
  const { resourceSpans } = (await json(request)) as any
  for (const { resource, scopeSpans } of resourceSpans) {
    // biome-ignore lint/suspicious/noExplicitAny: JSON of OTLP
    const service = resource.attributes.find(({ key }: any) => key === 'service.name').value.stringValue
    // biome-ignore lint/suspicious/noExplicitAny: JSON of OTLP
    for (const span of scopeSpans.flatMap((scope: any) => scope.spans)) spans.push({ service, ...span })
  }
  response.setHeader('content-type', 'application/json').end('{}')
})

beforeAll(async () => {
  spans = []
  await once(collector.listen(0, '127.0.0.1'), 'listening')
  const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
  opened = await openShop({
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_BSP_SCHEDULE_DELAY: '200',
    },
  })
}, 120_000)
afterAll(async () => {
  await opened?.shop.stop()
  opened?.forget()
  collector.close()
}, 60_000)

const clientsSpan = '00f067aa0ba902b7'

/** Each hop of an order, as service and span. */
const hops = [
  'gateway POST /v1/orders',
  'gateway POST',
  'order POST /v1/orders',
  'order create shop.order.v1',
  'order send shop.order.v1',
  'inventory process shop.order.v1',
  'inventory create shop.reservation.v1',
  'inventory send shop.reservation.v1',
  'order process shop.reservation.v1',
  'notification process shop.order.v1',
  'notification send mail',
  'notification create shop.notification.v1',
]

test('an order is one trace, from the request to the mail, in which every span has its parent', async () => {
  const { shop } = opened
  const { token } = await register(shop)
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  const sku = await stock(shop, await staffToken(shop), 5)
  const headers = { traceparent: `00-${traceId}-${clientsSpan}-01`, prefer: 'wait=10' }
  expect((await order(shop, token, sku, headers)).body.status).toBe('confirmed')
  const ofOrder = () => spans.filter((span) => span.traceId === traceId)
  const told = () => new Set(ofOrder().map(({ service, name }) => `${service} ${name}`))
  await eventually('every hop', () => hops.every((hop) => told().has(hop)), { timeoutMs: 30_000 })
  const ids = new Set([clientsSpan, ...ofOrder().map(({ spanId }) => spanId)])
  expect(ofOrder().filter(({ parentSpanId = '' }) => !ids.has(parentSpanId))).toEqual([])
  expect(told().has('inventory SELECT') || told().has('inventory WITH')).toBe(true)
}, 60_000)

test('probes and metrics are in no trace, nor are their statements, and no span has a path or a secret in it', async () => {
  const { shop } = opened
  const token = 'somebodys-token-0123456789'
  await fetch(`${shop.gatewayUrl}/v1/mailings/opt-out/${token}`)
  for (const url of Object.values(shop.serviceUrls))
    for (const path of ['readyz', 'metrics']) await fetch(`${url}/${path}`)
  const isTold = () => spans.some(({ service, name }) => service === 'notification' && name.includes('/opt-out/'))
  await eventually('the request', isTold, { timeoutMs: 10_000 })
  const known = () => new Set([clientsSpan, ...spans.map(({ spanId }) => spanId)])
  // The deployment that tells schemas is no service, and exports nothing.
  const orphans = () =>
    spans.filter(({ name, parentSpanId }) => !name.includes('schema') && parentSpanId && !known().has(parentSpanId))
  await eventually('each span to have its parent', () => orphans().length === 0, { timeoutMs: 10_000 })
  expect(spans.filter(({ name }) => /readyz|metrics|livez/.test(name))).toEqual([])
  expect(spans.filter(({ name, parentSpanId }) => !parentSpanId && /^[A-Z]+$/.test(name))).toEqual([])
  expect(JSON.stringify(spans)).not.toContain(token)
}, 60_000)
