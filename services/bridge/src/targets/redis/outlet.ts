import { ErrorReply } from '@redis/client'
import { topics } from '@shopstream/events'
import { MessageRefused } from '@shopstream/messaging/forwarding'
import type { Outlet, Place, Sendable } from '../target.ts'
import { endsConnection, inWords, keepOpen, type Open } from './connection.ts'
import type { outOptions } from './options.ts'
import { createPace } from './pace.ts'
import { createReplicas } from './replicas.ts'
import { createLook } from './server.ts'
import { type Entry, type Store, storeOf } from './stores.ts'

/** What one script adds at the most: no other client waits long for it. */
const most = { entries: 500, bytes: 4_194_304 }
/** Entries that are read at once. */
const pageSize = 500

type Results = Map<Sendable, Error | undefined>

/** Adds to streams, or to the list of a queue, by scripts that read and write one key each. */
export function openOutlet(place: Place<typeof outOptions>): Outlet {
  const { queue, replicas: wanted } = place.options
  const store = storeOf(place.options)
  const connection = keepOpen(place)
  const pace = createPace(most.bytes)
  const maxBytesOf = createLook(place.logger)
  const replicas = wanted === undefined ? undefined : createReplicas(wanted)
  let turn: Promise<unknown> = Promise.resolve()

  /** Adds what is of one key. What comes after the first that is not taken waits as well, so that order is kept. */
  async function add(open: Open, key: string, messages: readonly Sendable[], results: Results): Promise<void> {
    const maxBytes = await maxBytesOf(open)
    const fitting: Measured[] = []
    for (const message of messages) {
      const one = measured(message, store.entryOf(message))
      if (one.longest <= maxBytes) fitting.push(one)
      else results.set(message, refused(`it has ${one.longest} bytes, and proto-max-bulk-len is ${maxBytes}`))
    }
    for (const chunk of chunksOf(fitting, pace.bytes())) {
      const args = store.argumentsOf(chunk.map(({ entry }) => entry))
      const [added, behind, problem] = await pace.keep(open, open.run<Added>(store.script, key, args))
      for (const { message } of chunk.slice(0, added)) results.set(message, undefined)
      if (problem !== '') {
        const error = new ErrorReply(problem)
        if (endsConnection(error)) open.end()
        throw inWords(error)
      }
      if (added < chunk.length) throw new Error(store.full(key, behind))
    }
  }

  async function send(messages: readonly Sendable[]): Promise<(Error | undefined)[]> {
    const open = await connection.get()
    if (messages.length === 0) await open.ask(['PING']) // one that hangs is away as well
    const unsent = (await replicas?.before(open, messages)) ?? messages
    const results: Results = new Map()
    for (const [key, ofKey] of Map.groupBy(unsent, store.keyOf)) {
      await add(open, key, ofKey, results).catch((error) => {
        for (const one of ofKey) if (!results.has(one)) results.set(one, error)
      })
    }
    const isLost = !open.isThere() && unsent.length > 0 && unsent.every((one) => isNotNow(results.get(one)))
    if (isLost) throw results.get(unsent[0] as Sendable)
    const sent = unsent.filter((one) => results.get(one) === undefined)
    if (replicas && sent.length > 0)
      await replicas.after(open, sent).catch((error) => {
        for (const one of sent) results.set(one, error)
      })
    return messages.map((one) => results.get(one)) // what replicas have confirmed by now has none
  }

  return {
    send(messages) {
      if (!replicas) return send(messages)
      const sending = turn.then(() => send(messages)) // what replicas confirm is of one at a time
      turn = sending.catch(() => {})
      return sending
    },
    ...(queue === undefined && { held: () => held(connection.get, store) }),
    close: connection.close,
  }
}

/** How many were added, which group holds up the others, and an error. */
type Added = [number, string, string]

const refused = (why: string) => new MessageRefused(`Redis does not take an event of this size: ${why}`)
const isNotNow = (error: Error | undefined) => error !== undefined && !(error instanceof MessageRefused)

/** Sizes are in bytes. */
interface Measured {
  message: Sendable
  entry: Entry
  size: number
  /** Of its texts. */
  longest: number
}

function measured(message: Sendable, entry: Entry): Measured {
  const one = { message, entry, size: 0, longest: 0 }
  for (const text of entry) {
    const bytes = Buffer.byteLength(text)
    one.size += bytes
    if (bytes > one.longest) one.longest = bytes
  }
  return one
}

function chunksOf(all: readonly Measured[], mostBytes: number): Measured[][] {
  const chunks: Measured[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const one of all) {
    const last = chunks.at(-1)
    const isRoom = last !== undefined && last.length < most.entries && bytes + one.size <= mostBytes
    if (isRoom) last.push(one)
    else chunks.push([one])
    bytes = isRoom ? bytes + one.size : one.size
  }
  return chunks
}

/** Of every stream that events of the shop may be in, one after the other. */
async function* held(connect: () => Promise<Open>, { keyOf }: Store): AsyncIterable<string> {
  const open = await connect()
  const keys = topics.flatMap(({ name, events }) => events.map((type) => keyOf({ topic: name, type })))
  for (const key of new Set(keys)) {
    for (let from = '-'; ; ) {
      const page = await open.ask<[string, string[]][]>(['XRANGE', key, from, '+', 'COUNT', String(pageSize)])
      for (const [, fields] of page) {
        const id = fields.findIndex((field, n) => n % 2 === 0 && field === 'id')
        if (id !== -1) yield fields[id + 1] as string
      }
      const last = page.at(-1)
      if (!last || page.length < pageSize) break
      from = `(${last[0]}`
    }
  }
}
