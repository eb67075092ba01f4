import { jetstreamManager } from '@nats-io/jetstream'
import { connect as connectNats, type NatsConnection } from '@nats-io/transport-node'
import { createClient } from '@redis/client'
import { type ChannelModel, connect } from 'amqplib'
import type { CompanionName } from '../../local/companions.ts'

/** An event as it arrived at a broker. */
export interface Arrived {
  id: string
  key: string
  sequence: number
}

/** What a proof needs of a broker: the table of its bridges, what arrives there, and a way to bring events in. */
export interface BrokerUnderProof {
  /** What runs beside the shop for it. */
  companion: CompanionName
  /** Bridges that send OrderShipped and receive PointsAwarded. */
  table: string
  /** Reads until it is closed, whatever is killed meanwhile; each is acknowledged after `arrived` has returned. */
  collect(url: string, arrived: (event: Arrived) => void): { close(): Promise<void> }
  /** Sends CloudEvents as JSON in; throws when the broker has not confirmed all. */
  bring(url: string, bodies: readonly string[]): Promise<void>
}

const pauseMs = 200
const pause = () => new Promise((resolve) => setTimeout(resolve, pauseMs))

function arrivedOf(text: string): Arrived {
  const { id, subject, sequence } = JSON.parse(text)
  return { id, key: subject, sequence: Number(sequence) }
}

/** A task of Celery's: workers know a repeated one by its id. */
function taskArrived(id: string, body: string): Arrived {
  const [[event]] = JSON.parse(body)
  return { ...arrivedOf(JSON.stringify(event)), id }
}

/** Runs `work` again and again until closed: it ends or throws when its connection does. */
function again(work: (isClosed: () => boolean) => Promise<void>) {
  let isClosed = false
  const running = (async () => {
    while (!isClosed) {
      await work(() => isClosed).catch(() => {})
      await pause()
    }
  })()
  return {
    async close() {
      isClosed = true
      await running
    },
  }
}

async function openAmqp(url: string): Promise<{ model: ChannelModel; ended: Promise<never> }> {
  const model = await connect(`${url}?heartbeat=5`)
  const ended = Promise.withResolvers<never>()
  ended.promise.catch(() => {})
  model.on('error', ended.reject)
  model.on('close', () => ended.reject(new Error('closed')))
  return { model, ended: ended.promise }
}

const rabbitmq: BrokerUnderProof = {
  companion: 'rabbitmq',
  table: `
- name: proof
  send: [OrderShipped]
  to:
    rabbitmq:
      url: RABBITMQ_URL
      queues: [{ name: proof, bind: [order.#], maxLength: 500 }]
- name: proof-in
  receive: [PointsAwarded]
  from: { rabbitmq: { url: RABBITMQ_URL, queue: { name: proof-in } } }
`,
  collect: (url, arrived) =>
    again(async (isClosed) => {
      const { model, ended } = await openAmqp(url)
      try {
        const channel = await model.createChannel()
        channel.on('error', () => {})
        await channel.prefetch(100)
        await channel.consume('proof', (message) => {
          if (!message) return
          const { content, properties } = message
          const task = properties.headers?.id // Celery's, which has no other header of that name
          arrived(task ? taskArrived(task, content.toString()) : arrivedOf(content.toString()))
          channel.ack(message)
        })
        while (!isClosed()) await Promise.race([pause(), ended])
      } finally {
        await model.close().catch(() => {})
      }
    }),
  async bring(url, bodies) {
    const { model, ended } = await openAmqp(url)
    try {
      const channel = await model.createConfirmChannel()
      channel.on('error', () => {})
      for (const body of bodies) channel.sendToQueue('proof-in', Buffer.from(body), { persistent: true })
      const late = new Promise((_, reject) => setTimeout(() => reject(new Error('not confirmed')), 20_000).unref())
      await Promise.race([channel.waitForConfirms(), ended, late])
    } finally {
      await model.close().catch(() => {})
    }
  },
}

/** In Celery's own queue, as Celery declares it. */
const rabbitmqCelery: BrokerUnderProof = {
  ...rabbitmq,
  table: `
- name: proof
  send: [OrderShipped]
  form: celery
  to: { rabbitmq: { url: RABBITMQ_URL, exchange: '', routingKey: proof, queues: [{ name: proof, type: classic }] } }
- name: proof-in
  receive: [PointsAwarded]
  from: { rabbitmq: { url: RABBITMQ_URL, queue: { name: proof-in } } }
`,
}

type Redis = ReturnType<typeof createClient>

/** Throws when the server goes away; it is called again. */
async function withRedis(url: string, work: (client: Redis) => Promise<void>): Promise<void> {
  const client: Redis = createClient({ url, socket: { reconnectStrategy: false } })
  client.on('error', () => {})
  await client.connect()
  try {
    await work(client)
  } finally {
    client.destroy()
  }
}

const group = 'proof'
type Entries = { name: string; messages: { id: string; message: Record<string, string> }[] }[] | null

const redis: BrokerUnderProof = {
  companion: 'redis',
  table: `
- name: proof
  send: [OrderShipped]
  to: { redis: { url: REDIS_URL, stream: 'proof', maxLength: 500, groups: [${group}] } }
- name: proof-in
  receive: [PointsAwarded]
  from: { redis: { url: REDIS_URL, stream: proof-in } }
`,
  collect: (url, arrived) =>
    again((isClosed) =>
      withRedis(url, async (client) => {
        // '0': what was read and not acknowledged, before the last connection ended
        for (let from = '0'; !isClosed(); ) {
          const options = { COUNT: 100, BLOCK: pauseMs }
          const read = (await client.xReadGroup(group, 'reader', { key: 'proof', id: from }, options)) as Entries
          const entries = read?.[0]?.messages ?? []
          if (entries.length === 0) from = '>'
          for (const { message } of entries) arrived(arrivedOf(message.cloudevent ?? ''))
          if (entries.length > 0)
            await client.xAck(
              'proof',
              group,
              entries.map(({ id }) => id),
            )
        }
      }),
    ),
  bring: (url, bodies) =>
    withRedis(url, async (client) => {
      for (const body of bodies) await client.xAdd('proof-in', '*', { cloudevent: body })
    }),
}

const held = 'proof-held'

/** The list of a queue of Celery's. Each task is moved to a list of what the reader holds, as a reader that is killed has to. */
const redisCelery: BrokerUnderProof = {
  ...redis,
  table: `
- name: proof
  send: [OrderShipped]
  form: celery
  to: { redis: { url: REDIS_URL, queue: proof, maxLength: 500 } }
- name: proof-in
  receive: [PointsAwarded]
  from: { redis: { url: REDIS_URL, stream: proof-in } }
`,
  collect: (url, arrived) =>
    again((isClosed) =>
      withRedis(url, async (client) => {
        const take = (text: string) => {
          const { headers, body } = JSON.parse(text)
          arrived(taskArrived(headers.id, Buffer.from(body, 'base64').toString()))
        }
        for (const text of (await client.lRange(held, 0, -1)).reverse()) take(text)
        await client.del(held)
        while (!isClosed()) {
          const text = await client.blMove('proof', held, 'RIGHT', 'LEFT', pauseMs / 1_000)
          if (text === null) continue
          take(text)
          await client.lRem(held, 1, text)
        }
      }),
    ),
}

async function withNats(url: string, work: (nc: NatsConnection) => Promise<void>): Promise<void> {
  const { host, username, password } = new URL(url)
  const nc = await connectNats({ servers: host, user: username, pass: password, reconnect: false, timeout: 10_000 })
  try {
    await work(nc)
  } finally {
    await nc.close()
  }
}

const nats: BrokerUnderProof = {
  companion: 'nats',
  table: `
- name: proof
  send: [OrderShipped]
  to: { nats: { url: NATS_URL, stream: proof, subject: 'proof.{aggregate}', maxMessages: 500 } }
- name: proof-in
  receive: [PointsAwarded]
  from: { nats: { url: NATS_URL, stream: proof-in, subject: proof-in } }
`,
  /** From the first one that is there, each time; what has arrived is purged. */
  collect: (url, arrived) =>
    again((isClosed) =>
      withNats(url, async (nc) => {
        const jsm = await jetstreamManager(nc)
        const reader = await jsm.jetstream().consumers.get('proof')
        while (!isClosed() && !nc.isClosed()) {
          let last = 0
          for await (const message of await reader.fetch({ max_messages: 100, expires: 1_000 })) {
            arrived(arrivedOf(message.string()))
            last = message.seq
          }
          if (last > 0) await jsm.streams.purge('proof', { seq: last + 1 })
        }
      }),
    ),
  bring: (url, bodies) =>
    withNats(url, async (nc) => {
      const stream = (await jetstreamManager(nc)).jetstream()
      for (const body of bodies) await stream.publish('proof-in', body, { timeout: 5_000 })
    }),
}

export const brokersUnderProof = {
  rabbitmq,
  redis,
  nats,
  'celery on redis': redisCelery,
  'celery on rabbitmq': rabbitmqCelery,
} satisfies Record<string, BrokerUnderProof>
export type ProvenBroker = keyof typeof brokersUnderProof
