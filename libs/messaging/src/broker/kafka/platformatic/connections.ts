import { isIP } from 'node:net'
import { type API, Connection, protocolAPIsById, ResponseError, Writer } from '@platformatic/kafka'
import { withTimeLimit } from '../../../async.ts'
import { NotAdmitted } from '../../bus.ts'
import { inWords } from '../identity.ts'
import type { BusOptions } from '../options.ts'
import type { ApiRequest, BrokerAddress } from '../protocol.ts'
import { authentication } from './authentication.ts'
import { Unreachable } from './errors.ts'

/** Ms in which a broker has to take a connection, and to answer a request beyond what it may wait for. */
export const timeLimit = { connecting: 3_000, answer: 15_000 }
/**
 * Longer than any limit of ours. After its own limit the library keeps using the connection, and takes the bytes of a
 * late answer for the next answer. Our limits end the connection.
 */
const longerThanAny = 600_000
const requestsAtOnce = 100
/** The part of a session that is used; the rest is for what is under way. */
const usedOfSession = 0.7

/**
 * Connections to brokers, one for each; a broker answers its requests in order, so a request that may wait needs its
 * own.
 */
export interface Connections {
  /** Throws {@link Unreachable} when there is no answer within `limitMs` and what the request may wait. */
  send<Answer>(to: BrokerAddress, request: ApiRequest<Answer>, limitMs?: number): Promise<Answer>
  /** Asks by one of the library's own requests. The answer may hold errors: none is thrown for them. */
  call<Arguments extends unknown[], Answer>(
    to: BrokerAddress,
    api: API<Arguments, Answer>,
    args: Arguments,
    limitMs?: number,
  ): Promise<Answer>
  /** Ends all connections, at once, whatever a broker does; what waits for an answer fails. New ones are made when needed. */
  drop(): void
  /** {@link drop}, and no new ones. */
  close(): void
}

const keyOf = ({ host, port }: BrokerAddress) => `${host}:${port}`

interface Made {
  connection: Connection
  ready: Promise<void>
  /** What the socket told before it closed; the library hands on that it is closed. */
  problem?: Error
  /** By `performance.now()`: whoever asks later gets another connection. */
  usableUntil: number
  /** Requests that wait for an answer. */
  waiting: number
}

type Ask<Answer> = (connection: Connection, callback: (error: Error | null, answer?: Answer) => void) => void

/**
 * Uses the library's connections, but not its pool. When a connection closes, the pool removes its address even if the
 * address has a new connection by then, which is never closed. It also listens for the first error only, so that a
 * second one ends the process.
 */
export function createConnections(options: Pick<BusOptions, 'clientId' | 'identity'>): Connections {
  const open = new Map<string, Made>()
  /** With those whose place another has taken. */
  const all = new Set<Made>()
  let isClosed = false

  function connectionTo(to: BrokerAddress): Made {
    const key = keyOf(to)
    const found = open.get(key)
    if (found && performance.now() < found.usableUntil) return found
    if (found?.waiting === 0) destroy(found)
    if (isClosed) throw new Unreachable('the connections are closed')
    const made = connect(options, to)
    const forget = () => {
      if (open.get(key) === made) open.delete(key)
    }
    // without a listener an error would end the process
    made.connection.on('error', (error) => {
      made.problem = error
      forget()
    })
    made.connection.on('close', () => {
      all.delete(made)
      forget()
    })
    made.ready.catch(forget)
    open.set(key, made)
    all.add(made)
    return made
  }

  function drop(): void {
    for (const made of all) destroy(made)
    open.clear()
    all.clear()
  }

  /** A connection that has failed, or kept somebody waiting, is not used again. */
  async function on<Answer>(to: BrokerAddress, what: string, limitMs: number, ask: Ask<Answer>): Promise<Answer> {
    const made = connectionTo(to)
    made.waiting += 1
    try {
      await made.ready // which has the limit of connecting
      return await withTimeLimit(answerOf(made.connection, ask), limitMs, what)
    } catch (error) {
      if (error instanceof ResponseError) return (error as unknown as { response: Answer }).response
      if (open.get(keyOf(to)) === made) open.delete(keyOf(to))
      destroy(made)
      const said = inWords(made.problem ?? error)
      if (said instanceof NotAdmitted) throw new Unreachable(said.message, { cause: said })
      const reason = error instanceof Error ? error.message : String(error)
      throw new Unreachable(`${what} at ${keyOf(to)}: ${reason}`, { cause: error })
    } finally {
      made.waiting -= 1
      if (made.waiting === 0 && open.get(keyOf(to)) !== made) destroy(made) // its session ends, and another took its place
    }
  }

  return {
    drop,
    send: (to, { apiKey, apiVersion, apiName, body, waitsMs, decode }, limitMs = timeLimit.answer) =>
      on(to, apiName, limitMs + waitsMs, (connection, callback) =>
        connection.send(
          apiKey,
          apiVersion,
          () => Writer.create().append(body),
          (_correlation, _key, _version, { buffer, position }) => decode(buffer.slice(position)),
          false,
          false,
          callback,
        ),
      ),
    call: (to, api, args, limitMs = timeLimit.answer) =>
      on(to, protocolAPIsById[api.key] ?? `request ${api.key}`, limitMs, (connection, callback) =>
        (api as unknown as (connection: Connection, ...rest: unknown[]) => void)(connection, ...args, callback),
      ),
    close() {
      isClosed = true
      drop()
    },
  }
}

function connect(
  { clientId, identity }: Pick<BusOptions, 'clientId' | 'identity'>,
  { host, port }: BrokerAddress,
): Made {
  const { tls, sasl } = identity
  const endsIn = (ms: number) => {
    made.usableUntil = performance.now() + ms * usedOfSession
  }
  const connection = new Connection(clientId, {
    connectTimeout: timeLimit.connecting,
    requestTimeout: longerThanAny,
    maxInflights: requestsAtOnce,
    ...(tls && { tls, tlsServerName: isIP(host) === 0 }),
    ...(sasl && { sasl: authentication(sasl, endsIn) }),
  })
  const made: Made = {
    connection,
    ready: Promise.resolve(connection.connect(host, port)),
    usableUntil: Number.POSITIVE_INFINITY,
    waiting: 0,
  }
  return made
}

function answerOf<Answer>(connection: Connection, ask: Ask<Answer>): Promise<Answer> {
  const answer = Promise.withResolvers<Answer>()
  ask(connection, (error, found) => (error ? answer.reject(error) : answer.resolve(found as Answer)))
  return answer.promise
}

/** With an error, so that a connection still being made fails as well; `close` would wait for a frozen broker. */
function destroy({ connection }: Made): void {
  connection.socket?.destroy(new Error('the connection is given up'))
}
