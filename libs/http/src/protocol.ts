import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest, RawRequestDefaultExpression } from 'fastify'
import { errors, type ShopError } from './errors.ts'
import { answerSocket, sendProblem } from './problems.ts'

/** What a route can have; `OPTIONS` is answered for each path, and no other method does anything here. */
const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']

/** uri-host and port, RFC 9110 section 7.2; may be empty. */
const hostAndPort = /^[\w.~!$&'()*+,;=%:[\]-]*$/

/** What RFC 9110 and 9112 ask of a server, and neither Node nor fastify does. */
export function keepProtocol(app: FastifyInstance): void {
  app.addHook('onRequest', async ({ raw }) => {
    const refusal = refusalOf(raw)
    if (refusal) throw refusal
  })
  // Node would answer these two itself: 417 without a body, and nothing at all.
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))
  app.server.on('connect', (_: IncomingMessage, socket: Socket) =>
    answerSocket(socket, errors['method-not-allowed'](), { allow: methods.join(', ') }),
  )
  answerUnrouted(app)
}

/**
 * The target as a path, as routes need it; clients that believe to speak with a proxy send `http://host/path`. Such a
 * host replaces the header (RFC 9112, section 3.2.2).
 */
export function originForm(request: RawRequestDefaultExpression): string {
  const { url = '/', headers } = request
  const [, authority, path = ''] = /^https?:\/\/([^/?#@]+)(?=[/?]|$)(.*)$/i.exec(url) ?? []
  if (authority === undefined) return url
  headers.host = authority
  return path.startsWith('/') ? path : `/${path}`
}

/** The refusal of a message that Node accepts but no route may answer; undefined if fine. */
function refusalOf({ httpVersion, method, url = '', headers, rawHeaders }: IncomingMessage): ShopError | undefined {
  const hosts = rawHeaders.filter((name, i) => i % 2 === 0 && /^host$/i.test(name)).length
  const isReadable =
    /^1\.[01]$/.test(httpVersion) &&
    (hosts === 1 || (hosts === 0 && httpVersion === '1.0')) &&
    hostAndPort.test(headers.host ?? '') &&
    (/^\/[^#]*$/.test(url) || (url === '*' && method === 'OPTIONS')) &&
    /^chunked$/i.test(headers['transfer-encoding'] ?? 'chunked')
  if (!isReadable) return errors['malformed-request']()
  return /^100-continue$/i.test(headers.expect ?? '100-continue') ? undefined : errors['expectation-failed']()
}

/**
 * A request that no route takes gets 404, or 405 with `Allow` if the path has other methods; `OPTIONS` of such a path
 * gets 204. This is decided before a body is read, for each method that Node's parser knows.
 */
function answerUnrouted(app: FastifyInstance): void {
  const known: { path: RegExp; methods: string[] }[] = []
  app.addHook('onRoute', ({ url, method }) => {
    const path = new RegExp(`^${url.replace(/[.+]/g, '\\$&').replace(/:\w+/g, '[^/]+').replace(/\*$/, '.*')}$`)
    known.push({ path, methods: [method].flat() })
  })
  const allowedAt = (url: string) => {
    if (url === '*') return methods
    const path = decodeURI(url.split('?', 1)[0] ?? '') // the router has decoded it before, so it can be
    const allowed = new Set(known.filter((route) => route.path.test(path)).flatMap((route) => route.methods))
    return methods.filter((method) => allowed.has(method))
  }
  const refusalAt = (request: FastifyRequest, reply: FastifyReply): ShopError | undefined => {
    const allowed = allowedAt(request.url)
    if (allowed.length === 0) return errors['route-not-found']()
    reply.header('allow', allowed.join(', '))
    return request.method === 'OPTIONS' ? undefined : errors['method-not-allowed']()
  }

  // Behind the hooks of onRequest, so that pages of other origins can read the answer too.
  app.addHook('preParsing', (request, reply, _, done) => {
    if (!request.is404) return done()
    const refusal = refusalAt(request, reply)
    if (refusal) done(refusal)
    else reply.code(204).send()
  })
  // Reached by `callNotFound` alone.
  app.setNotFoundHandler((request, reply) => {
    const refusal = refusalAt(request, reply)
    return refusal ? sendProblem(reply, refusal) : reply.code(204).send()
  })
}
