import type { Channel, ConsumeMessage } from 'amqplib'
import { headerBytes, type Inlet, type Place, type Received } from '../target.ts'
import { declareQueue, open } from './connection.ts'
import { createHand } from './hand.ts'
import { inDeliveries, type inOptions } from './options.ts'
import { undecodedBytes } from './undecodable.ts'

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
    const hand = createHand<Given>({ count, most: prefetch, bytesOf })
    let taking = Promise.resolve()
    let wake = () => {}
    const stopped = () => wake()
    stop.addEventListener('abort', stopped)
    try {
      await channel.consume(queue.name, (message) => {
        if (message) hand.add({ message, received: toReceived(message) })
        else void end(new Error(`RabbitMQ: queue ${queue.name} was deleted`))
        wake()
      })
      await take([])
      while (!stop.aborted && hand.next() === count) {
        const batch = hand.batch()
        const last = batch.at(-1)?.message
        if (last) {
          taking = take(batch.map(({ received }) => received))
          await whileThere(taking)
          channel.ack(last, true) // and all before it: many by themselves are lost where the channel is closed at once
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
      // What is still being taken stays in memory, and the next connection brings the same again.
      await Promise.all([end(), taking.catch(() => {})])
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

/** A message as it was given, and as it is handed on. */
interface Given {
  message: ConsumeMessage
  received: Received
}

const bytesOf = ({ message: { properties }, received }: Given) =>
  received.body.length + (undecodedBytes(properties) ?? headerBytes(received))

/** Never throws: the message would come first again, for ever. */
function toReceived({ content, properties }: ConsumeMessage): Received {
  const unfit = { body: content, headers: {}, unfit: 'its headers cannot be decoded' }
  if (undecodedBytes(properties) !== undefined) return unfit
  try {
    const headers = Object.entries(properties.headers ?? {}).map(([name, value]) => [name, textOf(value)])
    return {
      body: content,
      contentType: String(properties.contentType ?? ''),
      headers: Object.fromEntries(headers),
    }
  } catch {
    return unfit // nested so deep that it was decoded, and is not written
  }
}

const textOf = (value: unknown) => (typeof value === 'object' ? JSON.stringify(value) : String(value))
