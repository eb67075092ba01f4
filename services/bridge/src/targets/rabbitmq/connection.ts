import { type Channel, type ChannelModel, type ConfirmChannel, connect } from 'amqplib'
import type { QueueOptions } from './options.ts'

/** After so long without an answer a connection counts as gone, in ms. */
const connectMs = 10_000
/** Between heartbeats; without two of them a connection is gone. */
const heartbeatSeconds = 10

/** A connection with its one channel. */
export interface Open<C extends Channel> {
  channel: C
  /** Rejects when the two have ended, with why. */
  ended: Promise<never>
  /** Why the broker takes nothing from this connection: its memory or disk is short. */
  blocked(): string | undefined
}

/** Opens one when it is needed and none is there. */
export function keepOpen<C extends Channel>(
  place: { bridge: string; url: string },
  open: (connection: ChannelModel) => Promise<C>,
  prepare: (channel: C) => Promise<void>,
) {
  let current: Promise<Open<C>> | undefined
  let connection: ChannelModel | undefined
  let isClosed = false

  async function start(): Promise<Open<C>> {
    const made = await connect(withHeartbeat(place.url), {
      timeout: connectMs,
      clientProperties: { connection_name: `shopstream bridge ${place.bridge}` },
    })
    connection = made
    const ended = Promise.withResolvers<never>()
    ended.promise.catch(() => {})
    let blocked: string | undefined
    let reason: Error | undefined
    const end = (error?: Error) => {
      ended.reject(reason ?? error ?? new Error('the connection to RabbitMQ has ended'))
      current = undefined
      made.close().catch(() => {}) // it may have ended already
    }
    made.on('error', (error: Error) => (reason ??= error))
    made.on('close', end)
    made.on('blocked', (why: string) => (blocked = why))
    made.on('unblocked', () => (blocked = undefined))
    try {
      const channel = await open(made)
      channel.on('error', (error: Error) => (reason ??= error))
      channel.on('close', end)
      await prepare(channel)
      return { channel, ended: ended.promise, blocked: () => blocked }
    } catch (error) {
      end(error as Error)
      throw error
    }
  }

  return {
    /** Throws while the broker is away, refuses the login, or what is declared differs from what is there. */
    get(): Promise<Open<C>> {
      if (isClosed) return Promise.reject(new Error('the bridge is stopping'))
      current ??= start().catch((error) => {
        current = undefined
        throw inWords(error)
      })
      return current
    },
    async close() {
      isClosed = true
      await current?.catch(() => undefined)
      await connection?.close().catch(() => {})
    },
  }
}

function withHeartbeat(text: string): string {
  const url = new URL(text)
  if (!url.searchParams.has('heartbeat')) url.searchParams.set('heartbeat', String(heartbeatSeconds))
  return url.href
}

/** What RabbitMQ's errors mean, without the URL: it holds the password. */
function inWords(error: Error & { code?: string | number }): Error {
  if (/ACCESS.REFUSED|403/.test(error.message) && !/vhost|queue|exchange/.test(error.message))
    return new Error('RabbitMQ refuses user or password', { cause: error })
  const words = error.message || String(error.code ?? error.name)
  return new Error(`RabbitMQ: ${words.replace(/amqps?:\/\/\S+/g, 'its URL')}`, { cause: error })
}

export async function declareQueue(channel: Channel | ConfirmChannel, queue: QueueOptions): Promise<void> {
  const { name, type = 'quorum', maxLength, deliveryLimit, deadLetterQueue } = queue
  if (deadLetterQueue)
    await channel.assertQueue(deadLetterQueue, { durable: true, arguments: { 'x-queue-type': 'quorum' } })
  await channel.assertQueue(name, {
    durable: true,
    arguments: {
      ...(type === 'quorum' && { 'x-queue-type': 'quorum' }), // without an argument it is classic, as Celery's users have it
      ...(maxLength && { 'x-max-length': maxLength, 'x-overflow': 'reject-publish' }),
      ...(deliveryLimit && { 'x-delivery-limit': deliveryLimit }),
      ...(deadLetterQueue && { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': deadLetterQueue }),
    },
  })
}
