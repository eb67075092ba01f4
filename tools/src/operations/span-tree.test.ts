import { expect, test } from '@jest/globals'
import { fromOtlp, fromZipkin, treeOf } from './span-tree.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const at = 1_780_000_000_000_000

const tree = [
  `Trace ${traceId}: 4 spans of 3 services, 1 failed, begun at 2026-05-28 20:26:40.000`,
  '  gateway post /v1/orders        +0.0 ms   40.0 ms',
  '    order post /v1/orders        +2.5 ms   30.0 ms',
  '      order insert               +5.0 ms   1.2 ms   failed: 23505',
  '    inventory process the event  +10.0 ms  3.0 ms',
]

test('spans of Zipkin are a tree, in which one whose parent is elsewhere is a root', () => {
  const span = (service: string, name: string, id: string, parentId: string, offset: number, duration: number) => ({
    traceId,
    id,
    parentId,
    name,
    timestamp: at + offset,
    duration,
    localEndpoint: { serviceName: service },
    tags: {},
  })
  const spans = fromZipkin([
    span('inventory', 'process the event', 'd'.repeat(16), 'a'.repeat(16), 10_000, 3_000),
    {
      ...span('order', 'insert', 'c'.repeat(16), 'b'.repeat(16), 5_000, 1_200),
      tags: { 'otel.status_code': 'ERROR', 'error.type': '23505' },
    },
    span('order', 'post /v1/orders', 'b'.repeat(16), 'a'.repeat(16), 2_500, 30_000),
    span('gateway', 'post /v1/orders', 'a'.repeat(16), '00f067aa0ba902b7', 0, 40_000),
  ])
  expect(treeOf(spans)).toEqual(tree)
})

test('spans of OTLP are the same tree', () => {
  const exported = (service: string, ...spans: object[]) => ({
    resource: { attributes: [{ key: 'service.name', value: { stringValue: service } }] },
    scopeSpans: [{ spans }],
  })
  const span = (name: string, spanId: string, parentSpanId: string, offset: number, duration: number) => ({
    traceId,
    spanId,
    parentSpanId,
    name,
    startTimeUnixNano: `${at + offset}000`,
    endTimeUnixNano: `${at + offset + duration}000`,
    status: {},
  })
  const failed = {
    ...span('insert', 'c', 'b', 5_000, 1_200),
    status: { code: 2 },
    attributes: [{ key: 'error.type', value: { stringValue: '23505' } }],
  }
  const spans = [
    exported('order', failed, span('post /v1/orders', 'b', 'a', 2_500, 30_000)),
    exported('inventory', span('process the event', 'd', 'a', 10_000, 3_000)),
    exported('gateway', span('post /v1/orders', 'a', '', 0, 40_000)),
  ]
  expect(treeOf(fromOtlp({ resourceSpans: spans } as Parameters<typeof fromOtlp>[0]))).toEqual(tree)
})

test('a terminal obeys no name of a span', () => {
  const [, line] = treeOf(fromZipkin([{ traceId, id: 'a', name: '\u001b[2J', timestamp: at }]))
  expect(line).not.toContain('\u001b')
})

test('a span that asks another service names it; one that is asked does not', () => {
  const asked = { 'server.address': 'inventory' }
  const zipkin = [
    { traceId, id: 'a', kind: 'SERVER', name: 'get', timestamp: at, tags: asked },
    { traceId, id: 'b', kind: 'CLIENT', parentId: 'a', name: 'get', timestamp: at, tags: asked },
  ]
  const attributes = [{ key: 'server.address', value: { stringValue: 'inventory' } }]
  const time = { startTimeUnixNano: `${at}000`, endTimeUnixNano: `${at}000` }
  const spans = [
    { traceId, spanId: 'a', name: 'get', kind: 2, ...time, attributes },
    { traceId, spanId: 'b', name: 'get', kind: 3, parentSpanId: 'a', ...time, attributes },
  ]
  const otlp = { resourceSpans: [{ resource: {}, scopeSpans: [{ spans }] }] }
  for (const found of [fromZipkin(zipkin), fromOtlp(otlp)])
    expect(found.map(({ peer }) => peer)).toEqual([undefined, 'inventory'])
  expect(treeOf(fromZipkin(zipkin))[2]).toContain('    unknown get → inventory ')
})
