import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import { createDatabase, type Database, sql } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { freePort, type LocalBroker, startRabbitmq, temporaryFolder, whyNoRabbitmq } from '@shopstream/local-servers'
import { actOnLetters, listLetters } from '@shopstream/messaging/operations'
import { createWorld, eventually, type World } from '@shopstream/testing'
import { exampleEvent } from '@shopstream/testing/contract'
import { type Channel, connect } from 'amqplib'
import { type CloudEvent, HTTP } from 'cloudevents'
import { buildBridge } from './app.ts'

const lacks = whyNoRabbitmq()
const withRabbitmq = lacks ? test.skip : test
const patience = { timeoutMs: 30_000 }

let dir: string
let rabbitmq: LocalBroker
let world: World
// biome-ignore lint/suspicious/noExplicitAny: what reads parked messages takes any tables
let database: Database<any>
let service: Awaited<ReturnType<typeof buildBridge>>

beforeAll(async () => {
  if (lacks) return console.warn(`bridges to RabbitMQ are not tested: this machine ${lacks}`)
  dir = temporaryFolder('bridge')
  rabbitmq = await startRabbitmq({ dir: join(dir, 'rabbitmq'), port: await freePort(), password: 'a-secret-word' })
  process.env.RABBITMQ_URL = rabbitmq.url
  world = await createWorld('bridge')
  database = createDatabase({
    url: world.settings.DATABASE_URL,
    poolSize: 2,
    applicationName: 'look',
    logger: world.logger,
  })
}, 120_000)

afterEach(() => service?.stop())
afterAll(async () => {
  await rabbitmq?.stop()
  await database?.close()
  await world?.close()
  if (dir) rmSync(dir, { recursive: true, force: true })
})

/** Starts the service with this table. */
async function start(yaml: string): Promise<void> {
  const file = join(dir, 'bridges.yaml')
  writeFileSync(file, yaml)
  service = await buildBridge({ ...world.settings, BRIDGES_FILE: [file] }, world.logger)
  await service.start()
}

/** On a connection of its own: what the broker refuses ends the channel, and with 3.10 at times the connection. */
async function onChannel<T>(work: (channel: Channel) => Promise<T>): Promise<T> {
  const connection = await connect(rabbitmq.url)
  connection.on('error', () => {})
  try {
    const channel = await connection.createChannel()
    channel.on('error', () => {})
    const result = await work(channel)
    await channel.close()
    return result
  } finally {
    await connection.close().catch(() => {})
  }
}

/** Puts messages into a queue. A channel that is closed before the broker has confirmed them loses some, one time in 30. */
async function offer(queue: string, bodies: readonly Buffer[]): Promise<void> {
  const connection = await connect(rabbitmq.url)
  try {
    const channel = await connection.createConfirmChannel()
    for (const body of bodies) channel.sendToQueue(queue, body, { persistent: true })
    await channel.waitForConfirms()
  } finally {
    await connection.close()
  }
}

/** As operators see it. */
async function awayReason(name: string): Promise<string | null | undefined> {
  const row = await database.query.selectFrom('bridge').selectAll().where('name', '=', name).executeTakeFirst()
  return row?.away_reason
}

/** Takes a message off a queue; false while there is none. */
const take = (channel: Channel, queue: string) => channel.get(queue, { noAck: true })

async function takeAll(queue: string, count: number) {
  const found: CloudEvent<{ orderId: string }>[] = []
  await eventually(
    `${count} messages in ${queue}`,
    () =>
      onChannel(async (channel) => {
        for (let message = await take(channel, queue); message; message = await take(channel, queue)) {
          const headers = { 'content-type': message.properties.contentType }
          found.push(HTTP.toEvent({ headers, body: message.content.toString() }) as CloudEvent<{ orderId: string }>)
        }
        return found.length >= count
      }),
    patience,
  )
  return found
}

const shipped = (key: string, sequence: bigint) => exampleEvent('OrderShipped', key, { orderId: key }, sequence)
const sequencesOf = (events: readonly CloudEvent<unknown>[], key: string) =>
  events.filter(({ subject }) => subject === key).map(({ sequence }) => Number(sequence))
const upTo = (last: number) => Array.from({ length: last }, (_, n) => n + 1)

withRabbitmq('events arrive in a quorum queue as CloudEvents, each once, in the order of each key', async () => {
  const keys = [newEventId(), newEventId(), newEventId()]
  const events = upTo(40).flatMap((n) => keys.map((key) => shipped(key, BigInt(n))))
  const [first] = await world.publish(...events)
  await start(`
- name: all
  send: [OrderShipped]
  to: { rabbitmq: { url: RABBITMQ_URL, queues: [{ name: all, bind: [order.OrderShipped] }] } }`)
  const found = await takeAll('all', events.length)
  for (const key of keys) expect(sequencesOf(found, key)).toEqual(upTo(40))
  expect(found.find(({ id }) => id === first?.headers.ce_id)).toMatchObject({
    type: 'OrderShipped',
    source: '/shopstream/test',
    subject: keys[0],
    data: { orderId: keys[0], shippedAt: expect.stringMatching(/^\d{4}-.*Z$/) },
  })
})

withRabbitmq('a full queue makes its bridge wait, and no other; nothing is lost and the order stays', async () => {
  const key = newEventId()
  await start(`
- name: small
  send: [OrderDelivered]
  to: { rabbitmq: { url: RABBITMQ_URL, queues: [{ name: small, bind: [order.OrderDelivered], maxLength: 5 }] } }
- name: other
  send: [OrderDelivered]
  to: { rabbitmq: { url: RABBITMQ_URL, exchange: other.events, queues: [{ name: other }] } }`)
  const many = upTo(30).map((n) => exampleEvent('OrderDelivered', key, { orderId: key }, BigInt(n)))
  await world.publish(...many)
  expect(await takeAll('other', 30)).toHaveLength(30)
  await eventually(
    'the bridge to be seen waiting',
    async () => (await awayReason('small'))?.includes('queue small, or another that takes'),
    patience,
  )
  const found = await takeAll('small', 30)
  const firstOfEach = [...new Set(sequencesOf(found, key))]
  expect(firstOfEach).toEqual(upTo(30))
})

withRabbitmq('what a bridge never passes on is parked with its key, and goes on when it is redriven', async () => {
  const [large, other] = [`ERP-${newEventId()}`, `ERP-${newEventId()}`]
  const listed = (sku: string, description: string, sequence = 1n) =>
    exampleEvent('ProductListed', sku, { sku, description }, sequence)
  const table = (maxBytes: number) => `
- name: products
  send: [ProductListed]
  maxBytes: ${maxBytes}
  attempts: 2
  to: { rabbitmq: { url: RABBITMQ_URL, queues: [{ name: products, bind: [product.#] }] } }`
  await start(table(100_000))
  await world.publish(listed(large, 'x'.repeat(300_000)), listed(large, 'small', 2n), listed(other, 'small'))
  expect((await takeAll('products', 1)).map(({ subject }) => subject)).toEqual([other])
  const letters = await eventually(
    'the large one to be dead',
    async () => {
      const found = await listLetters(database.query, { topic: 'shop.product.v1@products' })
      return found[0]?.state === 'dead' ? found : undefined
    },
    patience,
  )
  expect(letters.map(({ key, state }) => [key, state])).toEqual([
    [large, 'dead'],
    [large, 'behind'],
  ])
  expect(letters[0]?.error).toContain('maxBytes of its bridge is 100000')
  await service.stop()
  await start(table(1_000_000))
  await actOnLetters(database, 'redrive', [letters[0]?.id ?? 0n], { actor: 'test' })
  expect(sequencesOf(await takeAll('products', 2), large)).toEqual([1, 2])
})

withRabbitmq(
  'what comes in is an event once, with the next sequence of its key; what does not fit is parked',
  async () => {
    const [ada, bob] = [newEventId(), newEventId()]
    const points = (id: string, userId: string, data: object = {}) => ({
      specversion: '1.0',
      id,
      type: 'PointsAwarded',
      source: '/loyalty',
      subject: userId,
      data: { userId, points: 10, total: 60, reason: 'ORDER_SHIPPED', awardedAt: '2026-11-30T10:00:00Z', ...data },
    })
    await start(`
- name: loyalty
  receive: [PointsAwarded]
  from: { rabbitmq: { url: RABBITMQ_URL, queue: { name: inbound } } }
- name: points
  send: [PointsAwarded]
  to: { rabbitmq: { url: RABBITMQ_URL, exchange: points, queues: [{ name: points }] } }`)
    await eventually('the queue', () => onChannel((channel) => channel.checkQueue('inbound')), patience)
    const bad = [
      points('', ada),
      points('c', ada, { points: 1.5 }),
      points('d', ada, { more: 1 }),
      { ...points('e', ada), type: 'OrderPlaced' },
    ]
    const all = [points('a', ada), ...bad, points('a', ada), points('b', ada), points('a2', bob)]
    const fitting = all.map((one) => Buffer.from(JSON.stringify(one)))
    await offer('inbound', [...fitting, Buffer.from([0xff, 0]), Buffer.alloc(3_000_000, 'x')])
    const found = await eventually(
      'three events',
      () => {
        const seen = world.events('PointsAwarded')
        return seen.length >= 3 ? seen : undefined
      },
      patience,
    )
    expect(found.filter(({ key }) => key === ada).map(({ sequence }) => sequence)).toEqual([1n, 2n])
    expect(found.filter(({ key }) => key === bob).map(({ data }) => data.points)).toEqual([10])
    const dead = await eventually(
      'what does not fit',
      async () => {
        const letters = await listLetters(database.query, { topic: 'inbound@loyalty' })
        return letters.length === bad.length + 2 ? letters : undefined
      },
      patience,
    )
    expect(dead.map(({ state }) => state)).toEqual(dead.map(() => 'dead'))
    expect(dead.map(({ error }) => error)).toEqual([
      expect.stringContaining('its id is no text'),
      expect.stringContaining('points'),
      expect.stringContaining('has a field that the schema does not have'),
      expect.stringContaining('its type is not one that bridge loyalty brings; it brings PointsAwarded'),
      expect.stringContaining('no JSON'),
      expect.stringContaining('its body has 3000000 bytes; up to 1048576 are read, and kept'),
    ])
    const kept = await sql<{ most: number }>`select max(octet_length(bytes)) as most from parked_message`.execute(
      database.query,
    )
    expect(kept.rows).toEqual([{ most: 1_048_576 }])
    // What came from there does not go back there.
    expect(await onChannel((channel) => take(channel, 'points'))).toBe(false)
  },
)

withRabbitmq(
  'what comes in while its database goes and comes is there once, in the order of its key',
  async () => {
    await start(`
- name: steady
  receive: [PointsAwarded]
  from: { rabbitmq: { url: RABBITMQ_URL, queue: { name: steady }, prefetch: 20 } }`)
    const users = [newEventId(), newEventId()]
    const bodies = upTo(1_000).map((n) => {
      const userId = users[n % 2]
      const data = { userId, points: n, total: n, reason: 'steady', awardedAt: '2026-11-30T10:00:00Z' }
      const event = {
        specversion: '1.0',
        id: String(n),
        type: 'PointsAwarded',
        source: '/steady',
        subject: userId,
        data,
      }
      return Buffer.from(JSON.stringify(event))
    })
    await eventually('the queue', () => onChannel((channel) => channel.checkQueue('steady')), patience)
    // The relay publishes again what it had published when its session ended: an event is there once by its id.
    const ofSource = () => {
      const seen = world.events('PointsAwarded').filter(({ data }) => data.reason === 'steady')
      return [...new Map(seen.toReversed().map((event) => [event.id, event])).values()].reverse()
    }
    const endSessions = sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name in ('bridge', 'bridge-steady') and pid <> pg_backend_pid()`
    await offer('steady', bodies)
    for (const part of [1, 200, 400, 600]) {
      await eventually(`${part} to be there`, () => ofSource().length >= part, patience)
      await endSessions.execute(database.query)
    }
    await eventually('all to be there', () => ofSource().length >= bodies.length, patience)
    for (const user of users) {
      const own = ofSource().filter(({ key }) => key === user)
      expect(own.map(({ sequence }) => Number(sequence))).toEqual(upTo(500))
      expect(own.map(({ data }) => data.points)).toEqual(own.map(({ data }) => data.points).toSorted((a, b) => a - b))
    }
  },
  120_000,
)

withRabbitmq(
  'a broker that is killed and comes back gets everything',
  async () => {
    const keys = [newEventId(), newEventId()]
    await start(`
- name: killed
  send: [OrderCancelled]
  to: { rabbitmq: { url: RABBITMQ_URL, queues: [{ name: killed, bind: [order.OrderCancelled] }] } }
- name: idle
  receive: [PointsAwarded]
  from: { rabbitmq: { url: RABBITMQ_URL, queue: { name: idle } } }`)
    const cancelled = (n: number) => keys.map((key) => exampleEvent('OrderCancelled', key, { orderId: key }, BigInt(n)))
    await world.publish(...upTo(20).flatMap(cancelled))
    await rabbitmq.kill()
    await world.publish(...upTo(40).slice(20).flatMap(cancelled))
    await eventually('an idle bridge to be away', () => awayReason('idle'), patience)
    await rabbitmq.restart()
    const found = await takeAll('killed', 80)
    await eventually('it to be there again', async () => (await awayReason('idle')) === null, patience)
    for (const key of keys) expect([...new Set(sequencesOf(found, key))]).toEqual(upTo(40))
  },
  120_000,
)
