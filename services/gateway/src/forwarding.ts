import { type IncomingHttpHeaders, METHODS, type OutgoingHttpHeaders } from 'node:http'
import { Failure, formatTraceparent, type Span, startSpan } from '@shopstream/observability'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { errors } from './errors.ts'
import { type ServiceName, serviceNames, services } from './services.ts'
import type { Upstream } from './upstream.ts'

/** Headers of one connection only (RFC 9110, section 7.6.1), and those that each side makes by itself. */
const notForwarded = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
  'host',
])

/** Segments that some party on the way might resolve, and encoded separators that it might decode. */
const ambiguousPath = /(^|\/)(\.|%2e){1,2}(\/|$)|\/\/|\\|%2f|%5c|%00/i

const withBody = ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']
/** Its target is no path. */
const methods = METHODS.filter((method) => method !== 'CONNECT')

/** Forwards every path of the table to its service, with any method and body: the service knows which exist. */
export async function forwardRoutes(app: FastifyInstance, upstreams: Record<ServiceName, Upstream>): Promise<void> {
  for (const method of methods)
    app.addHttpMethod(method, { hasBody: withBody.includes(method), overrideExisting: true })
  await app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_, body, done) => done(null, body))
    for (const service of serviceNames) {
      for (const url of services[service].paths.flatMap((path) => [path, `${path}/*`])) {
        scope.route({
          method: [...methods],
          url,
          onRequest: refuseAmbiguousPath,
          handler: (request, reply) => forward(upstreams[service], request, reply),
        })
      }
    }
  })
}

/** Before the body is read. No route needs such a path, so `/v1/users/../../metrics` need not be understood. */
async function refuseAmbiguousPath(request: FastifyRequest): Promise<void> {
  const path = request.url.split('?', 1)[0] ?? ''
  if (ambiguousPath.test(path)) throw errors['route-not-found']()
}

async function forward(upstream: Upstream, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const gone = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort(new Error('the client has gone'))
  })
  const span = startSpan(request.method, {
    kind: 'client',
    parent: request.trace,
    attributes: { 'http.request.method': request.method, 'server.address': upstream.name },
  })
  try {
    const body = request.body as Buffer | undefined
    const answer = await upstream.send({
      method: request.method,
      path: request.url,
      headers: requestHeaders(request, body, span),
      body,
      signal: gone.signal,
    })
    span.set({ 'http.response.status_code': answer.status })
    span.end(answer.status >= 500 ? new Failure(String(answer.status)) : undefined)
    const headers = endToEnd(answer.headers)
    delete headers['x-request-id'] // ours, the same
    return reply.code(answer.status).headers(headers).send(answer.body)
  } catch (error) {
    span.end(error)
    if (gone.signal.aborted) return reply.hijack() // there is nobody to answer
    throw error
  }
}

/**
 * Every body is sent with its length: Node leaves it out for a DELETE or OPTIONS, and the service would take a client's
 * body for the next request on the connection.
 */
function requestHeaders(request: FastifyRequest, body: Buffer | undefined, span: Span): OutgoingHttpHeaders {
  const { headers, ip, id, protocol, host, socket } = request
  const { 'content-length': _, ...forwarded } = endToEnd(headers)
  return {
    ...forwarded,
    ...(body && { 'content-length': body.length }),
    'x-request-id': id,
    traceparent: formatTraceparent(span.context),
    'x-forwarded-for': [headers['x-forwarded-for'] ?? [], socket.remoteAddress ?? []].flat().join(', '),
    // The services trust this header: a client's own value is replaced here, while clients can write into
    // `x-forwarded-for`.
    'x-real-ip': ip,
    'x-forwarded-proto': protocol,
    'x-forwarded-host': host,
  }
}

/** Without the headers that end at this connection, which `Connection` may add to. */
function endToEnd(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const named = new Set(headers.connection?.toLowerCase().split(/\s*,\s*/))
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !notForwarded.has(name) && !named.has(name)))
}
