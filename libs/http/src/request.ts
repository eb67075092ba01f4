import type { Database, Transaction } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { waitSecondsOf } from './headers.ts'
import type { Reply, ShopRequest } from './routes.ts'

/** What all requests of an app share. */
export interface RequestContext {
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any> | undefined
  /** Aborted when the service stops. */
  closing: AbortSignal
  /** The kept answers; undefined without a database. */
  answers: typeof import('./idempotency.ts') | undefined
}

/** What a route's handler gets of a request. */
export function shopRequest(request: FastifyRequest, reply: FastifyReply, context: RequestContext): ShopRequest {
  const { params, query, body, headers, caller, id } = request
  let signal: AbortSignal | undefined
  let isReplayed = false

  const shop = {
    params,
    query,
    body,
    headers,
    id,
    log: request.log as Logger,
    isStaff: caller?.roles.includes('staff') ?? false,
    get user() {
      if (!caller) throw new Error(`${request.method} ${request.routeOptions.url} is open to anyone and has no user`)
      return caller
    },
    get signal() {
      signal ??= AbortSignal.any([context.closing, goneSignal(reply)])
      return signal
    },
    get waitSeconds() {
      const seconds = waitSecondsOf(headers)
      if (seconds !== undefined) reply.header('preference-applied', `wait=${seconds}`)
      return seconds
    },
    async effect(work: (tx: Transaction) => Promise<Reply>) {
      const { database, answers } = required(context)
      const repeatable = repeatableOf(request, answers)
      if (!repeatable) return database.transaction(work)
      const answer = await database.transaction((tx) => answers.answerOnce(tx, repeatable, work))
      isReplayed = answer.replayed === true
      return answer
    },
    async amend(answer: Reply) {
      const { database, answers } = required(context)
      const repeatable = isReplayed ? undefined : repeatableOf(request, answers)
      if (repeatable) await answers.keep(database.query, repeatable, answer)
    },
  }
  return shop as unknown as ShopRequest
}

function required({ database, answers }: RequestContext) {
  if (!database || !answers) throw new Error('effects need a database: give one to createHttp')
  return { database, answers }
}

/** What a repetition of this request is recognised by; undefined when it is none that can be repeated. */
function repeatableOf(request: FastifyRequest, answers: typeof import('./idempotency.ts')) {
  const key = request.headers['idempotency-key']
  if (request.method !== 'POST' || !request.caller || typeof key !== 'string') return undefined
  const hash = answers.hashRequest(request.method, request.url, request.body)
  return { userId: request.caller.id, key, hash }
}

/** Aborted when the connection is closed before the answer is complete. */
function goneSignal({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController()
  const abort = () => {
    if (!raw.writableFinished) gone.abort(new Error('the client has gone'))
  }
  if (raw.closed || raw.destroyed) abort()
  else raw.once('close', abort)
  return gone.signal
}
