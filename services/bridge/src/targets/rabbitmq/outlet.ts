import { MessageRefused } from '@shopstream/messaging/forwarding'
import type { ConfirmChannel, Message, Options } from 'amqplib'
import { aggregateOf, type Outlet, type Place, type Sendable } from '../target.ts'
import { declareQueue, keepOpen, type Open } from './connection.ts'
import type { OutletOptions, outOptions } from './options.ts'

/** For so long the broker may take to confirm what it was given, in ms. */
const confirmMs = 30_000

/** Publishes with confirms; what no queue takes comes back before its confirm (`mandatory`). */
export function openOutlet(place: Place<typeof outOptions>): Outlet {
  // One of its own: a full queue of another row's would be told as this one's.
  const options = { exchange: `shop.${place.bridge}`, ...place.options }
  const returned = new Map<string, string>()
  /** What the broker takes of a body, in bytes, as far as it has said. */
  let maxBytes = Number.POSITIVE_INFINITY
  const connection = keepOpen<ConfirmChannel>({
    ...place,
    channelOf: (made) => made.createConfirmChannel(),
    async declare(channel) {
      channel.on('return', ({ properties, fields }: Message) => {
        returned.set(String(properties.messageId), (fields as { replyText?: string }).replyText ?? 'NO_ROUTE')
      })
      await declare(channel, options)
    },
  })

  async function sendFitting(messages: readonly Sendable[]): Promise<(Error | undefined)[]> {
    const open = await connection.get()
    const blocked = open.blocked()
    if (blocked) throw new Error(`RabbitMQ takes nothing: ${blocked}`)
    try {
      const confirms = messages.map((message) => publish(open.channel, options, message, returned))
      return await inTime(open, Promise.all(confirms))
    } finally {
      for (const { id } of messages) returned.delete(id)
    }
  }

  async function send(messages: readonly Sendable[]): Promise<(Error | undefined)[]> {
    const fitting = messages.filter(({ body }) => body.length <= maxBytes)
    const results = new Map<Sendable, Error | undefined>()
    const sent = await sendFitting(fitting).catch((error) => {
      // It ends the channel, and with it what others have sent; whose message it was shows by its size.
      const [, limit] = /larger than configured max size (\d+)/.exec((error as Error).message) ?? []
      if (limit) maxBytes = Math.min(maxBytes, Number(limit))
      if (!fitting.some(({ body }) => body.length > maxBytes)) throw error
      return undefined
    })
    if (!sent) return send(messages)
    for (const [n, one] of fitting.entries()) results.set(one, sent[n])
    return messages.map((one) => (results.has(one) ? results.get(one) : tooLarge(one, maxBytes)))
  }

  return { send, close: connection.close }
}

const tooLarge = ({ body }: Sendable, limit: number) =>
  new MessageRefused(`the message has ${body.length} bytes, and RabbitMQ's max_message_size is ${limit}`)

/** Without a confirm in time the connection is ended: what it still holds would be sent again behind it, and again. */
async function inTime<T>(open: Open<ConfirmChannel>, confirmed: Promise<T>): Promise<T> {
  const timer = setTimeout(() => {
    const why = open.blocked() ?? 'is the leader of its quorum queue there?'
    void open.end(new Error(`RabbitMQ has not confirmed for ${confirmMs / 1_000} s: ${why}`))
  }, confirmMs)
  try {
    return await open.whileThere(confirmed)
  } finally {
    clearTimeout(timer)
  }
}

async function declare(channel: ConfirmChannel, { exchange, queues = [] }: Exchanged): Promise<void> {
  if (exchange !== '') await channel.assertExchange(exchange, 'topic', { durable: true })
  for (const queue of queues) {
    await declareQueue(channel, queue)
    for (const pattern of exchange === '' ? [] : (queue.bind ?? ['#']))
      await channel.bindQueue(queue.name, exchange, pattern)
  }
}

type Exchanged = OutletOptions & { exchange: string }

const routingKeyOf = ({ routingKey = '{aggregate}.{event}' }: OutletOptions, { topic, type, key }: Sendable) =>
  routingKey.replaceAll('{aggregate}', aggregateOf({ topic })).replaceAll('{event}', type).replaceAll('{key}', key)

function publish(
  channel: ConfirmChannel,
  options: Exchanged,
  message: Sendable,
  returned: ReadonlyMap<string, string>,
): Promise<Error | undefined> {
  const routingKey = routingKeyOf(options, message)
  const { exchange } = options
  if (Buffer.byteLength(routingKey) > maxRoutingKey)
    return Promise.resolve(new MessageRefused(`its routing key is longer than ${maxRoutingKey} bytes`))
  return new Promise((resolve) => {
    channel.publish(exchange, routingKey, message.body, propertiesOf(message), (error: Error | null) => {
      const back = returned.get(message.id)
      if (back)
        resolve(new Error(`no queue takes ${routingKey} of exchange "${exchange}" (${back}): declare or bind one`))
      else if (error)
        resolve(new Error(`a queue that takes ${routingKey} of exchange "${exchange}" is full, or takes nothing now`))
      else resolve(undefined)
    })
  })
}

/** Of AMQP, in bytes. */
const maxRoutingKey = 255

/** The prefix is that of CloudEvents' binding for AMQP. */
const prefixed = (attributes: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`cloudEvents:${name}`, value]))

const propertiesOf = ({ id, type, contentType, attributes = {}, task }: Sendable): Options.Publish => ({
  mandatory: true,
  persistent: true,
  messageId: id,
  type,
  contentType,
  ...(contentType.includes('json') && { contentEncoding: 'utf-8' }), // kombu decodes text by it
  ...(task && { correlationId: id }),
  headers: task ?? prefixed(attributes),
})
