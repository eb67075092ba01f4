import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { errors, type FieldError, ShopError } from './errors.ts'
import { InvalidParts } from './schemas.ts'

/** RFC 9457, with the extensions `code`, `requestId`, `traceId` and `errors`. */
interface Problem {
  type: 'about:blank'
  title: string
  status: number
  code: string
  detail: string
  instance: string
  requestId: string
  /** That of the request's spans and log lines; of what could not be read as a request there is none. */
  traceId?: string
  errors?: FieldError[]
}

/** Seconds after which a client may try again when something was away; what is behind takes longer to catch up. */
const retryAfter = { default: '2', overloaded: '30' }

/** More than this of a body that is refused is not read for the sake of a clean answer; in bytes. */
const drainLimit = 16 * 1024 * 1024
const drainMs = 5_000

/** Which refusal an error of fastify is. */
const refusals: Record<string, keyof typeof errors> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body-too-large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported-media-type',
  FST_ERR_CTP_INVALID_JSON_BODY: 'malformed-json',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'malformed-json',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'malformed-request',
  FST_ERR_BAD_URL: 'malformed-request',
  FST_ERR_MAX_PARAM_LENGTH: 'malformed-request',
  FST_ERR_ASYNC_CONSTRAINT: 'malformed-request',
  FST_ERR_NOT_FOUND: 'route-not-found',
}

/** Maps every error of an app to problem+json; what is unexpected is logged once, here. */
export function mapErrors(app: FastifyInstance, isUnavailable: (error: unknown) => boolean): void {
  app.setErrorHandler(async (error: FastifyError, request, reply) => {
    if (request.raw.destroyed && !request.raw.complete) return reply.hijack() // the client has gone while sending
    const refusal = refusalOf(error, isUnavailable)
    if (refusal.code === 'internal-error') request.log.error({ err: error }, 'a request failed unexpectedly')
    if (refusal.code === 'database-unavailable') request.log.warn({ err: error }, 'a request failed for the database')
    if (refusal.status === 413 || refusal.status === 415) await drain(request, reply)
    return sendProblem(reply, refusal)
  })
}

function refusalOf(error: FastifyError, isUnavailable: (error: unknown) => boolean): ShopError {
  if (error instanceof ShopError) return error
  if (error instanceof InvalidParts) return errors['invalid-request'](undefined, error.fields)
  const known = refusals[error.code]
  if (known) return errors[known]()
  if (isUnavailable(error)) return errors['database-unavailable']()
  if (error.code?.startsWith('FST_') && (error.statusCode ?? 500) < 500) return errors['malformed-request']()
  return errors['internal-error']()
}

/** Answers with a problem. */
export function sendProblem(reply: FastifyReply, error: ShopError): FastifyReply {
  const { status } = error
  const { url, id, trace } = reply.request
  if (status === 401) reply.header('www-authenticate', 'Bearer')
  if (status === 503 || status === 429)
    reply.header('retry-after', error.retryAfter ?? retryAfter[error.code === 'overloaded' ? 'overloaded' : 'default'])
  return reply
    .code(status)
    .type('application/problem+json')
    .serializer((problem: unknown) => JSON.stringify(problem))
    .send(problemOf(error, { instance: pathOf(url), requestId: id, ...(trace && { traceId: trace.traceId }) }))
}

/** The query is left out, and a target that is no path: they may hold what should not be repeated. */
const pathOf = (url: string) => (url.startsWith('/') ? (url.split('?', 1)[0] ?? url) : '/')

type Occurrence = Pick<Problem, 'instance' | 'requestId' | 'traceId'>

function problemOf({ status, code, message, fields }: ShopError, occurrence: Occurrence): Problem {
  const title = STATUS_CODES[status] ?? 'Error'
  const problem: Problem = { type: 'about:blank', title, status, code, detail: message, ...occurrence }
  return fields ? { ...problem, errors: fields } : problem
}

/**
 * Reads the rest of a body that is not taken, within limits. A connection that is closed while the client still sends
 * is reset, and many clients then show the reset instead of the answer.
 */
async function drain({ raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
  const done = Promise.withResolvers<void>()
  const timer = setTimeout(done.resolve, drainMs)
  let left = drainLimit
  raw.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) done.resolve()
  })
  raw.once('close', done.resolve).once('end', done.resolve).resume()
  if (!raw.complete) await done.promise
  clearTimeout(timer)
  if (raw.complete) reply.removeHeader('connection')
  else reply.header('connection', 'close')
}

const clientErrors: Record<string, keyof typeof errors> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
  HPE_HEADER_OVERFLOW: 'headers-too-large',
}

/** Answers what is not even HTTP, or came too slowly. */
export function refuseConnection(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET') socket.destroy()
  else answerSocket(socket, errors[clientErrors[error.code ?? ''] ?? 'malformed-request']())
}

/**
 * Answers on a connection that has no request to reply to, and ends it. What the client still sends is thrown away for a
 * while: closing at once would reset the connection, and the reset would overtake the answer.
 */
export function answerSocket(socket: Socket, refusal: ShopError, headers: Record<string, string> = {}): void {
  if (socket.writableEnded) return
  const problem = problemOf(refusal, { instance: '/', requestId: randomUUID() })
  const body = JSON.stringify(problem)
  const lines = Object.entries({
    ...headers,
    'content-type': 'application/problem+json',
    'content-length': Buffer.byteLength(body),
    'x-request-id': problem.requestId,
    connection: 'close',
  }).map(([name, value]) => `${name}: ${value}\r\n`)
  const timer = setTimeout(() => socket.destroy(), drainMs)
  socket
    .on('error', () => socket.destroy())
    .once('close', () => clearTimeout(timer))
    .resume()
    .end(`HTTP/1.1 ${refusal.status} ${problem.title}\r\n${lines.join('')}\r\n${body}`)
}
