import { createConnection, createServer } from 'node:net'

/** When this process handed out which port: two callers must not get the same one before either of them listens. */
const given = new Map<number, number>()
const reservedMs = 15_000

/**
 * Returns a TCP port that nothing listens on at 127.0.0.1: `preferred` when it is free, else a random one below the
 * range from which systems take the ports of outgoing connections. Throws when 200 attempts found none.
 */
export async function freePort(preferred?: number): Promise<number> {
  if (preferred !== undefined && !isReserved(preferred) && (await isFree(preferred))) return take(preferred)
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const port = 20_000 + Math.floor(Math.random() * 10_000)
    if (!isReserved(port) && (await isFree(port))) return take(port)
  }
  throw new Error('no free TCP port was found between 20000 and 29999')
}

/** Whether one could listen on this port of 127.0.0.1 now. Throws where there is no such address. */
export async function isFree(port: number): Promise<boolean> {
  // Both questions: macOS lets one bind 127.0.0.1 while another listens on all addresses.
  return (await canListen(port)) && !(await answers(port))
}

const noLoopback =
  'this machine has no address 127.0.0.1, and everything here listens on that alone: give it to the loopback interface ' +
  '(Linux: ip address add 127.0.0.1/8 dev lo)'

function take(port: number): number {
  given.set(port, performance.now())
  return port
}

function isReserved(port: number): boolean {
  return performance.now() - (given.get(port) ?? Number.NEGATIVE_INFINITY) < reservedMs
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', ({ code }: NodeJS.ErrnoException) =>
      code === 'EADDRNOTAVAIL' ? reject(new Error(noLoopback)) : resolve(false),
    )
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)))
  })
}

/** Whether something accepts connections on this port. */
export function answers(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host, timeout: 1_000 })
    const done = (result: boolean) => {
      socket.destroy()
      resolve(result)
    }
    socket.once('connect', () => done(true))
    socket.once('error', () => done(false))
    socket.once('timeout', () => done(false))
  })
}
