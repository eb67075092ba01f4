import { jetstreamManager } from '@nats-io/jetstream'
import { connect, nanos } from '@nats-io/transport-node'

export type NatsPlace = {
  bridge: string
  url: string
  options: { stream: string; subject: string; maxMessages?: number }
}
export type Connection = ReturnType<typeof keepOpen>
export type Open = Awaited<ReturnType<typeof open>>

/** Connects when none is there, or it was lost: the client itself neither connects again nor keeps messages for later. */
export function keepOpen(place: NatsPlace, retention: 'limits' | 'workqueue') {
  let current: ReturnType<typeof open> | undefined
  let isClosed = false
  return {
    /** Throws in words while the server is away or refuses the login. */
    async get(): Promise<Open> {
      if (isClosed) throw new Error('the bridge is stopping')
      current ??= open(place, retention, () => (current = undefined)).catch((error) => {
        current = undefined
        throw inWords(error)
      })
      return current
    },
    async close() {
      isClosed = true
      await (await current?.catch(() => undefined))?.nc.close()
    },
  }
}

async function open({ bridge, url, options }: NatsPlace, retention: 'limits' | 'workqueue', forget: () => void) {
  const { host, protocol, username, password } = new URL(url)
  const login = { user: decodeURIComponent(username), pass: decodeURIComponent(password) }
  const settings = { reconnect: false, ignoreClusterUpdates: true, timeout: 10_000, pingInterval: 10_000 }
  const secured = protocol === 'tls:' && { tls: {} }
  const nc = await connect({ servers: host, name: `bridge ${bridge}`, ...login, ...settings, ...secured })
  nc.closed().then(forget)
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
export function inWords({ message, cause }: Error): Error {
  const text = /authoriz/i.test(message) ? 'refuses user or password' : message.replace(/\w+:\/\/\S+/g, 'its URL')
  return new Error(`NATS: ${text}`, { cause })
}
