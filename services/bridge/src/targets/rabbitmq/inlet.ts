import type { Channel, ConsumeMessage } from 'amqplib'
import type { Inlet, Place, Received } from '../target.ts'
import { declareQueue, open } from './connection.ts'
import { inDeliveries, type inOptions } from './options.ts'

const usualPrefetch = 100

/**
 * Consumes a queue, by a connection for each call: what was given and is not acknowledged when it ends comes again, before what
 * is behind it.
 */
export function openInlet({ bridge, url, options }: Place<typeof inOptions>): Inlet {
  const { queue, exchange, prefetch = usualPrefetch } = options
  const opening = {
    bridge,
    url,
    channelOf: (made: { createChannel(): Promise<Channel> }) => made.createChannel(),
    async declare(channel: Channel) {
      await declareQueue(channel, queue, inDeliveries)
      if (exchange) {
        await channel.assertExchange(exchange, 'topic', { durable: true })
        for (const pattern of queue.bind ?? ['#']) await channel.bindQueue(queue.name, exchange, pattern)
      }
      await channel.prefetch(prefetch)
    },
  }
  return {
    async receive(take, stop) {
      const connection = await open<Channel>(opening)
      const { channel, whileThere, end } = connection
      const waiting: ConsumeMessage[] = []
      let wake = () => {}
      const stopped = () => wake()
      stop.addEventListener('abort', stopped)
      try {
        await channel.consume(queue.name, (message) => {
          if (message) waiting.push(message)
          else void end(new Error(`RabbitMQ: queue ${queue.name} was deleted`))
          wake()
        })
        await take([])
        while (!stop.aborted) {
          if (waiting.length === 0) {
            const woken = new Promise<void>((resolve) => {
              wake = resolve
            })
            if (!stop.aborted) await whileThere(woken)
            continue
          }
          const batch = waiting.splice(0, prefetch)
          await whileThere(take(batch.map(toReceived)))
          for (const message of batch) channel.ack(message)
        }
      } finally {
        stop.removeEventListener('abort', stopped)
        await end()
      }
    },
    async close() {},
  }
}

const toReceived = ({ content, properties }: ConsumeMessage): Received => ({
  body: content,
  contentType: String(properties.contentType ?? ''),
  headers: Object.fromEntries(
    Object.entries(properties.headers ?? {}).map(([name, value]) => [
      name,
      typeof value === 'object' ? JSON.stringify(value) : String(value),
    ]),
  ),
})
