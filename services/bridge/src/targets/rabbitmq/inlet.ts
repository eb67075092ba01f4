import type { Channel, ConsumeMessage } from 'amqplib'
import type { Inlet, Place, Received } from '../target.ts'
import { declareQueue, keepOpen } from './connection.ts'
import type { inOptions } from './options.ts'

const usualPrefetch = 100

/** Consumes a queue; what was given and is not acknowledged comes again when the connection ends. */
export function openInlet(place: Place<typeof inOptions>): Inlet {
  const { queue, exchange, prefetch = usualPrefetch } = place.options
  const connection = keepOpen<Channel>(
    place,
    (made) => made.createChannel(),
    async (channel) => {
      await declareQueue(channel, queue)
      if (exchange) {
        await channel.assertExchange(exchange, 'topic', { durable: true })
        for (const pattern of queue.bind ?? ['#']) await channel.bindQueue(queue.name, exchange, pattern)
      }
      await channel.prefetch(prefetch)
    },
  )
  return {
    async receive(take, stop) {
      const { channel, ended } = await connection.get()
      const waiting: ConsumeMessage[] = []
      let wake = () => {}
      const failed = Promise.withResolvers<never>()
      failed.promise.catch(() => {})
      const { consumerTag } = await channel.consume(queue.name, (message) => {
        if (message) waiting.push(message)
        else failed.reject(new Error(`queue ${queue.name} was deleted`))
        wake()
      })
      const stopped = new Promise<void>((resolve) => stop.addEventListener('abort', () => resolve(), { once: true }))
      while (!stop.aborted) {
        if (waiting.length === 0) {
          const woken = new Promise<void>((resolve) => {
            wake = resolve
          })
          await Promise.race([woken, stopped, ended, failed.promise])
          continue
        }
        const batch = waiting.splice(0, prefetch)
        await Promise.race([take(batch.map(toReceived)), ended])
        const last = batch.at(-1)
        if (last) channel.ack(last, true) // and all before it
      }
      await channel.cancel(consumerTag)
    },
    close: connection.close,
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
