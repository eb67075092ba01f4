import { MessageRefused } from '@shopstream/messaging/forwarding'
import type { ConfirmChannel, Message, Options } from 'amqplib'
import { namedBy, type Outlet, type Place, remembered, type Sendable } from '../target.ts'
import { declareQueue, keepOpen, type Open } from './connection.ts'
import { type OutletOptions, type outOptions, usualRoutingKey } from './options.ts'

/** For so long the broker may confirm nothing of what it was given, in ms. */
const usualConfirmMs = 30_000

/** Publishes with confirms; what no queue takes comes back before its confirm (`mandatory`). */
export function openOutlet(place: Place<typeof outOptions>, confirmMs = usualConfirmMs): Outlet {
  // One of its own: a full queue of another row's would be told as this one's.
  const options = { exchange: `shop.${place.bridge}`, ...place.options }
  const routingKeyOf = routing(options)
  /** By channel: what one returns after it has ended says nothing of the next attempt. */
  const returnedBy = new WeakMap<ConfirmChannel, Map<string, string>>()
  /** What the broker takes of a body, in bytes, as far as it has said. */
  let maxBytes = Number.POSITIVE_INFINITY
  const connection = keepOpen<ConfirmChannel>({
    ...place,
    channelOf: (made) => made.createConfirmChannel(),
    async declare(channel) {
      const returned = new Map<string, string>()
      returnedBy.set(channel, returned)
      channel.on('return', ({ properties, fields }: Message) => {
        returned.set(String(properties.messageId), (fields as { replyText?: string }).replyText ?? 'NO_ROUTE')
      })
      await declare(channel, options)
    },
  })

  async function sendFitting(messages: readonly Sendable[]): Promise<(Error | undefined)[]> {
    const open = await connection.get()
    const blocked = open.blocked()
    if (blocked) throw takesNothing(blocked)
    if (messages.length === 0) await inTime(open, confirmMs, () => declare(open.channel, options)) // one may be deleted
    const returned = returnedBy.get(open.channel) ?? new Map<string, string>()
    try {
      return await inTime(open, confirmMs, (tell) =>
        publishAll(open.channel, { ...options, routingKeyOf }, messages, returned, tell),
      )
    } finally {
      for (const { id } of messages) returned.delete(id)
    }
  }

  async function send(messages: readonly Sendable[]): Promise<(Error | undefined)[]> {
    const fitting = messages.filter(({ body }) => body.length <= maxBytes)
    const sent = await sendFitting(fitting).catch((error) => {
      // It ends the channel, and with it what others have sent; whose message it was shows by its size.
      const [, limit] = /larger than configured max size (\d+)/.exec((error as Error).message) ?? []
      if (limit) maxBytes = Math.min(maxBytes, Number(limit))
      if (!fitting.some(({ body }) => body.length > maxBytes)) throw error
      return undefined
    })
    if (!sent) return send(messages)
    if (fitting.length === messages.length) return sent
    const results = new Map<Sendable, Error | undefined>()
    for (const [n, one] of fitting.entries()) results.set(one, sent[n])
    return messages.map((one) => (results.has(one) ? results.get(one) : tooLarge(one, maxBytes)))
  }

  return { send, close: connection.close }
}

const tooLarge = ({ body }: Sendable, limit: number) =>
  new MessageRefused(`the message has ${body.length} bytes, and RabbitMQ's max_message_size is ${limit}`)

/**
 * Without a confirm in time the connection is ended: what it still holds would be sent again behind it, and again. One that the
 * broker does not read stays: another would bring it the same once more, and again.
 */
async function inTime<T>(
  open: Open<ConfirmChannel>,
  confirmMs: number,
  work: (confirmed: () => void) => Promise<T>,
): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    const blocked = open.blocked()
    if (blocked) late.reject(takesNothing(blocked))
    else void open.end(new Error(`RabbitMQ has not confirmed for ${confirmMs / 1_000} s: ${hint}`))
  }, confirmMs)
  try {
    return await open.whileThere(Promise.race([work(() => timer.refresh()), late.promise]))
  } finally {
    clearTimeout(timer)
  }
}

const hint = 'is the leader of its quorum queue there?'
const takesNothing = (blocked: string) => new Error(`RabbitMQ takes nothing: ${blocked}`)

async function declare(channel: ConfirmChannel, { exchange, queues = [] }: Exchanged): Promise<void> {
  if (exchange !== '') await channel.assertExchange(exchange, 'topic', { durable: true })
  for (const queue of queues) {
    await declareQueue(channel, queue)
    for (const pattern of exchange === '' ? [] : (queue.bind ?? ['#']))
      await channel.bindQueue(queue.name, exchange, pattern)
  }
}

type Exchanged = OutletOptions & { exchange: string }

function routing({ routingKey = usualRoutingKey }: OutletOptions) {
  const named = remembered((of) => namedBy(routingKey, of)) // all but the key, which each message has its own of
  return (message: Sendable) => named(message).replaceAll('{key}', () => message.key) // a text may have $&
}

type Routed = Exchanged & { routingKeyOf: (message: Sendable) => string }

/** The result of each, once the broker has told all. */
function publishAll(
  channel: ConfirmChannel,
  options: Routed,
  messages: readonly Sendable[],
  returned: ReadonlyMap<string, string>,
  confirmed: () => void,
): Promise<(Error | undefined)[]> {
  const { promise, resolve } = Promise.withResolvers<(Error | undefined)[]>()
  const results: (Error | undefined)[] = Array(messages.length).fill(undefined)
  let left = messages.length
  const tell = (n: number, error: Error | undefined) => {
    results[n] = error
    left -= 1
    confirmed()
    if (left === 0) resolve(results)
  }
  for (const [n, message] of messages.entries()) publish(channel, options, message, returned, (error) => tell(n, error))
  if (left === 0) resolve(results)
  return promise
}

function publish(
  channel: ConfirmChannel,
  { exchange, queues = [], routingKeyOf }: Routed,
  message: Sendable,
  returned: ReadonlyMap<string, string>,
  tell: (error: Error | undefined) => void,
): void {
  const routingKey = routingKeyOf(message)
  if (Buffer.byteLength(routingKey) > maxRoutingKey) {
    tell(new MessageRefused(`its routing key is longer than ${maxRoutingKey} bytes`))
    return
  }
  const [queue] = queues.length === 1 ? queues : []
  const full = queue && exchange ? `queue ${queue.name}, or another that takes` : 'a queue that takes'
  channel.publish(exchange, routingKey, message.body, propertiesOf(message), (error: Error | null) => {
    const back = returned.get(message.id)
    if (back) tell(new Error(`no queue takes ${routingKey} of exchange "${exchange}" (${back}): declare or bind one`))
    else if (error) tell(new Error(`${full} ${routingKey} of exchange "${exchange}" is full, or takes nothing now`))
    else tell(undefined)
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
