import { once } from 'node:events'
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { json } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import { freePort, type LocalProcess, startProcess } from '@shopstream/local-servers'
import { eventually, temporaryFolder } from '@shopstream/testing'
import { order, register, staffToken, stock } from '../../local/client.ts'
import { collectorFolder, collectorProgram } from '../../local/collector.ts'
import { fromOtlp, type StoredSpan } from '../../operations/span-tree.ts'
import { trace } from '../../operations/trace.ts'
import { openShop } from './shop-under-test.ts'

let opened: Awaited<ReturnType<typeof openShop>>
/** OTLP's JSON, a line each, as the collector's file exporter writes it. */
const file = join(temporaryFolder('traces'), 'spans.jsonl')
const isReal = existsSync(collectorProgram())
if (!isReal) console.warn('no collector is here: a server of this test stands for it (npm run collector -- components)')

const standIn = createServer(async (request, response) => {
  appendFileSync(file, `${JSON.stringify(await json(request))}\n`)
  response.setHeader('content-type', 'application/json').end('{}')
})
let collector: LocalProcess | undefined

/** Starts what takes the shop's spans, and returns what the environment says of it. */
async function startCollector(): Promise<Record<string, string>> {
  writeFileSync(file, '')
  if (!isReal) {
    await once(standIn.listen(0, '127.0.0.1'), 'listening')
    const { port } = standIn.address() as AddressInfo
    return { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }
  }
  const [port, grpcPort, dir] = [await freePort(), await freePort(), dirname(file)]
  collector = await startProcess({
    name: 'the collector',
    command: collectorProgram(),
    args: ['collector.yaml', 'file.yaml'].map((name) => `--config=${join(collectorFolder, name)}`),
    env: {
      ...process.env,
      TRACE_FILE: file,
      COLLECTOR_HTTP_PORT: String(port),
      COLLECTOR_GRPC_PORT: String(grpcPort),
    },
    port,
    logFile: join(dir, 'collector.log'),
    pidFile: join(dir, 'collector.pid'),
    ready: /Everything is ready/,
    readyLimitMs: 60_000,
    stopSignal: 'SIGTERM',
    stopLimitMs: 5_000,
  })
  return { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` }
}

/** What has come so far; a line may be in the middle of being written. */
function text(): string {
  const all = readFileSync(file, 'utf8')
  return all.slice(0, all.lastIndexOf('\n') + 1)
}
const known: StoredSpan[] = []
let parsed = 0

/** Each line is parsed once: whoever waits asks often, and the mails are received in this process as well. */
function spans(): readonly StoredSpan[] {
  const all = text()
  const lines = all.slice(parsed).split('\n').filter(Boolean)
  parsed = all.length
  known.push(...lines.flatMap((line) => fromOtlp(JSON.parse(line))))
  return known
}

beforeAll(async () => {
  opened = await openShop({ env: { ...(await startCollector()), OTEL_BSP_SCHEDULE_DELAY: '200' } })
}, 120_000)
afterAll(async () => {
  await opened?.shop.stop()
  opened?.forget()
  standIn.close()
  await collector?.stop()
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

test(`through ${isReal ? 'a real collector' : 'a stand-in for a collector'}: an order is one trace, from the request to the mail, in which every span has its parent`, async () => {
  const { shop } = opened
  const { token } = await register(shop)
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  const sku = await stock(shop, await staffToken(shop), 5)
  const headers = { traceparent: `00-${traceId}-${clientsSpan}-01`, prefer: 'wait=10' }
  expect((await order(shop, token, sku, headers)).body.status).toBe('confirmed')
  const ofOrder = () => spans().filter((span) => span.traceId === traceId)
  const told = () => new Set(ofOrder().map(({ service, name }) => `${service} ${name}`))
  const hasEvery = () => {
    const found = told()
    return hops.every((hop) => found.has(hop))
  }
  await eventually('every hop', hasEvery, { timeoutMs: 30_000 })
  const ids = new Set([clientsSpan, ...ofOrder().map(({ spanId }) => spanId)])
  expect(ofOrder().filter(({ parentId = '' }) => !ids.has(parentId))).toEqual([])
  expect(told().has('inventory SELECT') || told().has('inventory WITH')).toBe(true)
  const printed: string[] = []
  jest.spyOn(console, 'log').mockImplementation((line) => void printed.push(String(line)))
  expect(await trace([traceId, '--file', file])).toBe(0)
  jest.restoreAllMocks()
  const tree = printed.join('\n').split('\n')
  expect(tree[0]).toContain(`Trace ${traceId}: `)
  for (const hop of hops) expect(tree.filter((line) => line.trim().startsWith(hop))).not.toEqual([])
}, 60_000)

test('probes and metrics are in no trace, nor are their statements, and no span has a path or a secret in it', async () => {
  const { shop } = opened
  const token = 'somebodys-token-0123456789'
  await fetch(`${shop.gatewayUrl}/v1/mailings/opt-out/${token}`)
  for (const url of Object.values(shop.serviceUrls))
    for (const path of ['readyz', 'metrics']) await fetch(`${url}/${path}`)
  const isTold = () => spans().some(({ service, name }) => service === 'notification' && name.includes('/opt-out/'))
  await eventually('the request', isTold, { timeoutMs: 10_000 })
  const knownIds = () => new Set([clientsSpan, ...spans().map(({ spanId }) => spanId)])
  // The deployment that tells schemas is no service, and exports nothing.
  const orphans = () => {
    const ids = knownIds()
    return spans().filter(({ name, parentId }) => !name.includes('schema') && parentId && !ids.has(parentId))
  }
  await eventually('each span to have its parent', () => orphans().length === 0, { timeoutMs: 10_000 })
  expect(spans().filter(({ name }) => /readyz|metrics|livez/.test(name))).toEqual([])
  expect(spans().filter(({ name, parentId }) => !parentId && /^[A-Z]+$/.test(name))).toEqual([])
  expect(text()).not.toContain(token)
}, 60_000)
