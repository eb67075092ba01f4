import { AckPolicy, DeliverPolicy, type JsMsg } from '@nats-io/jetstream'
import { headers, nanos } from '@nats-io/transport-node'
import { MessageRefused } from '@shopstream/messaging/forwarding'
import { aggregateOf, type Inlet, inHandBytes, type Outlet, type Received, type Sendable } from '../target.ts'
import { type Connection, inWords, type NatsPlace, type Open } from './connection.ts'

/** Publishes to one stream, which leaves out an id that it has had in the last ten minutes. */
export function openOutlet({ options: { stream, subject: pattern } }: NatsPlace, connection: Connection): Outlet {
  async function publish({ nc, jsm }: Open, message: Sendable): Promise<Error | undefined> {
    const { id, type, body, contentType, attributes = {} } = message
    const subject = pattern.replaceAll('{aggregate}', aggregateOf(message)).replaceAll('{event}', type)
    const told = headers()
    told.set('content-type', contentType)
    for (const [name, value] of Object.entries(attributes)) told.set(`ce-${name}`, value)
    try {
      const wanted = { msgID: id, headers: told, expect: { streamName: stream }, timeout: 10_000 }
      await jsm.jetstream().publish(subject, body, wanted)
      return undefined
    } catch (thrown) {
      const error = thrown as Error & { code?: number }
      const isTooLarge = error.code === 10_054 || /max_payload/.test(error.message)
      if (isTooLarge) return new MessageRefused(`NATS does not take ${body.length} bytes: ${error.message}`)
      if (error.code === 10_077) return new Error(`stream ${stream} is full: ${error.message}`)
      if (nc.isClosed()) return new Error('NATS: the connection has ended', { cause: error })
      await nc.close() // the next attempt makes a stream that is missing
      return /not enabled/.test(error.message) ? new Error(`NATS: no stream takes ${subject}`) : inWords(error)
    }
  }

  return {
    async send(messages) {
      const open = await connection.get()
      const results = await Promise.all(messages.map((message) => publish(open, message)))
      if (open.nc.isClosed() && results.every(Boolean)) throw results[0] ?? new Error('NATS: the connection has ended')
      return results
    },
    async *held() {
      const { jsm } = await connection.get()
      const { state, config } = await jsm.streams.info(stream)
      if (config.retention !== 'limits') throw new Error(`stream ${stream} forgets what is acknowledged`)
      if (state.messages === 0) return
      const messages = await (await jsm.jetstream().consumers.get(stream, { headers_only: true })).consume()
      for await (const { headers, info } of messages) {
        if (headers?.has('Nats-Msg-Id')) yield headers.get('Nats-Msg-Id')
        if (info.pending === 0) return // which ends the consumer, too
      }
      throw new Error('NATS: the connection has ended')
    },
    close: connection.close,
  }
}

/** Reads a stream as a durable consumer of the bridge's name. */
export function openInlet({ bridge, options: { stream } }: NatsPlace, { get, close }: Connection): Inlet {
  const consumer = `shopstream-${bridge}`
  const count = 100 // in hand at the most

  /** What the reader before had in hand would come after what is new, so the consumer begins anew, with that. */
  async function prepare({ jsm }: Open): Promise<void> {
    const old = await jsm.consumers.info(stream, consumer).catch((error) => {
      if (error.code !== 10_014) throw inWords(error)
    })
    if (old?.num_ack_pending === 0) return
    if (old) await jsm.consumers.delete(stream, consumer)
    const { config } = await jsm.streams.info(stream)
    const limits = { ack_wait: nanos(3_600_000), max_ack_pending: count } // this reader needs no reminder
    const isKept = old && config.retention === 'limits' // else what is acknowledged is not in it any more
    const from = isKept && { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: old.ack_floor.stream_seq + 1 }
    await jsm.consumers.add(stream, { durable_name: consumer, ack_policy: AckPolicy.Explicit, ...limits, ...from })
  }

  /** How many more may come into a batch: of the largest size there can be, so many have room. */
  function moreFor({ nc }: Open, batch: readonly JsMsg[]): number {
    const room = inHandBytes - batch.reduce((sum, { data }) => sum + data.length, 0)
    const pending = batch.at(-1)?.info.pending ?? 0
    if (room <= 0 || pending === 0) return 0
    return Math.min(pending, count - batch.length, Math.max(1, Math.floor(room / (nc.info?.max_payload ?? room))))
  }

  return {
    close,
    async receive(take, stop) {
      const open = await get()
      await prepare(open)
      await take([])
      const reader = await open.jsm.jetstream().consumers.get(stream, consumer)
      while (!stop.aborted) {
        const first = await reader.next({ expires: 1_000 })
        if (open.nc.isClosed()) throw new Error('NATS: the connection has ended')
        if (!first) continue
        const batch = [first]
        for (let more = moreFor(open, batch); more > 0; more = moreFor(open, batch)) {
          const before = batch.length
          for await (const one of await reader.fetch({ max_messages: more, expires: 1_000 })) batch.push(one)
          if (batch.length < before + more) break
        }
        await take(batch.map(toReceived))
        for (const one of batch) one.ack()
      }
    },
  }
}

const toReceived = ({ data, headers }: JsMsg): Received => ({
  body: Buffer.from(data),
  contentType: headers?.get('content-type') ?? '',
  headers: Object.fromEntries((headers?.keys() ?? []).map((name) => [name, headers?.get(name) ?? ''])),
})
