import { isUtf8 } from 'node:buffer'
import { randomInt } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import helmet from '@fastify/helmet'
import { isChallenge, proofOf } from '@shopstream/config'
import type { Database } from '@shopstream/database'
import type { ReadinessCheck } from '@shopstream/messaging'
import {
  Counter,
  childOf,
  Failure,
  Gauge,
  Histogram,
  type Logger,
  observeInTrace,
  parseTraceparent,
  type Registry,
  runInTrace,
  type Span,
  startSpan,
  type TraceContext,
  unrecordedSpan,
} from '@shopstream/observability'
import { type FastifyInstance, type FastifyRequest, fastify, LogController, type RouteOptions } from 'fastify'
import { authenticate, authorize, type KeyStore } from './access.ts'
import { serveDocumentation } from './documentation.ts'
import { errors } from './errors.ts'
import { takeForms } from './forms.ts'
import { requestIdOf } from './headers.ts'
import { readinessOf } from './health.ts'
import { mapErrors, refuseConnection, sendProblem } from './problems.ts'
import { keepProtocol, originForm } from './protocol.ts'
import { type RequestContext, shopRequest, whenOver } from './request.ts'
import type { Route, User } from './routes.ts'
import { closed, compilersFactory, idempotencyKeyHeader } from './schemas.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** What `/readyz` asks; more may be added until it listens. */
    readonly readinessChecks: ReadinessCheck[]
  }
  interface FastifyRequest {
    /** The span of this request. */
    trace: TraceContext
    /** What is told of it to whoever collects traces. */
    span: Span
    /** Whom the access token names; null on routes for anyone. */
    caller: User | null
  }
}

export interface HttpOptions {
  /** Its name in metrics and `/readyz`. */
  service: string
  /** Title of its API documentation. */
  title: string
  /** What its documentation says of each first segment below `/v1/`. */
  tags?: Record<string, string>
  routes: readonly Route[]
  /** Needed for `effect`; also checked by `/readyz`. */
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database?: Database<any>
  /** Needed unless every route is for anyone; also checked by `/readyz`. */
  keys?: KeyStore
  checks: readonly ReadinessCheck[]
  /** Why no new work is taken now; see `sheds` of a route. */
  overloaded?: () => string | undefined
  logger: Logger
  metrics: Registry
  /** False where the port is reachable from outside. */
  serveMetrics?: boolean
  /** By which `/livez?challenge=…` proves that this is the service; see `challengeFor` of libs/config. */
  identitySecret?: string | undefined
  /** The OpenAPI document, when it is not made from `routes`. */
  document?: () => Promise<object>
  /** Addresses and networks of proxies in front, whose `X-Forwarded-*` are believed; none by default. */
  trustedProxies?: readonly string[] | undefined
}

/** Bytes. */
const bodyLimit = 1024 * 1024

/** A request in hand holds up to 1 MiB of body; beyond this a process answers 503 instead of filling its memory. */
export const requestsAtOnce = 1_000

/** All in ms. A connection may be silent as long as `Prefer: wait=30` takes, and longer. */
const timeouts = { connection: 60_000, request: 15_000, headers: 10_000, keepAlive: 15_000, checkEvery: 5_000 }

const internalPaths = /^\/(livez|readyz|metrics|openapi\.json|docs)(\/|$)/

/**
 * The app that every service starts from: its routes with validation, access control, idempotency keys and
 * problem+json, and besides them `/livez`, `/readyz`, `/metrics`, `/openapi.json` and `/docs`. Not listening yet, and
 * more can be registered. `close()` drains: requests that wait see their `signal`, the others are finished.
 * Throws when a route needs keys and there are none.
 */
export async function createHttp(options: HttpOptions): Promise<FastifyInstance> {
  const { routes, database, keys, logger, metrics } = options
  const closing = new AbortController()
  const app = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    genReqId: ({ headers }) => requestIdOf(headers),
    requestIdHeader: false,
    trustProxy: options.trustedProxies ? [...options.trustedProxies] : false,
    bodyLimit,
    connectionTimeout: timeouts.connection,
    requestTimeout: timeouts.request,
    keepAliveTimeout: timeouts.keepAlive,
    http: {
      headersTimeout: timeouts.headers,
      connectionsCheckingInterval: timeouts.checkEvery,
      requireHostHeader: false, // by keepProtocol, which answers with a problem
    },
    rewriteUrl: originForm,
    return503OnClosing: false,
    routerOptions: { maxParamLength: 256 },
    schemaController: { compilersFactory },
    clientErrorHandler: refuseConnection,
    frameworkErrors: (_, request, reply) => {
      reply.header('x-request-id', request.id)
      void sendProblem(reply, errors['malformed-request']())
    },
  }) as unknown as FastifyInstance

  app.decorate('readinessChecks', [...options.checks])
  app.decorateRequest('trace', null as unknown as TraceContext)
  app.decorateRequest('span', null as unknown as Span)
  app.decorateRequest('caller', null)
  app.addHook('onRequest', (request, reply, done) => {
    const parent = parseTraceparent(headerOf(request, 'traceparent'))
    request.span = internalPaths.test(request.url.split('?', 1)[0] ?? '')
      ? unrecordedSpan({ ...childOf(parent), flags: '00' }) // asked every few seconds, and with all its parts in nobody's trace
      : startSpan(request.method, { kind: 'server', parent, attributes: requestAttributes(request) })
    request.trace = request.span.context
    reply.header('x-request-id', request.id)
    runInTrace(request.trace, done)
  })
  app.addHook('preClose', async () => closing.abort(new Error('the service stops')))
  closeUnusedConnections(app, closing.signal)
  observe(app, metrics)
  boundRequests(app, metrics)
  await app.register(helmet, {
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
  })
  keepProtocol(app)
  takeOnlyJson(app)

  // Imported only with a database, so that the gateway does without pg.
  const core = database ? await import('@shopstream/database') : undefined
  mapErrors(app, core?.isUnavailable ?? (() => false))
  const context: RequestContext = {
    database,
    closing: closing.signal,
    answers: undefined,
    amend: async () => undefined,
    overloaded: options.overloaded ?? (() => undefined),
    waiting: new Set(),
  }
  if (database && core) {
    const answers = await import('./idempotency.ts')
    context.answers = answers
    context.amend = answers.keeper(database)
    const stopCleaning = answers.cleanRegularly(database, logger)
    app.addHook('onClose', stopCleaning)
  }

  for (const route of routes) addRoute(app, route, keys, context)
  serveHealth(app, options, closing.signal)
  serveDocumentation(app, options)
  return app
}

/** Without the path: it may hold a secret, such as the token of an opt-out; the route is told at the end. */
const requestAttributes = ({ method, protocol, host }: FastifyRequest) => ({
  'http.request.method': method,
  'url.scheme': protocol,
  'server.address': host,
})

function headerOf({ headers }: FastifyRequest, name: string): string | undefined {
  const value = headers[name]
  return typeof value === 'string' ? value : undefined
}

/**
 * Browsers and connection pools open connections ahead of need. Node counts those as busy until their first request, and
 * closing would wait 10 s for it (measured: 13 s).
 */
function closeUnusedConnections(app: FastifyInstance, closing: AbortSignal): void {
  const unused = new Set<Socket>()
  app.server.on('connection', (socket: Socket) => {
    unused.add(socket)
    socket.once('close', () => unused.delete(socket))
  })
  app.server.on('request', ({ socket }: IncomingMessage) => unused.delete(socket))
  closing.addEventListener('abort', () => {
    for (const socket of unused) socket.destroy()
  })
}

/** Counts and logs every answer, except those to probes and of the documentation. */
function observe(app: FastifyInstance, metrics: Registry): void {
  const duration = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'From the first byte of a request to the last of its answer.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    enableExemplars: true,
    registers: [metrics],
  })
  const failed = new Counter({
    name: 'http_requests_failed_total',
    help: 'Requests of clients that were answered with 5xx; those of probes do not count. It begins at 0, so that the first is seen.',
    registers: [metrics],
  })
  app.addHook('onResponse', (request, reply, done) => {
    const route = request.routeOptions.url ?? 'unmatched'
    const { method } = request
    const status = reply.statusCode
    observeInTrace(duration, { method, route, status }, reply.elapsedTime / 1000, request.trace.traceId)
    request.span.set({ 'http.route': route, 'http.response.status_code': status }, `${method} ${route}`)
    request.span.end(status >= 500 ? new Failure(String(status)) : undefined)
    if (!internalPaths.test(route)) {
      if (status >= 500) failed.inc()
      const ms = Math.round(reply.elapsedTime * 10) / 10
      runInTrace(request.trace, () => request.log.info({ method, route, status, ms }, `${method} ${route} ${status}`))
    }
    done()
  })
}

/**
 * Refuses requests beyond the number that a process can hold; probes are always answered. A thousand are done within
 * seconds, and refused ones are told different times, so that they do not return together.
 */
function boundRequests(app: FastifyInstance, metrics: Registry): void {
  const inHand = new Set<FastifyRequest>()
  new Gauge({
    name: 'http_requests_in_hand',
    help: 'Requests that are not answered yet; a process holds a thousand, and refuses more with 503.',
    registers: [metrics],
    collect() {
      this.set(inHand.size)
    },
  })
  app.addHook('onRequest', async (request, reply) => {
    if (internalPaths.test(request.routeOptions.url ?? '')) return
    if (inHand.size >= requestsAtOnce) throw errors.overloaded().retryIn(randomInt(1, 6))
    inHand.add(request)
    whenOver(reply, () => inHand.delete(request))
  })
}

/**
 * JSON in UTF-8 is the only kind of body; anything else is 415, before it is read. A body without a byte is none, whatever
 * type it is said to have: many clients send the header with every request.
 */
function takeOnlyJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (body.length === 0 && !needsBody(request)) done(null)
    else if (/^(?!identity$)./i.test(headerOf(request, 'content-encoding') ?? ''))
      done(errors['unsupported-media-type']('The body must not be compressed.'))
    else if (!isUtf8(body as Buffer)) done(errors['malformed-json']())
    else
      parse(request, body.toString(), (error, value) => (error ? done(errors['malformed-json']()) : done(null, value)))
  })
  app.addContentTypeParser('*', (_, payload, done) => {
    const end = () => done(null)
    payload.once('end', end).once('data', () => {
      payload.pause().off('end', end)
      done(errors['unsupported-media-type']())
    })
  })
}

/** Whether a request without a body cannot be one of this route. */
function needsBody({ routeOptions }: FastifyRequest): boolean {
  const body = routeOptions.schema?.body as { anyOf?: { type?: string }[] } | undefined
  return body !== undefined && !body.anyOf?.some(({ type }) => type === 'null')
}

function addRoute(app: FastifyInstance, route: Route, keys: KeyStore | undefined, context: RequestContext): void {
  const { method, url, access, page, schema } = route
  const { params, query, headers, body, response } = schema
  if (access !== 'anyone' && !keys) throw new Error(`${method} ${url} needs signing keys`)
  const isRepeatable = method === 'POST' && access !== 'anyone'
  const definition: RouteOptions = {
    method,
    url,
    schema: {
      ...(params && { params }),
      ...(query && { querystring: closed(query) }),
      ...(isRepeatable && { headers: idempotencyKeyHeader }),
      ...(headers && {
        headers: isRepeatable
          ? { ...headers, properties: { ...idempotencyKeyHeader.properties, ...headers.properties } }
          : headers,
      }),
      ...(body && { body: closed(body) }),
      response,
    },
    // Before the body is read: strangers learn nothing by it and cost nothing.
    onRequest: async (request) => {
      if (access === 'anyone' || !keys) return
      request.caller = await authenticate(request.headers.authorization, keys)
      authorize(request.caller, access)
    },
    handler: async (request, reply) => {
      const shop = shopRequest(request, reply, { route, context })
      const answer = await runInTrace(request.trace, () => route.handle(shop))
      reply.code(answer.status)
      if (answer.headers) reply.headers(answer.headers)
      if (answer.replayed) reply.header('idempotency-replayed', 'true')
      return reply.send(answer.body ?? undefined)
    },
  }
  if (!page) return void app.route(definition)
  app.register(async (scope) => {
    takeForms(scope)
    scope.route(definition)
  })
}

function serveHealth(app: FastifyInstance, options: HttpOptions, closing: AbortSignal): void {
  const { service, database, keys, metrics, serveMetrics = true, identitySecret } = options
  const checks = app.readinessChecks
  const add = (check: ReadinessCheck) => {
    if (!checks.some(({ name }) => name === check.name)) checks.push(check)
  }
  if (database) add({ name: 'database', check: () => database.check() })
  if (keys) add(keys.check)
  const readiness = readinessOf(checks, closing)
  const schema = { hide: true }

  app.get('/livez', { schema }, async ({ query }) => {
    const { challenge } = query as { challenge?: unknown }
    const proof = identitySecret && isChallenge(challenge) ? proofOf(identitySecret, service, challenge) : undefined
    return { status: 'ok', ...(proof && { proof }) }
  })
  app.get('/readyz', { schema }, async (_, reply) => {
    const result = await readiness()
    if (result.status === 'unavailable') reply.code(503).header('retry-after', '1')
    return reply.header('cache-control', 'no-store').send({ service, ...result })
  })
  if (serveMetrics) {
    app.get('/metrics', { schema }, async (_, reply) => reply.type(metrics.contentType).send(await metrics.metrics()))
  }
}
