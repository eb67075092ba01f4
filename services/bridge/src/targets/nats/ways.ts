import { AckPolicy, type Consumer, DeliverPolicy, type JsMsg } from '@nats-io/jetstream'
import { headers, nanos } from '@nats-io/transport-node'
import { MessageRefused } from '@shopstream/messaging/forwarding'
import { readBatch } from '../batch.ts'
import { headersOf, readHeaders } from '../headers.ts'
import { type Inlet, namedBy, type Outlet, type Received, type Sendable } from '../target.ts'
import { ended, fail, inWords, keepOpen, type NatsPlace, type Open } from './connection.ts'

/** Publishes to one stream, which leaves out an id that it has had in the last ten minutes. */
export function openOutlet(place: NatsPlace): Outlet {
  const { stream, subject: pattern } = place.options
  const connection = keepOpen(place, 'limits')
  async function publish({ nc, jsm }: Open, message: Sendable): Promise<Error | undefined> {
    const { id, body } = message
    const subject = namedBy(pattern, message)
    const told = headers()
    try {
      for (const [name, value] of headersOf(message)) told.set(name, value)
      const wanted = { msgID: id, headers: told, expect: { streamName: stream }, timeout: 10_000 }
      await jsm.jetstream().publish(subject, body, wanted)
      return undefined
    } catch (thrown) {
      const error = thrown as Error & { code?: number }
      if (error instanceof MessageRefused) return error
      const isTooLarge = error.code === 10_054 || error.code === 10_097 || /max_payload/.test(error.message)
      if (isTooLarge) return new MessageRefused(`NATS does not take it: ${error.message}`)
      if (error.code === 10_077) return new Error(`stream ${stream} is full: ${error.message}`)
      if (nc.isClosed()) return ended(error)
      await nc.close() // the next attempt makes a stream that is missing
      return /not enabled/.test(error.message) ? new Error(`NATS: no stream takes ${subject}`) : inWords(error)
    }
  }

  return {
    async send(messages) {
      const open = await connection.get()
      const results = await Promise.all(messages.map((message) => publish(open, message)))
      if (open.nc.isClosed() && results.every(Boolean)) throw results[0] ?? ended()
      return results
    },
    async *held() {
      const { jsm } = await connection.get()
      const { state, config } = await jsm.streams.info(stream)
      if (config.retention !== 'limits') throw new Error(`stream ${stream} forgets what is acknowledged`)
      if (state.messages === 0) return
      const messages = await (await jsm.jetstream().consumers.get(stream, { headers_only: true })).consume()
      for await (const one of messages) {
        const id = toReceived(one).headers['Nats-Msg-Id']
        if (id) yield id
        if (one.info.pending === 0) return // which ends the consumer, too
      }
      throw ended()
    },
    close: connection.close,
  }
}

/** Reads a stream as a durable consumer of the bridge's name. */
export function openInlet(place: NatsPlace): Inlet {
  const { stream } = place.options
  const { get, close } = keepOpen(place, 'workqueue')
  const consumer = `shopstream-${place.bridge}`
  const count = 100 // in hand at the most

  /** What the reader before had in hand would come after what is new, so the consumer begins anew, with that. */
  async function prepare({ jsm }: Open): Promise<Consumer> {
    const { retention } = (await jsm.streams.info(stream)).config
    if (retention === 'interest')
      throw new Error(`stream ${stream} has the retention interest: to begin anew it needs limits or workqueue`)
    const old = await jsm.consumers.info(stream, consumer).catch((error) => {
      if (error.code !== 10_014) throw error
    })
    if (old && old.num_ack_pending > 0) await jsm.consumers.delete(stream, consumer)
    if (old?.num_ack_pending !== 0) {
      const limits = { ack_wait: nanos(3_600_000), max_ack_pending: count } // this reader needs no reminder
      const isKept = old && retention === 'limits' // else what is acknowledged is not in it any more
      const next = (old?.ack_floor.stream_seq ?? 0) + 1
      const from = isKept && { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: next }
      await jsm.consumers.add(stream, { durable_name: consumer, ack_policy: AckPolicy.Explicit, ...limits, ...from })
    }
    return jsm.jetstream().consumers.get(stream, consumer)
  }

  return {
    close,
    async receive(take, stop) {
      const open = await get()
      const reader = await prepare(open).catch(async (error) => {
        await open.nc.close() // the next call makes a stream that is missing
        return fail(error)
      })
      const source = {
        count,
        largest: open.nc.info?.max_payload,
        bytesOf: (one: JsMsg) => bytesOf(one).length,
        behind: ({ info }: JsMsg) => info.pending,
        fetch: (most: number) => reader.fetch({ max_messages: most, expires: 10_000 }), // over a slow line, too
      }
      await take([])
      while (!stop.aborted) {
        const batch = await readBatch(source, stop).catch(fail)
        if (open.nc.isClosed()) throw ended()
        await take(batch.map(toReceived))
        if (open.nc.isClosed()) throw ended()
        for (const one of batch) one.ack()
      }
    },
  }
}

/** A message as it came: to read `headers` of the client takes time by the square of their number, or throws. */
const bytesOf = (message: JsMsg) => (message as unknown as { msg: { _rdata: Uint8Array } }).msg._rdata

function toReceived(message: JsMsg): Received {
  const bytes = bytesOf(message)
  const read = readHeaders(bytes.subarray(0, bytes.length - message.data.length))
  return { body: Buffer.from(message.data), contentType: read.headers['content-type'] ?? '', ...read }
}
