/** Events that a bridge takes out of a full topic to a broker, beside a plain client that publishes the same JSON. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createClient } from '@redis/client'
import { newEventId } from '@shopstream/events'
import { type OutgoingMessage, outgoing, readMessage } from '@shopstream/messaging/operations'
import { eventually, temporaryFolder } from '@shopstream/testing'
import { connect } from 'amqplib'
import { companions } from '../local/companions.ts'
import { type Shop, startShop } from '../local/shop.ts'
import { findPlace, type Reach, reach } from '../operations/shop-access.ts'
import { startArm } from './arm.ts'
import { startInstance } from './arm-ours.ts'
import type { Say } from './measure.ts'
import { compared, inTurns, type Result } from './results.ts'
import { loadForms } from './services.ts'

/** Of a round, for each of its seconds. */
const eventsPerSecond = 4_000
const publishedAtOnce = 500
const patience = { timeoutMs: 300_000, everyMs: 20 }

/** A broker to measure with; `name` is a queue's or a stream's that was not there before. */
interface Measured {
  /** The part of a bridge's row. */
  to(name: string): string
  open(url: string): Promise<Plain>
}

/** The plain client. */
interface Plain {
  count(name: string): Promise<number>
  /** Publishes them, confirmed, in batches. */
  publish(name: string, bodies: readonly Buffer[]): Promise<void>
  forget(name: string): Promise<unknown>
  close(): Promise<unknown>
}

const brokers = {
  rabbitmq: {
    to: (name) => `{ rabbitmq: { url: RABBITMQ_URL, exchange: ${name}, queues: [{ name: ${name} }] } }`,
    async open(url) {
      const connection = await connect(url)
      const channel = await connection.createConfirmChannel()
      const properties = { persistent: true, contentType: 'application/cloudevents+json' }
      const declare = (name: string) =>
        channel.assertQueue(name, { durable: true, arguments: { 'x-queue-type': 'quorum' } })
      return {
        count: async (name) => (await declare(name)).messageCount,
        async publish(name, bodies) {
          await declare(name)
          for (const batch of inBatches(bodies)) {
            for (const body of batch) channel.sendToQueue(name, body, properties)
            await channel.waitForConfirms()
          }
        },
        forget: (name) => channel.deleteQueue(name),
        close: () => connection.close(),
      }
    },
  },
  redis: {
    to: (name) => `{ redis: { url: REDIS_URL, stream: ${name}, maxLength: 10000000 } }`,
    async open(url) {
      const client = await createClient({ url }).connect()
      return {
        count: (name) => client.xLen(name),
        async publish(name, bodies) {
          for (const batch of inBatches(bodies))
            await Promise.all(batch.map((body) => client.xAdd(name, '*', { cloudevent: body }))) // one pipeline
        },
        forget: (name) => client.del(name),
        close: () => client.close(),
      }
    },
  },
} satisfies Record<string, Measured>

type Broker = keyof typeof brokers

const inBatches = <T>(all: readonly T[]) =>
  Array.from({ length: Math.ceil(all.length / publishedAtOnce) }, (_, n) =>
    all.slice(n * publishedAtOnce, (n + 1) * publishedAtOnce),
  )

interface Parts {
  shop: Shop
  held: Reach
  messages: readonly OutgoingMessage[]
}

export async function bridges(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const results: Result[] = []
  for (const broker of Object.keys(brokers) as Broker[]) {
    const lacks = await companions[broker].whyNot(process.env)
    if (lacks) say(`${companions[broker].title} is left out: this machine ${lacks}`)
    else results.push(await measure(broker, say, seconds))
  }
  return results
}

async function measure(broker: Broker, say: Say, seconds: number): Promise<Result> {
  const parts = await startParts(broker, eventsPerSecond * seconds)
  const plain = await brokers[broker].open(Object.values(parts.shop.companionUrls)[0] as string)
  try {
    const bodies = await bodiesOf(parts)
    say(`${broker}: ${bodies.length} events of ${Math.round((bodies[0]?.length ?? 0) / 10) * 10} bytes of JSON`)
    const turns = await inTurns(say, {
      ours: () => bridged(parts, broker, plain),
      reference: () => published(plain, bodies),
    })
    const reference = { name: `a plain client, ${publishedAtOnce} at once`, figures: turns.reference }
    return compared({ name: `bridge to ${broker}`, unit: 'events/s', goal: 0.5, ours: turns.ours, reference })
  } finally {
    await plain.close()
    await parts.stop()
  }
}

/** Kafka, Postgres and the broker, and a topic with so many orders, a key each. */
const startParts = (broker: Broker, events: number) =>
  startArm(async (undo) => {
    const messages = Array.from({ length: events }, placed) // first: nothing is answered for seconds meanwhile
    const home = temporaryFolder('bench-bridges')
    undo.push(async () => rmSync(home, { recursive: true, force: true }))
    const shop = await startShop({
      home,
      only: ['user', 'bridge'],
      with: [broker],
      env: { ...process.env, BRIDGES_FILE: emptyTable(home) },
    })
    undo.push(shop.stop)
    await eventually('the bridge to be ready', async () => (await fetch(`${shop.serviceUrls.bridge}/readyz`)).ok)
    await Promise.all(Object.values(shop.services).map((service) => service.stop(5_000)))
    const held = await reach(findPlace({ SHOPSTREAM_HOME: home }))
    undo.push(held.close)
    for (const batch of inBatches(messages)) {
      const failed = (await held.bus.publish(batch)).find(({ error }) => error)
      if (failed) throw failed.error
    }
    return { shop, held, messages }
  })

function emptyTable(home: string): string {
  const file = join(home, 'none.yaml')
  writeFileSync(file, '[]')
  return file
}

function placed(_: unknown, n: number): OutgoingMessage {
  const [orderId, now] = [newEventId(), new Date()]
  const price = { amount: 1_000n, currency: 'EUR' }
  const lines = [{ sku: `sku-${n % 100}`, quantity: 1, unitPrice: price }]
  const data = { orderId, userId: newEventId(), lines, total: price, placedAt: now, reservationDeadline: now }
  return outgoing('order', { type: 'OrderPlaced', key: orderId, sequence: 1n, data })
}

/** The same JSON that the bridge makes. */
async function bodiesOf({ messages }: Parts): Promise<Buffer[]> {
  const { toSendable } = await loadForms()
  return messages.map((one) => {
    const message = { ...one, offset: 0n }
    return toSendable({ event: readMessage(message), message }, { name: 'bench' }).body
  })
}

let rounds = 0
const nextName = () => `round-${++rounds}`

/**
 * By a bridge of a name of its own, which begins at the start of the topic: from a quarter of the events until the last. The first
 * second of a process is compiling, and a bridge runs for months.
 */
async function bridged({ shop, messages }: Parts, broker: Broker, plain: Plain): Promise<number> {
  const name = nextName()
  const file = join(shop.home, `${name}.yaml`)
  writeFileSync(file, `- { name: ${name}, send: [OrderPlaced], to: ${brokers[broker].to(name)} }\n`)
  const atLeast = async (least: number) => {
    const arrived = await plain.count(name)
    return arrived >= least ? arrived : undefined
  }
  const bridge = await startInstance(shop, 'bridge', { BRIDGES_FILE: file })
  try {
    const first = await eventually('a quarter to arrive', () => atLeast(messages.length / 4), patience)
    const begun = performance.now()
    for (const deadline = begun + patience.timeoutMs; (await plain.count(name)) < messages.length; await delay(20))
      if (performance.now() > deadline) throw new Error(`${await plain.count(name)} of ${messages.length} have arrived`)
    const perSecond = (messages.length - first) / ((performance.now() - begun) / 1_000)
    await delay(200)
    const arrived = await plain.count(name)
    if (arrived !== messages.length) throw new Error(`${arrived} arrived of ${messages.length}`)
    return perSecond
  } finally {
    await bridge.stop()
    await plain.forget(name)
  }
}

async function published(plain: Plain, bodies: readonly Buffer[]): Promise<number> {
  const name = nextName()
  const begun = performance.now()
  await plain.publish(name, bodies)
  const perSecond = bodies.length / ((performance.now() - begun) / 1_000)
  await plain.forget(name)
  return perSecond
}
