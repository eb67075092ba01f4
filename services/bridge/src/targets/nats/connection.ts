import { jetstreamManager } from '@nats-io/jetstream'
import { connect, nanos } from '@nats-io/transport-node'
import { keepOpen as keepOneOpen } from '../keep-open.ts'

type Options = { stream: string; subject: string; maxMessages?: number }
export type NatsPlace = { bridge: string; url: string; options: Options }
export type Open = Awaited<ReturnType<typeof open>>

/** To the server and the stream of a place; makes the stream where there is none. */
export function keepOpen(place: NatsPlace, retention: 'limits' | 'workqueue') {
  return keepOneOpen({
    open: () => open(place, retention).catch(fail),
    isThere: ({ nc }) => !nc.isClosed(),
    end: ({ nc }) => nc.close(),
  })
}

async function open({ bridge, url, options }: NatsPlace, retention: 'limits' | 'workqueue') {
  const { host, protocol, username, password } = new URL(url)
  const login = { user: decodeURIComponent(username), pass: decodeURIComponent(password) }
  const settings = { reconnect: false, ignoreClusterUpdates: true, timeout: 10_000, pingInterval: 10_000 }
  const secured = protocol === 'tls:' && { tls: {} }
  const nc = await connect({ servers: host, name: `bridge ${bridge}`, ...login, ...settings, ...secured })
  try {
    const jsm = await jetstreamManager(nc)
    const { stream: name, subject, maxMessages: max_msgs = 1_000_000 } = options
    const limits = { max_msgs, max_age: nanos(7 * 86_400_000), discard: 'new', retention } as const
    const subjects = [subject.replaceAll(/{\w+}/g, '*')]
    await jsm.streams.add({ name, subjects, ...limits, duplicate_window: nanos(600_000) }).catch((error) => {
      if (error.code !== 10_058) throw error // one that is there is used as it is
    })
    return { nc, jsm }
  } catch (error) {
    await nc.close()
    throw error
  }
}

/** Without the URL: it holds the password. */
export function inWords(error: Error): Error {
  if (error.message.startsWith('NATS: ')) return error
  const text = error.message.replace(/\w+:\/\/\S+/g, 'its URL')
  return new Error(`NATS: ${/authoriz/i.test(text) ? 'refuses user or password' : text}`, { cause: error })
}

export const fail = (error: Error) => Promise.reject(inWords(error))

export const ended = (cause?: Error) => new Error('NATS: the connection has ended', { cause })
