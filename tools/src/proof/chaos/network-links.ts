import { freePort, type KafkaListener, startTcpProxy, type TcpProxy } from '@shopstream/testing'
import type { ServiceName } from '../../local/services.ts'
import { type Owner, owners } from '../../operations/shop-access.ts'

/** What services reach over a network that can fail. */
const servers = ['kafka', 'postgres'] as const
type Server = (typeof servers)[number]
export type LinkName = `${Owner}-${Server}`
export const linkNames = owners.flatMap((owner) => servers.map((server): LinkName => `${owner}-${server}`))

/** The network between a service and Kafka or Postgres. */
export type Links = Readonly<Record<LinkName, TcpProxy>>

/** Starts the links, and says how Kafka has to listen for them: it tells its clients where to connect to. */
export async function openLinks(postgresPort: number): Promise<{ links: Links; kafkaListeners: KafkaListener[] }> {
  const links = {} as Record<LinkName, TcpProxy>
  const kafkaListeners: KafkaListener[] = []
  for (const owner of owners) {
    const port = await freePort()
    const proxy = await startTcpProxy({ target: port })
    links[`${owner}-kafka`] = proxy
    links[`${owner}-postgres`] = await startTcpProxy({ target: postgresPort })
    kafkaListeners.push({ name: owner.toUpperCase(), port, advertisedPort: proxy.port })
  }
  return { links, kafkaListeners }
}

export async function closeLinks(links: Links): Promise<void> {
  await Promise.all(Object.values(links).map((link) => link.close()))
}

/** What has to change in a service's environment for it to go through its links. */
export function throughLinks(links: Links, name: ServiceName, own: Record<string, string>): Record<string, string> {
  if (!isOwner(name)) return {}
  return {
    KAFKA_BROKERS: `127.0.0.1:${links[`${name}-kafka`].port}`,
    DATABASE_URL: withPort(own.DATABASE_URL ?? '', links[`${name}-postgres`].port),
    DATABASE_DIRECT_URL: withPort(own.DATABASE_DIRECT_URL ?? '', links[`${name}-postgres`].port),
  }
}

const isOwner = (name: ServiceName): name is Owner => (owners as readonly string[]).includes(name)

function withPort(url: string, port: number): string {
  const changed = new URL(url)
  changed.port = String(port)
  return changed.href
}
