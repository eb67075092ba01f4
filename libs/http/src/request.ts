import type { Database, Transaction } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { errors } from './errors.ts'
import { clientAddressOf, waitSecondsOf } from './headers.ts'
import type { Answered } from './idempotency.ts'
import type { EffectGroup, IdempotentRequest, Reply, Route, ShopRequest } from './routes.ts'

/** What all requests of an app share. */
export interface RequestContext {
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any> | undefined
  /** Aborted when the service stops. */
  closing: AbortSignal
  /** The kept answers; undefined without a database. */
  answers: typeof import('./idempotency.ts') | undefined
  /** Keeps a newer answer. */
  amend(answered: Answered): Promise<void>
  /** Why no new work is taken now; undefined when it is. */
  overloaded: () => string | undefined
  /** Requests that wait by `Prefer: wait`. */
  waiting: Set<FastifyRequest>
}

/**
 * More requests of one process do not wait; they are answered at once with what is known. Each reads its order three
 * times a second: 200 cost 700 reads a second, which ten connections serve beside the rest.
 */
export const waitingAtOnce = 200

/** What a route's handler gets of a request. */
export function shopRequest(
  request: FastifyRequest,
  reply: FastifyReply,
  { route, context }: { route: Pick<Route, 'sheds'>; context: RequestContext },
): ShopRequest {
  const { params, query, body, headers, caller, id } = request
  let signal: AbortSignal | undefined
  let isReplayed = false

  const shop = {
    params,
    query,
    body,
    headers,
    id,
    clientAddress: clientAddressOf(headers, request.ip),
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
      const { waiting } = context
      if (seconds === undefined || (waiting.size >= waitingAtOnce && !waiting.has(request))) return undefined
      if (!waiting.has(request)) whenOver(reply, () => waiting.delete(request))
      waiting.add(request)
      reply.header('preference-applied', `wait=${seconds}`)
      return seconds
    },
    effect(work: (tx: Transaction) => Promise<Reply>) {
      const { database, answers } = required(context)
      return unlessOverloaded((repeatable) =>
        database.transaction((tx) => (repeatable ? answers.answerOnce(tx, repeatable, work) : work(tx))),
      )
    },
    effectIn<Input>(group: EffectGroup<Input>, input: Input) {
      return unlessOverloaded((repeatable) => group.run({ input, repeatable }))
    },
    async amend(answer: Reply) {
      const { answers } = required(context)
      const repeatable = isReplayed ? undefined : repeatableOf(request, answers)
      if (repeatable) await context.amend({ request: repeatable, reply: answer })
    },
  }

  async function unlessOverloaded(work: (repeatable: IdempotentRequest | undefined) => Promise<Reply>) {
    const { database, answers } = required(context)
    const repeatable = repeatableOf(request, answers)
    const overload = route.sheds ? context.overloaded() : undefined
    if (overload !== undefined) {
      const kept = repeatable && (await answers.keptAnswer(database.query, repeatable))
      if (!kept) throw errors.overloaded(overload)
      isReplayed = true
      return kept
    }
    const answer = await work(repeatable)
    isReplayed = answer.replayed === true
    return answer
  }
  return shop as unknown as ShopRequest
}

function required({ database, answers }: RequestContext) {
  if (!database || !answers) throw new Error('effects need a database: give one to createHttp')
  return { database, answers }
}

/** Identifies repetitions of this request; undefined if it cannot be repeated. */
function repeatableOf(request: FastifyRequest, answers: typeof import('./idempotency.ts')) {
  const key = request.headers['idempotency-key']
  if (request.method !== 'POST' || !request.caller || typeof key !== 'string') return undefined
  const hash = answers.hashRequest(request.method, request.url, request.body)
  return { userId: request.caller.id, key, hash }
}

/** Calls `done` once the answer is out or the client has gone. */
export function whenOver({ raw }: FastifyReply, done: () => void): void {
  raw.once('finish', done).once('close', done)
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
