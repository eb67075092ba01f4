import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, startKafka } from '@shopstream/local-servers'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

export interface ProxiedKafka {
  /** For those whose network fails: they stay behind the proxy. */
  readonly proxied: string[]
  /** For those who look on. */
  readonly direct: string[]
  readonly proxy: TcpProxy
  /** Ends both and removes the data. */
  close(): Promise<void>
}

/** A Kafka of a test's own, to be reached directly and through a {@link TcpProxy}. Throws as `startKafka` does. */
export async function startProxiedKafka(): Promise<ProxiedKafka> {
  const dir = mkdtempSync(join(tmpdir(), 'shopstream-kafka-'))
  const port = await freePort()
  const proxy = await startTcpProxy({ target: port })
  const kafka = await startKafka({ dir, listeners: [{ name: 'PROXIED', port, advertisedPort: proxy.port }] })
  return {
    proxied: [`127.0.0.1:${proxy.port}`],
    direct: kafka.brokers,
    proxy,
    async close() {
      await proxy.close()
      await kafka.stop()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
