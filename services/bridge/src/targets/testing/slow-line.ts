import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** Stands before a server and lets so many bytes in a millisecond through to it, and from it. */
export async function startSlowLine(url: string, bytesPerMs: number) {
  const open = new Set<Socket>()
  const lead = (from: Socket, to: Socket) =>
    from.on('data', async (bytes) => {
      from.pause()
      to.write(bytes)
      await delay(bytes.length / bytesPerMs)
      from.resume()
    })
  const line = createServer((socket) => {
    const { port, hostname } = new URL(url)
    const server = connect(Number(port), hostname)
    const end = () => {
      socket.destroy()
      server.destroy()
      open.delete(socket)
    }
    open.add(socket)
    for (const one of [socket, server]) one.on('error', end).on('close', end)
    lead(server, socket)
    lead(socket, server)
  }).listen(0, '127.0.0.1')
  await once(line, 'listening')
  const through = new URL(url)
  through.port = String((line.address() as AddressInfo).port)
  return {
    url: through.href,
    connections: () => open.size,
    stop() {
      for (const socket of open) socket.destroy()
      line.close()
    },
  }
}
