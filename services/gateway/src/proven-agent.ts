import { once } from 'node:events'
import { Agent, type ClientRequestArgs, type IncomingMessage, request } from 'node:http'
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net'
import type { Duplex } from 'node:stream'
import { challengeFor } from '@shopstream/config'

/** The program that answers is not the service, or the connection broke before that was known; no request was sent. */
export class Unproven extends Error {}

export class ConnectTimeout extends Error {}
export class AnswerTimeout extends Error {}

export interface Limits {
  connectMs: number
  answerMs: number
}

/** An answer to a challenge is always shorter. */
const proofBytes = 1_000

/**
 * Connections that lead to the service itself: each is asked for a proof before any request is sent on it, as the port
 * of a service that died may be another program's by now.
 */
export class ProvenAgent extends Agent {
  readonly #service: string
  readonly #secret: string
  readonly #limits: Limits

  constructor(service: string, secret: string, limits: Limits, options: ConstructorParameters<typeof Agent>[0]) {
    super(options)
    this.#service = service
    this.#secret = secret
    this.#limits = limits
  }

  override createConnection(
    options: ClientRequestArgs,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    const socket = connect(options as TcpNetConnectOpts)
    this.#prove(socket, options).then(
      () => callback?.(null, socket),
      (error) => callback?.(error, socket.destroy()),
    )
  }

  async #prove(socket: Socket, { host, port }: ClientRequestArgs): Promise<void> {
    const closed = new AbortController()
    let failure: Error | undefined
    let isConnected = false
    let timer = setTimeout(() => socket.destroy(new ConnectTimeout()), this.#limits.connectMs)
    socket.on('error', (error) => (failure ??= error)).once('close', () => closed.abort())
    try {
      await once(socket, 'connect')
      isConnected = true
      clearTimeout(timer)
      timer = setTimeout(() => socket.destroy(new AnswerTimeout()), this.#limits.answerMs)
      const { path, isMetBy } = challengeFor(this.#secret, this.#service)
      const asked = request({ createConnection: () => socket, host, port, path, headers: { connection: 'keep-alive' } })
      const isFree = once(socket, 'free', { signal: closed.signal })
      isFree.catch(() => {}) // it counts only after the answer
      asked.on('error', () => {}).end() // its socket tells the same
      const [answer] = (await once(asked, 'response')) as [IncomingMessage]
      if (!isMetBy(await read(answer))) throw new Unproven(`what answers is not the ${this.#service} service`)
      await isFree
    } catch (error) {
      const reason = failure ?? error
      if (!isConnected || reason instanceof AnswerTimeout) throw reason
      throw new Unproven('no proof', { cause: reason })
    } finally {
      clearTimeout(timer)
    }
  }
}

async function read(answer: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of answer.setEncoding('utf8')) {
    text += chunk
    if (text.length > proofBytes) throw new Unproven('a long answer')
  }
  return text
}
