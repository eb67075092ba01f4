import kafkajs from 'kafkajs'
import { withTimeLimit } from '../../../async.ts'
import { inWords } from '../identity.ts'

/**
 * How old a client's idea of who leads which partition may be when it is used, in ms. KafkaJS asks anew when a connection
 * breaks, but not when a broker falls silent (frozen, cut off): with its default of 5 min a frozen broker of three stopped
 * every relay for so long, though its partitions had new leaders after 4 s.
 */
export const metadataMaxAge = 5_000

/** The broker's own error, if that is the cause of `error`. */
export function saidByBroker(error: unknown): kafkajs.KafkaJSProtocolError | undefined {
  if (error instanceof kafkajs.KafkaJSProtocolError) return error
  return error instanceof Error ? saidByBroker(error.cause) : undefined
}

/**
 * A client that connects when first needed, and again after a failure. A failed client is better replaced: KafkaJS
 * 2.2.4 treats a connection that it made while the broker was frozen as ready for ever, although it has not learned the
 * broker's API versions, and fails with "Broker not connected" until its process ends (chaos, seed 21). It also names a
 * deleted topic in all its metadata requests, which then fail for every topic.
 */
export function connectedOnce<Client extends { connect(): Promise<void>; disconnect(): Promise<void> }>(
  create: () => Client,
) {
  let connected: Promise<Client> | undefined
  return {
    get(): Promise<Client> {
      if (connected) return connected
      const connecting = (async () => {
        const client = create()
        await client.connect().catch((error) => {
          throw inWords(error)
        })
        return client
      })()
      connected = connecting
      connecting.catch(() => {
        if (connected === connecting) connected = undefined
      })
      return connecting
    },
    /** Another client is connected when it is needed next; this one leaves in the background. */
    renew(): void {
      const former = connected
      connected = undefined
      void former?.then((client) => client.disconnect()).catch(() => undefined) // it is gone either way
    },
    async close(): Promise<void> {
      const leave = async () => (await connected)?.disconnect()
      await withTimeLimit(leave(), 2_000, 'disconnecting').catch(() => undefined) // the process ends anyway
    },
  }
}
