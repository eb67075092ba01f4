import type { Socket } from 'node:net'
import { type Channel, type ChannelModel, type ConfirmChannel, connect } from 'amqplib'
import { keepOpen as keepOneOpen } from '../keep-open.ts'
import { declarationsOf, type QueueOptions } from './options.ts'
import { bringUndecodable } from './undecodable.ts'

/** After so long without an answer a connection counts as gone, in ms. */
const connectMs = 10_000
/** Between heartbeats; without two of them a connection is gone. */
const heartbeatSeconds = 10
/** A broker that hangs may not keep a bridge from stopping, in ms. */
const closeMs = 1_000

/** A connection with its one channel. It ends for good when either is lost. */
export interface Open<C extends Channel> {
  channel: C
  /** The outcome of `work`, or why the connection has ended meanwhile. */
  whileThere<T>(work: Promise<T>): Promise<T>
  isThere(): boolean
  /** Why the broker takes nothing from this connection: its memory or disk is short. */
  blocked(): string | undefined
  /** Ends it: what is not acknowledged comes again, what is not confirmed is sent again. */
  end(reason?: Error): Promise<void>
}

/** What is opened, for whom, and what is declared. */
interface Opening<C extends Channel> {
  bridge: string
  url: string
  channelOf(connection: ChannelModel): Promise<C>
  declare(channel: C): Promise<void>
}

/** Throws in words while the broker is away, refuses the login, or has what is declared in another form. */
export async function open<C extends Channel>({ bridge, url, channelOf, declare }: Opening<C>): Promise<Open<C>> {
  try {
    const connection = await connect(withHeartbeat(url), {
      timeout: connectMs,
      clientProperties: { connection_name: `shopstream bridge ${bridge}` },
    })
    bringUndecodable(connection)
    return await prepare(connection, channelOf, declare)
  } catch (error) {
    throw inWords(error as Error)
  }
}

async function prepare<C extends Channel>(
  connection: ChannelModel,
  channelOf: Opening<C>['channelOf'],
  declare: Opening<C>['declare'],
): Promise<Open<C>> {
  // Not a promise that all race with: each race would stay in its memory for as long as the connection lasts.
  const waiting = new Set<(reason: Error) => void>()
  let reason: Error | undefined
  let ended: Promise<void> | undefined
  let blocked: string | undefined
  const end = (error?: Error) => {
    reason ??= error ?? new Error('the connection to RabbitMQ has ended')
    for (const reject of waiting) reject(reason)
    ended ??= closeInTime(connection)
    return ended
  }
  const note = (error: Error) => {
    reason ??= inWords(error)
  }
  connection.on('error', note)
  connection.on('close', end)
  connection.on('blocked', (why: string) => {
    blocked = why
  })
  connection.on('unblocked', () => {
    blocked = undefined
  })
  try {
    const channel = await channelOf(connection)
    channel.on('error', note)
    channel.on('close', end)
    await declare(channel)
    return {
      channel,
      whileThere: (work) =>
        new Promise((resolve, reject) => {
          if (reason) return reject(reason)
          waiting.add(reject)
          work.then(resolve, reject).finally(() => waiting.delete(reject))
        }),
      isThere: () => reason === undefined,
      blocked: () => blocked,
      end,
    }
  } catch (error) {
    await end(error as Error)
    throw reason ?? error // of a channel it is told that it has ended, and of the connection why
  }
}

/** A broker that reads nothing, such as one whose memory is short, would keep each connection that is not cut off. */
async function closeInTime(connection: ChannelModel): Promise<void> {
  const { stream } = connection.connection as unknown as { stream: Socket }
  const late = new Promise<void>((resolve) => setTimeout(resolve, closeMs).unref())
  await Promise.race([connection.close().catch(() => {}), late])
  stream.destroy()
}

/** Opens a connection when it is needed and none is there. */
export const keepOpen = <C extends Channel>(opening: Opening<C>) =>
  keepOneOpen<Open<C>>({
    open: () => open(opening),
    isThere: (one) => one.isThere(),
    end: (one) => one.end(),
  })

function withHeartbeat(text: string): string {
  const url = new URL(text)
  if (!url.searchParams.has('heartbeat')) url.searchParams.set('heartbeat', String(heartbeatSeconds))
  return url.href
}

/** What RabbitMQ's errors mean, without the URL: it holds the password. */
function inWords(error: Error & { code?: string | number }): Error {
  if (/^RabbitMQ/.test(error.message)) return error
  if (/ACCESS.REFUSED|403/.test(error.message) && !/vhost|queue|exchange/.test(error.message))
    return new Error('RabbitMQ refuses user or password', { cause: error })
  if (/Expected ConnectionOpenOk/.test(error.message))
    return new Error(
      'RabbitMQ does not open the vhost of its URL: it is not there, or not permitted to this user, or has as many connections as it may',
      {
        cause: error,
      },
    )
  const words = error.message || String(error.code ?? error.name)
  return new Error(`RabbitMQ: ${words.replace(/amqps?:\/\/\S+/g, 'its URL')}`, { cause: error })
}

/** Declares a queue, as {@link declarationsOf} has it. */
export async function declareQueue(
  channel: Channel | ConfirmChannel,
  queue: QueueOptions,
  usualLimit?: number,
): Promise<void> {
  for (const { name, args } of declarationsOf(queue, usualLimit))
    await channel.assertQueue(name, { durable: true, arguments: args })
}
