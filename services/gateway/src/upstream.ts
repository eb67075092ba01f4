import {
  Agent,
  type AgentOptions,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request,
} from 'node:http'
import { json } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { errors } from './errors.ts'
import { AnswerTimeout, ConnectTimeout, ProvenAgent, Unproven } from './proven-agent.ts'
import { keepsAnswers, type ServiceName } from './services.ts'

export interface UpstreamRequest {
  method: string
  /** With query, as it came. */
  path: string
  headers: OutgoingHttpHeaders
  body?: Buffer | undefined
  /** Ends the request when the client has gone. */
  signal: AbortSignal
}

/** What a service has answered. */
export interface UpstreamAnswer {
  status: number
  headers: IncomingHttpHeaders
  /** All of it, or one that is still to be read. */
  body: Buffer | IncomingMessage
}

/** The HTTP side of one service. */
export interface Upstream {
  readonly name: ServiceName
  /**
   * Passes a request on and returns the answer, with its body unless that is long. A service that is just starting anew is
   * waited for; what was interrupted is sent again where that is harmless, three times at the most.
   * Throws `service-unavailable` (503), `service-timeout` (504), or the signal's reason.
   */
  send(request: UpstreamRequest): Promise<UpstreamAnswer>
  /** JSON from an internal path and its status; gives up after 2.5 s. Throws when there is no answer. */
  getJson(path: string, signal?: AbortSignal): Promise<{ status: number; body: unknown }>
  close(): void
}

/** Longer than the longest `Prefer: wait`, 30 s. */
const answerMs = 35_000
const internalAnswerMs = 2_500
const connectMs = 1_000
/** Pauses between attempts to connect, in ms; doubled each time. A thousand requests may wait. */
const reconnectEveryMs = { first: 50, longest: 250 }
const wholeBytes = 65_536
/** On a kept connection, then on fresh ones: of a service that stops, the second may be ended unread as well. */
const attemptsAtMost = 3

const notConnected = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'])

export interface UpstreamOptions {
  /** Of plain HTTP, see config.ts. */
  url: string
  /** How long a service is waited for from when it was found away: a container that is replaced is back after 3 to 6 s. */
  waitMs: number
  /** By which the service proves that it is the one; see {@link ProvenAgent}. Nobody is asked without it. */
  secret?: string | undefined
}

/**
 * Opens a pool of connections to a service. Node's own agent: undici is as fast here (0.15 ms a request), but importing
 * it takes 180 ms of the gateway's start and 6 MB.
 */
export function createUpstream(name: ServiceName, { url, waitMs, secret }: UpstreamOptions): Upstream {
  const { hostname, port } = new URL(url)
  const limits = { keepAlive: true, maxSockets: 1_000, maxFreeSockets: 100 }
  const agentOf = (options: AgentOptions) =>
    secret ? new ProvenAgent(name, secret, { connectMs, answerMs }, options) : new Agent(options)
  const kept = agentOf(limits)
  /** What a stopping service has ended may be all that is kept, so a repetition takes none of these. */
  const fresh = agentOf({ ...limits, keepAlive: false })
  const target = { hostname: hostname.replace(/^\[|\]$/g, ''), port: port || 80 }

  const once = ({ method, path, headers, body, signal }: UpstreamRequest, timeoutMs: number, agent = kept) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request({ ...target, agent, method, path, headers, signal }, resolve)
      sent.on('error', reject)
      sent.on('socket', (socket) => {
        if (!socket.connecting) return
        const timer = setTimeout(() => sent.destroy(new ConnectTimeout()), connectMs)
        const clear = () => clearTimeout(timer)
        socket.once('connect', clear).once('close', clear)
      })
      sent.setTimeout(timeoutMs, () => sent.destroy(new AnswerTimeout()))
      sent.end(body)
    })

  /** By performance.now(), since when it cannot be reached. One that stays away costs its later requests no wait. */
  let awaySince: number | undefined
  const reached: typeof once = async (...asked) => {
    try {
      const answer = await once(...asked)
      awaySince = undefined
      return answer
    } catch (error) {
      if (isNothingSent(error)) awaySince ??= performance.now()
      throw error
    }
  }

  const connected = async (upstreamRequest: UpstreamRequest, agent: Agent): Promise<IncomingMessage> => {
    for (let pause = reconnectEveryMs.first; ; pause = Math.min(2 * pause, reconnectEveryMs.longest)) {
      try {
        return await reached(upstreamRequest, answerMs, agent)
      } catch (error) {
        if (!isNothingSent(error) || performance.now() > (awaySince ?? 0) + waitMs) throw error
        await delay(pause, undefined, { signal: upstreamRequest.signal })
      }
    }
  }

  return {
    name,
    async send(upstreamRequest) {
      const isRepeatable = isHarmlessAgain(name, upstreamRequest)
      for (let attempt = 1; ; attempt++) {
        try {
          const answer = await connected(upstreamRequest, attempt === 1 ? kept : fresh)
          return await answerOf(answer, upstreamRequest.method)
        } catch (error) {
          if (upstreamRequest.signal.aborted) throw upstreamRequest.signal.reason
          if (error instanceof AnswerTimeout) throw errors['service-timeout'](sentence(name, 'did not answer in time'))
          if (isRepeatable && isInterruption(error) && attempt < attemptsAtMost) continue
          throw errors['service-unavailable'](sentence(name, 'is not available now'))
        }
      }
    },
    async getJson(path, signal = new AbortController().signal) {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(internalAnswerMs)])
      const answer = await reached({ method: 'GET', path, headers: {}, signal: limited }, internalAnswerMs)
      return { status: answer.statusCode ?? 0, body: await json(answer) }
    },
    close() {
      kept.destroy()
      fresh.destroy()
    },
  }
}

/** Where a service keeps its answers, a user's POST with an `Idempotency-Key` does nothing more when it comes again. */
function isHarmlessAgain(name: ServiceName, { method, headers }: UpstreamRequest): boolean {
  if (method === 'GET' || method === 'HEAD') return true
  const hasKey = headers.authorization !== undefined && headers['idempotency-key'] !== undefined
  return method === 'POST' && hasKey && keepsAnswers(name)
}

/** Only a long body is streamed: piping one of 300 bytes costs as much as the rest of the request. */
async function answerOf(answer: IncomingMessage, method: string): Promise<UpstreamAnswer> {
  const { statusCode: status = 502, headers } = answer
  const isWhole = method !== 'HEAD' && Number(headers['content-length']) <= wholeBytes
  return { status, headers, body: isWhole ? await wholeOf(answer) : answer }
}

/** `stream/consumers` makes a Blob in between, which took 3 % of a request. */
function wholeOf(answer: IncomingMessage): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const chunks: Buffer[] = []
  answer.on('data', (chunk) => chunks.push(chunk))
  answer.once('end', () => resolve(Buffer.concat(chunks)))
  answer.once('error', reject)
  return promise
}

/** The connection could not be made, or its end has not proven who it is: any method may be tried again. */
const isNothingSent = (error: unknown) =>
  error instanceof Unproven || error instanceof ConnectTimeout || notConnected.has(codeOf(error))

/** The request may have been read, and may have been the reason. */
const isInterruption = (error: unknown) => ['ECONNRESET', 'EPIPE'].includes(codeOf(error))

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? ''

const sentence = (name: string, what: string) => `The ${name} service ${what}. Try again in a few seconds.`
