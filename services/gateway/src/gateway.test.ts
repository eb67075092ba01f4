import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { type ClientRequest, METHODS } from 'node:http'
import { connect, createServer as createTcpServer, type Socket } from 'node:net'
import { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { readConfig, Type } from '@shopstream/config'
import { createHttp, reply, route, type Service } from '@shopstream/http/edge'
import { createLogger, Registry } from '@shopstream/observability'
import { eventually, freePort, testLogger } from '@shopstream/testing'
import { type FastifyInstance, fastify } from 'fastify'
import { buildGateway } from './app.ts'
import { configSchema } from './config.ts'
import { serviceNames as names, perService, type ServiceName, services } from './services.ts'

const logger = testLogger()
const prefixes = perService((name) => services[name].paths[0])

let ports: Record<ServiceName, number>
let gateway: (Service & { http: FastifyInstance }) | undefined
let address: string
let metricsPort: number
/** What is closed after each test. */
let opened: { close(): unknown }[]
/** Paths that the echo service was asked for, but for probes. */
let reached: string[]
/** Why the order service is not well. */
let orderFails: { reason: string; optional: boolean } | undefined

beforeEach(async () => {
  const free = await Promise.all(names.map(async (name) => [name, await freePort()] as const))
  ports = Object.fromEntries(free) as typeof ports
  metricsPort = await freePort()
  opened = []
  reached = []
  orderFails = undefined
})

afterEach(async () => {
  await gateway?.stop()
  gateway = undefined
  await Promise.all(opened.map((part) => part.close()))
})

async function startGateway(env: Record<string, string> = {}, log = logger): Promise<string> {
  const urls = Object.fromEntries(names.map((name) => [`${name.toUpperCase()}_URL`, `http://127.0.0.1:${ports[name]}`]))
  const config = readConfig(configSchema, {
    PORT: '0',
    SERVICE_WAIT_MS: '2000',
    METRICS_PORT: String(metricsPort),
    ...urls,
    ...env,
  })
  gateway = await buildGateway(config, log)
  await gateway.start()
  const { port } = gateway.http.server.address() as { port: number }
  address = `http://127.0.0.1:${port}`
  return address
}

/** A service as libs/http makes it, with one route. */
async function startService(name: ServiceName, identitySecret?: string): Promise<FastifyInstance> {
  const app = await createHttp({
    service: name,
    title: name,
    routes: [
      route({
        method: 'GET',
        url: `${prefixes[name]}/:id`,
        summary: `Shows what ${name} has`,
        access: 'anyone',
        schema: { params: Type.Object({ id: Type.String() }), response: { 200: Type.Object({ from: Type.String() }) } },
        handle: async () => reply.ok({ from: name }),
      }),
    ],
    checks: [
      {
        name: 'kafka',
        check: () => {
          if (name === 'order' && orderFails) throw new Error(orderFails.reason)
        },
        get optional() {
          return orderFails?.optional ?? false
        },
      },
    ],
    identitySecret,
    logger,
    metrics: new Registry(),
  })
  await app.listen({ port: ports[name], host: '127.0.0.1' })
  opened.push(app)
  return app
}

/** A bare order service that answers with what it got. */
async function startEcho(): Promise<FastifyInstance> {
  const app = fastify({ bodyLimit: 4e6, routerOptions: { maxParamLength: 1000 } })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'string' }, (_, body, done) => done(null, body))
  app.all('/*', async ({ method, url, headers, body }, answer) => {
    if (url !== '/readyz') reached.push(url)
    return answer
      .code(418)
      .header('etag', '"1"')
      .header('connection', 'close')
      .send({ method, url, headers, body: body ?? null })
  })
  await app.listen({ port: ports.order, host: '127.0.0.1' })
  opened.push(app)
  return app
}

/** An order service that treats each connection as told. */
async function startRawOrder(treat: (socket: Socket, count: number) => void): Promise<void> {
  let count = 0
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined)
    treat(socket, ++count)
  }).listen(ports.order, '127.0.0.1')
  await once(server, 'listening')
  opened.push({ close: () => server.close() })
}

const isRequest = (chunk: Buffer) => String(chunk).includes('/v1/orders')
const readyz = async () => {
  const response = await fetch(`${address}/readyz`)
  return {
    code: response.status,
    ...((await response.json()) as { status: string; checks: { name: string; reason?: string }[] }),
  }
}

test.each(names)('an address of the %s service that is not of plain HTTP is an error of the settings', (name) => {
  const urls = Object.fromEntries(names.map((each) => [`${each.toUpperCase()}_URL`, 'http://127.0.0.1:8080']))
  expect(readConfig(configSchema, { PORT: '0', ...urls })).toMatchObject(urls)
  const setting = `${name.toUpperCase()}_URL`
  expect(() => readConfig(configSchema, { PORT: '0', ...urls, [setting]: 'https://shop.example.org' })).toThrow(
    new RegExp(`${setting} .*a URL that starts with http://,? `),
  )
})

test('a request is passed on as it is, with request id, trace and the client address', async () => {
  await startEcho()
  await startGateway()
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  const response = await fetch(`${address}/v1/orders/a%20b?status=x&status=y`, {
    method: 'POST',
    headers: {
      authorization: 'Bearer t',
      'content-type': 'application/vnd.custom',
      'idempotency-key': 'k',
      traceparent: `00-${traceId}-00f067aa0ba902b7-01`,
      'x-forwarded-for': '10.0.0.1',
      'x-real-ip': '10.0.0.2',
      'x-request-id': 'my-request',
    },
    body: '{"not": "json',
  })
  expect([response.status, response.headers.get('etag'), response.headers.get('x-request-id')]).toEqual([
    418,
    '"1"',
    'my-request',
  ])
  const echo = (await response.json()) as { headers: Record<string, string> }
  expect(echo).toMatchObject({
    method: 'POST',
    url: '/v1/orders/a%20b?status=x&status=y',
    body: '{"not": "json',
    headers: {
      authorization: 'Bearer t',
      'content-type': 'application/vnd.custom',
      'content-length': '13',
      'idempotency-key': 'k',
      host: `127.0.0.1:${ports.order}`,
      'x-request-id': 'my-request',
      'x-forwarded-for': '10.0.0.1, 127.0.0.1',
      'x-real-ip': '127.0.0.1',
    },
  })
  expect(echo.headers.traceparent).toMatch(new RegExp(`^00-${traceId}-(?!00f067aa0ba902b7)[0-9a-f]{16}-01$`))
})

test('a problem of the gateway names the trace that the request came with', async () => {
  await startGateway()
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  const headers = { traceparent: `00-${traceId}-00f067aa0ba902b7-01` }
  for (const path of ['/v1/orders', '/v1/nowhere'])
    expect(await (await fetch(`${address}${path}`, { headers })).json()).toMatchObject({ traceId })
})

test.each([
  ['nobody is trusted', {}, '192.0.2.9, 192.0.2.7', '127.0.0.1'],
  ['a balancer that is trusted says it', { TRUSTED_PROXIES: '127.0.0.0/8' }, '192.0.2.9, 192.0.2.7', '192.0.2.7'],
  ['and one before it', { TRUSTED_PROXIES: '127.0.0.1,192.0.2.7' }, '192.0.2.9, 192.0.2.7', '192.0.2.9'],
  ['another one is trusted', { TRUSTED_PROXIES: '10.0.0.0/8' }, '192.0.2.9', '127.0.0.1'],
])('the services are told the address of the client, which it cannot choose: %s', async (_, env, told, ip) => {
  await startEcho()
  await startGateway(env)
  const headers = { 'x-forwarded-for': told, 'x-real-ip': '192.0.2.1', forwarded: 'for=192.0.2.1' }
  const echo = (await (await fetch(`${address}/v1/orders`, { headers })).json()) as { headers: object }
  expect(echo.headers).toMatchObject({ 'x-real-ip': ip, 'x-forwarded-for': `${told}, 127.0.0.1` })
})

test.each(['GET', 'PUT', 'PATCH', 'DELETE', 'POST'])('%s without a body is passed on', async (method) => {
  await startEcho()
  await startGateway()
  const response = await fetch(`${address}/v1/orders`, { method })
  expect(await response.json()).toMatchObject({ method, url: '/v1/orders', body: null })
})

test.each(['DELETE', 'OPTIONS', 'PATCH', 'POST'])(
  'a body of %s that looks like a request is passed on as a body',
  async (method) => {
    await startEcho()
    await startGateway()
    const body = 'GET /v1/orders/smuggled HTTP/1.1\r\nHost: x\r\n\r\n'
    const response = await fetch(`${address}/v1/orders`, { method, body })
    expect(await response.json()).toMatchObject({ method, body, headers: { 'content-length': String(body.length) } })
    expect(reached).toEqual(['/v1/orders'])
  },
)

test('a path of a service answers with its methods to each other one, also to those that no router knows', async () => {
  const lines: string[] = []
  const log = new Writable({ write: (line, _, done) => done(void lines.push(String(line))) })
  await startService('order')
  await startGateway(
    { CORS_ORIGINS: 'https://shop.example.org' },
    createLogger({ service: 'test', level: 'warn', format: 'json' }, log),
  )
  const { port } = new URL(address)
  for (const method of METHODS.filter((one) => !['GET', 'HEAD', 'CONNECT'].includes(one))) {
    for (const [path, found] of [
      ['/v1/orders/x', true],
      ['/v1/orders/x/y/z', false],
    ] as const) {
      const socket = connect(Number(port), '127.0.0.1')
      socket.write(`${method} http://shop${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
      const answer = String(Buffer.concat(await socket.toArray()))
      const code = found ? (method === 'OPTIONS' ? 204 : 405) : 404
      expect([method, path, answer.split(' ', 2)[1]]).toEqual([method, path, String(code)])
      expect(/^allow: (.*)$/im.exec(answer)?.[1]).toBe(found ? 'GET, HEAD' : undefined)
    }
  }
  expect(lines.filter((line) => !line.includes('the API document'))).toEqual([])
})

test('headers of one connection stay on it', async () => {
  await startEcho()
  await startGateway()
  const response = await (gateway as { http: FastifyInstance }).http.inject({
    url: '/v1/orders',
    headers: { connection: 'x-private', 'x-private': '1', 'keep-alive': 'timeout=1', te: 'trailers', 'x-public': '1' },
  })
  const { headers } = response.json()
  expect(headers).toMatchObject({ 'x-public': '1' })
  for (const name of ['x-private', 'te', 'keep-alive']) expect(headers).not.toHaveProperty(name)
  expect(response.headers.connection).not.toBe('close')
})

test('each path goes to its service, others nowhere', async () => {
  for (const name of names) await startService(name)
  await startGateway()
  for (const name of names) {
    expect(await (await fetch(`${address}${prefixes[name]}/x`)).json()).toEqual({ from: name })
  }
  for (const path of ['/', '/v1', '/v1/', '/v1/ordersx', '/v2/orders', '/metrics', '/v1/metrics', '/V1/orders/x']) {
    const response = await fetch(address + path)
    expect([path, response.status, await response.json()]).toEqual([
      path,
      404,
      expect.objectContaining({ code: 'route-not-found' }),
    ])
  }
})

test.each([
  '/v1/users/../../metrics',
  '/v1/orders/../../metrics',
  '/v1/orders/..',
  '/v1/orders/./../../readyz',
  '/v1/orders/%2e%2e/%2e%2e/metrics',
  '/v1/orders/.%2E/metrics',
  '/v1/orders/..%2f..%2fmetrics',
  '/v1/orders%2f..%2f..%2fmetrics',
  '/v1/orders/..\\..\\metrics',
  '/v1/orders/%5c..%5cmetrics',
  '/v1/orders//metrics',
  '//metrics',
  '/v1/orders/%00',
])('%s reaches nothing', async (path) => {
  await startEcho()
  await startGateway()
  const { port } = new URL(address)
  const socket = connect(Number(port), '127.0.0.1')
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk)
  expect(Buffer.concat(chunks).toString()).toMatch(/^HTTP\/1.1 40[04] /)
  expect(reached).toEqual([])
})

test('a body of 2 MB is a clean 413, one of 1 MB is passed on', async () => {
  await startEcho()
  await startGateway()
  for (let i = 0; i < 5; i++) {
    const refused = await fetch(`${address}/v1/orders`, { method: 'POST', body: 'x'.repeat(2_000_000) })
    expect([refused.status, await refused.json()]).toEqual([413, expect.objectContaining({ code: 'body-too-large' })])
  }
  expect(reached).toEqual([])
  const taken = await fetch(`${address}/v1/orders`, { method: 'POST', body: 'x'.repeat(1024 * 1024) })
  expect(((await taken.json()) as { body: string }).body).toHaveLength(1024 * 1024)
})

test('a service that is just starting anew is waited for, whatever the method', async () => {
  await startGateway()
  const refused = Promise.withResolvers<void>()
  const onError = (message: unknown) => {
    if ((message as { request: ClientRequest }).request.path === '/v1/orders') refused.resolve()
  }
  subscribe('http.client.request.error', onError)
  const answer = fetch(`${address}/v1/orders`, { method: 'POST', body: 'x' })
  await refused.promise
  unsubscribe('http.client.request.error', onError)
  await startEcho()
  expect(((await (await answer).json()) as { body: string }).body).toBe('x')
})

test('nothing is sent to a program that has taken the port of a service, and the service is known again', async () => {
  const secret = 'a secret that the shop has made up at its start'
  await startGateway({ SERVICE_IDENTITY_SECRET: secret })
  const order = async (method: string) => {
    const { status } = await fetch(`${address}/v1/orders/1`, { method, headers: { authorization: 'Bearer of a user' } })
    return status
  }
  // One that knows another secret, and one that says what another service would.
  for (const [name, known] of [
    ['order', secret.replace('start', 'stop')],
    ['user', secret],
  ] as const) {
    const own = ports[name]
    ports[name] = ports.order
    const stranger = await startService(name, known)
    ports[name] = own
    let asked = 0
    stranger.server.on('request', ({ url, headers }) => {
      if (!url?.startsWith('/livez') || headers.authorization) asked += 1
    })
    expect([...(await Promise.all([order('GET'), order('POST')])), asked]).toEqual([503, 503, 0])
    expect((await readyz()).checks).toContainEqual(
      expect.objectContaining({ name: 'order', reason: 'does not prove who it is' }),
    )
    await stranger.close()
  }
  const genuine = await startService('order', secret)
  expect(await Promise.all(Array.from({ length: 20 }, () => order('GET')))).toEqual(Array(20).fill(200))
  await genuine.close()
  await startEcho() // would answer 418
  expect([await order('GET'), reached]).toEqual([503, expect.not.arrayContaining(['/v1/orders/1'])])
})

test('a program on the port of a service that answers anything else is sent nothing either', async () => {
  const withoutEnd = `HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(5_000)}`
  const answers = [withoutEnd, 'SSH-2.0-OpenSSH_9.2p1\r\n', undefined]
  let seen = ''
  await startRawOrder((socket, count) => {
    const answer = answers[count % answers.length]
    socket.on('data', (chunk) => {
      seen += chunk
      if (answer === undefined) socket.destroy()
      else socket.write(answer)
    })
  })
  await startGateway({ SERVICE_IDENTITY_SECRET: 'a secret that the shop has made up at its start' })
  const response = await fetch(`${address}/v1/orders`, { headers: { authorization: 'Bearer of a user' } })
  expect([response.status, seen.includes('Bearer')]).toEqual([503, false])
})

test('a service that stays away is 503 with Retry-After and its name', async () => {
  await startGateway()
  const startedAt = performance.now()
  const response = await fetch(`${address}/v1/orders`, { method: 'POST', body: 'x' })
  expect(response.headers.get('retry-after')).toBe('2')
  expect(await response.json()).toMatchObject({
    status: 503,
    code: 'service-unavailable',
    instance: '/v1/orders',
    detail: expect.stringContaining('order'),
  })
  expect(performance.now() - startedAt).toBeLessThan(4_000)
})

test('once a service has been away for longer than it is waited for, its requests are refused at once', async () => {
  await startGateway({ SERVICE_WAIT_MS: '60000' })
  const waits = fetch(`${address}/v1/orders`, { method: 'POST', body: 'x' }).then(({ status }) => status)
  expect(await Promise.race([waits, delay(1_000, 'waits')])).toBe('waits')
  await startEcho()
  expect(await waits).toBe(418)
  await gateway?.stop()
  await opened.pop()?.close()
  await startGateway({ SERVICE_WAIT_MS: '0' })
  await eventually('the poll to have found it away', async () =>
    (await readyz()).checks.every(({ reason }) => reason !== undefined),
  )
  const connects: unknown[] = []
  const onConnect = (message: unknown) => connects.push(message)
  subscribe('http.client.request.error', onConnect)
  expect((await fetch(`${address}/v1/products`, { method: 'POST', body: 'x' })).status).toBe(503)
  unsubscribe('http.client.request.error', onConnect)
  const ofRequest = connects.filter(
    (message) => (message as { request: ClientRequest }).request.path === '/v1/products',
  )
  expect(ofRequest).toHaveLength(1)
})

test.each([
  ['before its answer', ''],
  ['in the middle of its answer', 'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"id":'],
])('a GET that was interrupted %s is sent again, or a POST with a key, another is not', async (_, half) => {
  const requests: string[] = []
  await startRawOrder((socket) => {
    socket.on('data', (chunk) => {
      if (!isRequest(chunk)) return socket.destroy()
      requests.push(String(chunk).slice(0, 4).trim())
      if (requests.length === 2) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}')
      else if (half) socket.write(half, () => socket.destroy())
      else socket.destroy()
    })
  })
  await startGateway()
  expect((await fetch(`${address}/v1/orders`)).status).toBe(200)
  expect(requests).toEqual(['GET', 'GET'])
  requests.length = 0
  const post = (headers: Record<string, string>) =>
    fetch(`${address}/v1/orders`, { method: 'POST', body: 'x', headers })
  expect((await post({ authorization: 'Bearer of a user', 'idempotency-key': 'one' })).status).toBe(200)
  expect(requests).toEqual(['POST', 'POST'])
  requests.length = 0
  const response = await post({ 'idempotency-key': 'of nobody' })
  expect([response.status, requests]).toEqual([503, ['POST']])
})

test.each([
  ['GET', '/v1/orders', {}, 3],
  ['POST', '/v1/orders', { authorization: 'Bearer of a user', 'idempotency-key': 'one' }, 3],
  ['DELETE', '/v1/orders/1', { authorization: 'Bearer of a user', 'idempotency-key': 'one' }, 1],
  ['POST', '/v1/sessions/refresh', { authorization: 'Bearer of a user', 'idempotency-key': 'one' }, 1],
])(
  '%s %s, which ends its service, is sent a bounded number of times, whatever connections are kept',
  async (method, path, headers, times) => {
    let sent = 0
    const server = createTcpServer((socket) => {
      socket.on('error', () => undefined)
      socket.on('data', (chunk) => {
        if (String(chunk).startsWith(`${method} ${path} `)) {
          sent += 1
          return socket.destroy()
        }
        setTimeout(() => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}'), 100)
      })
    }).listen(ports[path.startsWith('/v1/orders') ? 'order' : 'user'], '127.0.0.1')
    await once(server, 'listening')
    opened.push({ close: () => server.close() })
    await startGateway()
    const others = path.startsWith('/v1/orders') ? '/v1/orders/other' : '/v1/users/me'
    await Promise.all(Array.from({ length: 10 }, () => fetch(`${address}${others}`).then((answer) => answer.text())))
    expect((await fetch(`${address}${path}`, { method, headers })).status).toBe(503)
    expect(sent).toBe(times)
  },
)

test('a client that goes away ends the request to the service', async () => {
  const arrived = Promise.withResolvers<void>()
  const ended = Promise.withResolvers<void>()
  await startRawOrder((socket) => {
    socket.on('data', (chunk) => {
      if (!isRequest(chunk)) return
      arrived.resolve()
      socket.once('close', () => ended.resolve())
    })
  })
  await startGateway()
  const client = new AbortController()
  const answer = fetch(`${address}/v1/orders`, { signal: client.signal }).catch((error: Error) => error.name)
  await arrived.promise
  client.abort()
  expect(await answer).toBe('AbortError')
  await ended.promise
})

test('/readyz is 503 until every service was ready, then an outage is degraded and names the part', async () => {
  const services = new Map<string, FastifyInstance>()
  for (const name of names.slice(1)) services.set(name, await startService(name))
  await startGateway()
  await eventually(
    'the others are ready',
    async () => (await readyz()).checks.filter(({ reason }) => reason).length === 1,
  )
  expect(await readyz()).toMatchObject({
    code: 503,
    status: 'unavailable',
    checks: [{ name: 'user', reason: 'does not answer' }, ...names.slice(1).map(() => ({}))],
  })

  await startService('user')
  await eventually('all are ready', async () => (await readyz()).status === 'ok')
  orderFails = { reason: 'no broker at 10.1.2.3', optional: true }
  const degraded = await eventually('the gateway is degraded', async () => {
    const answer = await readyz()
    return answer.status === 'degraded' && answer
  })
  expect(degraded).toMatchObject({
    code: 200,
    checks: expect.arrayContaining([expect.objectContaining({ name: 'order', reason: 'without kafka' })]),
  })
  expect(JSON.stringify(degraded)).not.toContain('10.1.2.3')

  orderFails = undefined
  await services.get('notification')?.close()
  await eventually('the outage is seen', async () => {
    const { code, status, checks } = await readyz()
    return code === 200 && status === 'degraded' && checks.some(({ name, reason }) => name === 'notification' && reason)
  })
  expect((await fetch(`${address}/livez`)).status).toBe(200)
})

test('a service that is degraded from the start does not hold the gateway back', async () => {
  orderFails = { reason: 'no broker', optional: true }
  for (const name of names) await startService(name)
  await startGateway()
  await eventually('the gateway takes requests', async () => (await readyz()).code === 200)
  expect(await readyz()).toMatchObject({ status: 'degraded' })
})

test('/openapi.json covers every route, also of a service that comes later or is away again', async () => {
  const pathsOf = async () => {
    const document = (await (await fetch(`${address}/openapi.json`)).json()) as { openapi: string; paths: object }
    expect(document.openapi).toBe('3.1.0')
    return Object.keys(document.paths).sort()
  }
  for (const name of names.slice(1)) await startService(name)
  await startGateway()
  const documented = (some: readonly ServiceName[]) => some.map((name) => `${prefixes[name]}/{id}`).sort()
  expect(await pathsOf()).toEqual(documented(names.slice(1)))
  const user = await startService('user')
  await eventually('all are ready', async () => (await readyz()).status === 'ok')
  expect(await pathsOf()).toEqual(documented(names))
  await user.close()
  expect(await pathsOf()).toEqual(documented(names))
  expect((await fetch(`${address}/docs`)).headers.get('content-type')).toMatch('text/html')
  expect(await (await fetch(`${address}/docs/json`)).json()).toMatchObject({ info: { title: 'shopstream' } })
})

test('metrics are on their own port only', async () => {
  await startEcho()
  await startGateway()
  await fetch(`${address}/v1/orders/x`)
  expect((await fetch(`${address}/metrics`)).status).toBe(404)
  const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
  expect(metrics).toMatch(
    /http_request_duration_seconds_count\{service="gateway",method="GET",route="\/v1\/orders\/\*",status="418"\} 1/,
  )
  expect((await fetch(`http://127.0.0.1:${metricsPort}/`)).status).toBe(404)
})

test('pages of other origins may call only when they are named', async () => {
  const origin = 'https://shop.example.org'
  const preflight = { method: 'OPTIONS', headers: { origin, 'access-control-request-method': 'POST' } }
  await startGateway()
  expect((await fetch(`${address}/v1/orders`, preflight)).headers.get('access-control-allow-origin')).toBeNull()
  await gateway?.stop()
  await startGateway({ CORS_ORIGINS: `${origin},https://other.example.org` })
  expect((await fetch(`${address}/v1/orders`, preflight)).headers.get('access-control-allow-origin')).toBe(origin)
  const stranger = { ...preflight, headers: { ...preflight.headers, origin: 'https://evil.example.org' } }
  expect((await fetch(`${address}/v1/orders`, stranger)).headers.get('access-control-allow-origin')).toBeNull()
})
