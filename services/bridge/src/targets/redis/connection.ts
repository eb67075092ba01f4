import { createHash } from 'node:crypto'
import { createClient, DisconnectsClientError, ErrorReply, RESP_TYPES } from '@redis/client'
import { keepOpen as keepOneOpen } from '../keep-open.ts'

/** After so long without an answer a connection counts as gone, in ms. */
const answerMs = 10_000

type Argument = string | Buffer

/** A connection. It asks one thing after the other, and ends for good when it is lost. */
export interface Open {
  /** Throws in words; without an answer in time it ends the connection. Texts come as Buffers where those are wanted. */
  ask<T>(args: readonly Argument[], wanted?: { buffers?: boolean; withinMs?: number }): Promise<T>
  /** Runs a Lua script of one key: where a cluster keeps it is for the server to say. */
  run<T>(script: Script, key: string, args: readonly Argument[], wanted?: { buffers?: boolean }): Promise<T>
  isThere(): boolean
  end(): void
}

/** A Lua script, which the server knows by its hash once it has run. */
export interface Script {
  text: string
  hash: string
}

export const script = (text: string): Script => ({ text, hash: createHash('sha1').update(text).digest('hex') })

/** To the server of a URL, under the name of its bridge. */
export function keepOpen({ bridge, url }: { bridge: string; url: string }) {
  return keepOneOpen<Open>({
    async open() {
      const open = await connect(url)
      // It may be forbidden to this user, and is of no need.
      await open.ask(['CLIENT', 'SETNAME', `shopstream-bridge-${bridge}`]).catch((error) => {
        if (!open.isThere()) throw error // without a password it is the first that is asked
      })
      return open
    },
    isThere: (open) => open.isThere(),
    end: (open) => open.end(),
  })
}

async function connect(url: string): Promise<Open> {
  const client = createClient({
    url,
    RESP: 2, // the same answers from every version
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: 'disabled',
    commandsQueueMaxLength: 100,
    socket: { reconnectStrategy: false, connectTimeout: answerMs },
  })
  client.on('error', () => {}) // whoever asks gets it
  const asBuffers = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } }
  let endedBy: Error | undefined
  const end = (why?: Error) => {
    endedBy ??= why
    if (client.isOpen) client.destroy() // it throws where it has ended by itself, and that would be told as the reason
  }

  async function inTime<T>(work: Promise<T>, withinMs: number): Promise<T> {
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => {
      const why = new Error(`Redis has not answered for ${withinMs / 1_000} s`)
      late.reject(why)
      end(why)
    }, withinMs)
    try {
      return await Promise.race([work, late.promise])
    } catch (error) {
      if (endsConnection(error)) end(error as Error)
      // Of the others that wait for an answer the client says that it was ended, and not why.
      throw inWords((error instanceof DisconnectsClientError && endedBy) || (error as Error))
    } finally {
      clearTimeout(timer)
    }
  }

  try {
    await inTime(client.connect(), answerMs)
  } catch (error) {
    end()
    throw error
  }

  const ask: Open['ask'] = <T>(args: readonly Argument[], { buffers = false, withinMs = answerMs } = {}) =>
    inTime(client.sendCommand<T>([...args], buffers ? asBuffers : {}), withinMs)
  return {
    ask,
    async run<T>({ text, hash }: Script, key: string, args: readonly Argument[], wanted = {}) {
      try {
        return await ask<T>(['EVALSHA', hash, '1', key, ...args], wanted)
      } catch (error) {
        if (codeOf((error as Error).cause) !== 'NOSCRIPT') throw error
        return ask<T>(['EVAL', text, '1', key, ...args], wanted)
      }
    },
    isThere: () => client.isReady,
    end: () => end(),
  }
}

/** By the first word of an answer: what it means, and whether another connection may lead to a server that does better. */
const meanings: Readonly<Record<string, { words: string; ends?: true }>> = {
  WRONGPASS: { words: 'refuses user or password', ends: true },
  NOAUTH: { words: 'wants a password: write it into the URL', ends: true },
  READONLY: { words: 'is a replica, which takes nothing', ends: true },
  LOADING: { words: 'is still reading its data', ends: true },
  MASTERDOWN: { words: 'is a replica without its primary', ends: true },
  CLUSTERDOWN: { words: 'is a cluster that is not whole', ends: true },
  MOVED: { words: 'is a cluster, and the key is on another of its nodes: name one that is no cluster' },
  OOM: { words: 'has no memory left: see its maxmemory' },
  NOREPLICAS: { words: 'has fewer replicas than its min-replicas-to-write' },
  MISCONF: { words: 'cannot write its data to the disk' },
  BUSY: { words: 'is busy with a script' },
  WRONGTYPE: { words: 'holds something else under this key' },
}

const codeOf = (error: unknown) => (error instanceof ErrorReply ? (error.message.split(/\s/, 1)[0] ?? '') : '')
export const endsConnection = (error: unknown) => meanings[codeOf(error)]?.ends === true

/** Without the URL: it holds the password. */
export function inWords(error: Error & { code?: string }): Error {
  if (/^Redis /.test(error.message)) return error
  const known = meanings[codeOf(error)]
  if (known) return new Error(`Redis ${known.words}`, { cause: error })
  const text = (error.message || error.code || error.name).replace(/rediss?:\/\/\S+/g, 'its URL')
  return new Error(`Redis: ${text}`, { cause: error })
}
