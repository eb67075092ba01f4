import { createClient } from '@redis/client'

/** A client for what a test asks on its own account. */
export async function clientOf(url: string) {
  const client = createClient({ url, RESP: 2, socket: { reconnectStrategy: 50 } })
  client.on('error', () => {})
  await client.connect()
  return client
}
