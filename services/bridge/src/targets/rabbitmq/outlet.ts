import { MessageRefused } from '@shopstream/messaging/forwarding'
import type { ConfirmChannel, Message, Options } from 'amqplib'
import type { Outlet, Place, Sendable } from '../target.ts'
import { declareQueue, keepOpen, type Open } from './connection.ts'
import type { OutletOptions, outOptions } from './options.ts'

/** For so long the broker may take to confirm what it was given, in ms. */
const confirmMs = 30_000

/** Publishes with confirms; what no queue takes comes back before its confirm (`mandatory`). */
export function openOutlet(place: Place<typeof outOptions>): Outlet {
  const { options } = place
  const returned = new Map<string, string>()
  const connection = keepOpen<ConfirmChannel>(
    place,
    (made) => made.createConfirmChannel(),
    async (channel) => {
      channel.on('return', ({ properties, fields }: Message) => {
        returned.set(String(properties.messageId), (fields as { replyText?: string }).replyText ?? 'NO_ROUTE')
      })
      await declare(channel, options)
    },
  )

  async function sendAll(open: Open<ConfirmChannel>, messages: readonly Sendable[]): Promise<(Error | undefined)[]> {
    const confirms = messages.map((message) => publish(open.channel, options, message, returned))
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => {
      late.reject(new Error(`RabbitMQ has not confirmed for ${confirmMs / 1_000} s${because(open.blocked())}`))
    }, confirmMs)
    try {
      return await Promise.race([Promise.all(confirms), open.ended, late.promise])
    } finally {
      clearTimeout(timer)
    }
  }

  return {
    async send(messages) {
      const open = await connection.get()
      const blocked = open.blocked()
      if (blocked) throw new Error(`RabbitMQ takes nothing: ${blocked}`)
      try {
        return await sendAll(open, messages)
      } catch (error) {
        if (!isRefused(error)) throw error
        if (messages.length === 1) return [new MessageRefused((error as Error).message, { cause: error })]
        return oneByOne(this, messages)
      } finally {
        for (const { id } of messages) returned.delete(id)
      }
    },
    close: connection.close,
  }
}

/** The broker ends the channel for a message, and does not say for which. */
async function oneByOne(outlet: Outlet, messages: readonly Sendable[]): Promise<(Error | undefined)[]> {
  const results: (Error | undefined)[] = []
  for (const message of messages) results.push(...(await outlet.send([message])))
  return results
}

const isRefused = (error: unknown) => /message size|PRECONDITION.FAILED.*larger/i.test((error as Error).message)
const because = (reason: string | undefined) => (reason ? `: ${reason}` : '')

async function declare(channel: ConfirmChannel, { exchange, queues = [] }: OutletOptions): Promise<void> {
  if (exchange !== '') await channel.assertExchange(exchange ?? defaultExchange, 'topic', { durable: true })
  for (const queue of queues) {
    await declareQueue(channel, queue)
    for (const pattern of exchange === '' ? [] : (queue.bind ?? ['#']))
      await channel.bindQueue(queue.name, exchange ?? defaultExchange, pattern)
  }
}

const defaultExchange = 'shop.events'

/** `shop.order.v1` is of the aggregate `order`. */
const aggregateOf = (topic: string) => topic.slice(topic.indexOf('.') + 1, topic.lastIndexOf('.'))

const routingKeyOf = ({ routingKey = '{aggregate}.{event}' }: OutletOptions, { topic, type, key }: Sendable) =>
  routingKey.replaceAll('{aggregate}', aggregateOf(topic)).replaceAll('{event}', type).replaceAll('{key}', key)

function publish(
  channel: ConfirmChannel,
  options: OutletOptions,
  message: Sendable,
  returned: ReadonlyMap<string, string>,
): Promise<Error | undefined> {
  const routingKey = routingKeyOf(options, message)
  const { exchange = defaultExchange } = options
  return new Promise((resolve) => {
    channel.publish(exchange, routingKey, message.body, propertiesOf(message), (error: Error | null) => {
      const back = returned.get(message.id)
      if (back)
        resolve(new Error(`no queue takes ${routingKey} of exchange "${exchange}" (${back}): declare or bind one`))
      else if (error) resolve(new Error(`a queue for ${routingKey} is full, or does not take it now`))
      else resolve(undefined)
    })
  })
}

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
