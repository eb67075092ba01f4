import type { Channel, ConsumeMessage } from 'amqplib'
import type { Inlet, Place, Received } from '../target.ts'
import { declareQueue, open } from './connection.ts'
import { createHand } from './hand.ts'
import { inDeliveries, type inOptions } from './options.ts'

const usualPrefetch = 100

/**
 * Consumes a queue, by a connection for each call: what was given and is not acknowledged when it ends comes again, before what
 * is behind it. RabbitMQ counts what it gives, and not its bytes: where those are too many, another connection is given fewer.
 */
export function openInlet({ bridge, url, options }: Place<typeof inOptions>): Inlet {
  const { queue, exchange, prefetch = usualPrefetch } = options
  const openWith = (count: number) =>
    open<Channel>({
      bridge,
      url,
      channelOf: (made) => made.createChannel(),
      async declare(channel) {
        await declareQueue(channel, queue, inDeliveries)
        if (exchange) {
          await channel.assertExchange(exchange, 'topic', { durable: true })
          for (const pattern of queue.bind ?? ['#']) await channel.bindQueue(queue.name, exchange, pattern)
        }
        await channel.prefetch(count)
      },
    })

  /** Returns how many the next connection should be given. */
  async function consume(count: number, take: Take, stop: AbortSignal): Promise<number> {
    const { channel, whileThere, end } = await openWith(count)
    const hand = createHand<ConsumeMessage>({ count, most: prefetch, bytesOf: ({ content }) => content.length })
    let wake = () => {}
    const stopped = () => wake()
    stop.addEventListener('abort', stopped)
    try {
      await channel.consume(queue.name, (message) => {
        if (message) hand.add(message)
        else void end(new Error(`RabbitMQ: queue ${queue.name} was deleted`))
        wake()
      })
      await take([])
      while (!stop.aborted && hand.next() === count) {
        const batch = hand.batch()
        if (batch.length > 0) {
          await whileThere(take(batch.map(toReceived)))
          for (const message of batch) channel.ack(message)
          hand.done()
          continue
        }
        const woken = new Promise<void>((resolve) => {
          wake = resolve
        })
        if (!stop.aborted) await whileThere(woken)
      }
      // What is acknowledged is behind this on the channel, while a connection that is closed may overtake it.
      if (!stop.aborted) await whileThere(channel.close()).catch(() => {})
      return hand.next()
    } finally {
      stop.removeEventListener('abort', stopped)
      await end()
    }
  }

  return {
    async receive(take, stop) {
      for (let count = prefetch; !stop.aborted; ) count = await consume(count, take, stop)
    },
    async close() {},
  }
}

type Take = Parameters<Inlet['receive']>[0]

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
