import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { createLogger } from './logger.ts'
import { isTracing, startSpan } from './spans.ts'
import { parseTraceparent } from './trace.ts'
import { startTracing } from './tracing.ts'

/** The part of OTLP's JSON that is looked at. */
interface Exported {
  resourceSpans: {
    resource: { attributes: { key: string; value: { stringValue?: string } }[] }
    scopeSpans: { spans: { name: string; traceId: string; spanId: string; parentSpanId?: string; status: object }[] }[]
  }[]
}

const silent = createLogger({ service: 'test', level: 'silent', format: 'json' })
let exported: Exported[]
let endpoint: string
const server = createServer(async (request, response) => {
  exported.push((await json(request)) as Exported)
  response.setHeader('content-type', 'application/json').end('{}')
})

beforeEach(async () => {
  exported = []
  if (!server.listening) await once(server.listen(0, '127.0.0.1'), 'listening')
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  server.unref()
})
afterEach(() => {
  for (const name of Object.keys(process.env).filter((name) => name.startsWith('OTEL_'))) delete process.env[name]
})

const spans = () =>
  exported.flatMap(({ resourceSpans }) => resourceSpans.flatMap((one) => one.scopeSpans.flatMap((s) => s.spans)))

test('spans go where the environment says, with the ids that the trace context carries on', async () => {
  Object.assign(process.env, {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
  })
  const stop = await startTracing('order', silent)
  expect(isTracing()).toBe(true)
  const parent = parseTraceparent('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')
  const outer = startSpan('GET', { kind: 'server', parent })
  const inner = startSpan('SELECT', { kind: 'client', parent: outer.context })
  inner.end(new TypeError('of somebody@example.com'))
  outer.set({ 'http.route': '/v1/orders' }, 'GET /v1/orders')
  outer.end()
  outer.end(new Error('twice'))
  await stop()
  expect(isTracing()).toBe(false)
  expect(spans().map(({ name, parentSpanId }) => [name, parentSpanId])).toEqual([
    ['SELECT', outer.context.spanId],
    ['GET /v1/orders', parent?.spanId],
  ])
  expect(new Set(spans().map(({ traceId }) => traceId))).toEqual(new Set([parent?.traceId]))
  const attributes = exported[0]?.resourceSpans[0]?.resource.attributes.map(({ key, value }) => [
    key,
    value.stringValue,
  ])
  expect(Object.fromEntries(attributes ?? [])).toMatchObject({
    'service.name': 'order',
    'deployment.environment.name': 'test',
  })
  expect(JSON.stringify(exported)).toContain('TypeError')
  expect(JSON.stringify(exported)).not.toContain('somebody@example.com')
})

test('spans go to a Zipkin where the environment says so', async () => {
  Object.assign(process.env, {
    OTEL_TRACES_EXPORTER: 'zipkin',
    OTEL_EXPORTER_ZIPKIN_ENDPOINT: `${endpoint}/api/v2/spans`,
  })
  const stop = await startTracing('order', silent)
  const span = startSpan('GET', { kind: 'server' })
  span.end()
  await stop()
  const { traceId, spanId } = span.context
  expect(exported).toMatchObject([[{ traceId, id: spanId, name: 'GET', localEndpoint: { serviceName: 'order' } }]])
})

test('what a caller does not record is not recorded here', async () => {
  Object.assign(process.env, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' })
  const stop = await startTracing('order', silent)
  startSpan('GET', {
    kind: 'server',
    parent: parseTraceparent('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00'),
  }).end()
  await stop()
  expect(spans()).toEqual([])
})

test.each([
  {},
  { OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' },
  { OTEL_TRACES_EXPORTER: '', OTEL_EXPORTER_OTLP_ENDPOINT: '' },
  { OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' },
])('with %j none are recorded, and traces hold together all the same', async (env) => {
  const stop = await startTracing('order', silent, env)
  expect(isTracing()).toBe(false)
  const { context } = startSpan('GET', { kind: 'server' })
  expect(startSpan('SELECT', { kind: 'client', parent: context }).context.traceId).toBe(context.traceId)
  await stop()
})

test.each([
  [{ OTEL_TRACES_EXPORTER: 'jaeger' }, 'otlp, zipkin, console, none'],
  [{ OTEL_TRACES_EXPORTER: 'otlp', OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }, 'http/protobuf, http/json'],
])('%j is refused, with what there is', async (env, words) => {
  await expect(startTracing('order', silent, env)).rejects.toThrow(words)
})

test('a collector that is away, or never answers, keeps no process, and is told', async () => {
  const silentServer = createServer(() => {})
  await once(silentServer.listen(0, '127.0.0.1'), 'listening')
  const { port } = silentServer.address() as AddressInfo
  for (const endpoint of ['http://127.0.0.1:1', `http://127.0.0.1:${port}`]) {
    process.env.OTEL_EXPORTER_OTLP_ENDPOINT = endpoint
    const stop = await startTracing('order', silent)
    startSpan('GET', { kind: 'server' }).end()
    await stop() // it ends within a second; the exporter itself would wait for ten
  }
  silentServer.closeAllConnections()
  silentServer.close()
}, 8_000)

test('empty variables count as not set', async () => {
  Object.assign(process.env, {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_TRACES_EXPORTER: '',
    OTEL_EXPORTER_OTLP_PROTOCOL: '',
  })
  const stop = await startTracing('order', silent)
  expect(isTracing()).toBe(true)
  await stop()
})
