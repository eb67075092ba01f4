import { once } from 'node:events'
import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net'

/** A TCP proxy on 127.0.0.1 that stands for the network between two processes. */
export interface TcpProxy {
  readonly port: number
  /** Bytes that the target has sent to clients so far. */
  readonly received: number
  /** Connections that are open now. */
  readonly connections: number
  /** Bytes of both directions arrive this much later, in ms; 0 ends it. */
  delay(ms: number): void
  /** So many bytes a millisecond get through in each direction; Infinity ends it. */
  slow(bytesPerMs: number): void
  /** Nothing gets through any more, and nobody is told: bytes wait, as behind a cable that was pulled. */
  stall(): void
  /** Ends what is open with a reset and refuses what is new. */
  cut(): void
  /** What is new goes to another port on 127.0.0.1; what is open stays where it is. */
  redirect(port: number): void
  /** Undoes {@link delay}, {@link slow}, {@link stall} and {@link cut}. */
  heal(): void
  close(): Promise<void>
}

export interface TcpProxyOptions {
  /** Port on 127.0.0.1 of what it stands before. */
  target: number
  /** Default: a free one. */
  port?: number
}

/** Starts a {@link TcpProxy}. Throws when its port is busy. */
export async function startTcpProxy({ target, port = 0 }: TcpProxyOptions): Promise<TcpProxy> {
  const open = new Set<Socket>()
  let received = 0
  let goal = target
  let delayMs = 0
  let bytesPerMs = Number.POSITIVE_INFINITY
  let isCut = false
  let healed = Promise.withResolvers<void>()
  healed.resolve()

  const server = createServer({ allowHalfOpen: true }, (client) => {
    if (isCut) return void client.resetAndDestroy()
    const upstream = dial({ port: goal, host: '127.0.0.1', allowHalfOpen: true })
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.setNoDelay(true)
      open.add(from)
      from.once('close', () => {
        open.delete(from)
        to.destroy()
      })
      from.on('error', () => to.destroy()) // told to both sides by the close
      void pump(from, to, (bytes) => {
        if (from === upstream) received += bytes
      })
    }
  })

  /** One chunk at a time, so that a slow or stalled side holds the other one back, as TCP does. */
  async function pump(from: Socket, to: Socket, count: (bytes: number) => void): Promise<void> {
    try {
      for await (const chunk of from) {
        count(chunk.length)
        const waitMs = delayMs + chunk.length / bytesPerMs
        if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs).unref())
        await healed.promise
        if (!to.write(chunk)) await Promise.race([once(to, 'drain'), once(to, 'close')])
      }
      to.end()
    } catch {
      to.destroy() // a reset: the other side sees one too
    }
  }

  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const reset = () => {
    for (const socket of open) socket.resetAndDestroy()
  }
  return {
    port: (server.address() as AddressInfo).port,
    get received() {
      return received
    },
    get connections() {
      return open.size / 2
    },
    delay(ms) {
      delayMs = ms
    },
    slow(rate) {
      bytesPerMs = rate
    },
    stall() {
      healed = Promise.withResolvers()
    },
    cut() {
      isCut = true
      reset()
    },
    redirect(next) {
      goal = next
    },
    heal() {
      delayMs = 0
      bytesPerMs = Number.POSITIVE_INFINITY
      isCut = false
      healed.resolve()
    },
    async close() {
      healed.resolve()
      server.close()
      reset()
      await once(server, 'close')
    },
  }
}
