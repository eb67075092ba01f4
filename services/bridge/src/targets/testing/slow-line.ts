import { startTcpProxy } from '@shopstream/testing'

/** Stands before a server and lets so many bytes in a millisecond through to it, and from it. */
export async function startSlowLine(url: string, bytesPerMs: number) {
  const through = new URL(url)
  const proxy = await startTcpProxy({ target: Number(through.port) })
  proxy.slow(bytesPerMs)
  through.port = String(proxy.port)
  return { url: through.href, connections: () => proxy.connections, stop: proxy.close }
}
