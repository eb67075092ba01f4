import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { freePort, type LocalBroker, startRabbitmq, temporaryFolder, whyNoRabbitmq } from '@shopstream/local-servers'
import { testLogger } from '@shopstream/testing'
import { type ConfirmChannel, connect } from 'amqplib'
import { inHandBytes, type Received } from '../target.ts'
import { createHand } from './hand.ts'
import { openInlet } from './inlet.ts'

const megabyte = 1_000_000
const most = 100

test('what is too much in hand is let go, in order, and the next connection is given fewer', () => {
  const hand = createHand<number>({ count: most, most, bytesOf: (size) => size })
  for (let n = 0; n < most; n += 1) hand.add(megabyte)
  expect(hand.bytes()).toBe(8 * megabyte)
  hand.add(1) // it has room, but is behind what was let go
  expect(hand.next()).toBe(most)
  expect(hand.batch()).toHaveLength(8)
  hand.done()
  expect([hand.bytes(), hand.next()]).toEqual([0, 8])
})

test('one message alone may be larger, and more are given again once many were small', () => {
  const hand = createHand<number>({ count: 8, most, bytesOf: (size) => size })
  const handle = (...sizes: number[]) => {
    for (const size of sizes) hand.add(size)
    const { length } = hand.batch()
    hand.done()
    return length
  }
  expect(handle(2 * inHandBytes)).toBe(1)
  for (let n = 0; n < 13; n += 1) expect(handle(...Array<number>(8).fill(100))).toBe(8)
  expect(hand.next()).toBe(8) // the large one is among the last hundred
  for (let n = 0; n < 13; n += 1) handle(...Array<number>(8).fill(100))
  expect(hand.next()).toBe(most)
})

test('a large message that is let go counts until the next connection', () => {
  const hand = createHand<number>({ count: 8, most: 8, bytesOf: (size) => size })
  for (let n = 0; n < 7; n += 1) hand.add(1)
  hand.batch()
  hand.done()
  hand.add(1)
  hand.add(2 * inHandBytes) // let go
  hand.batch()
  hand.done() // the eighth, after which only what waits would count
  expect(hand.next()).toBe(1)
})

/** A table in a table, and so on, as AMQP writes it: each has one field, without a name. */
function nestedTables(depth: number): Buffer {
  const size = 6
  const bytes = Buffer.alloc(depth * size)
  for (let n = 0; n < depth; n += 1) {
    bytes.write('F', n * size + 1)
    bytes.writeUInt32BE((depth - n - 1) * size, n * size + 2)
  }
  return bytes
}

/** Publishes as amqplib does, with a header of a table that it would not write. */
function publishTable(channel: ConfirmChannel, queue: string, body: Buffer, table: Buffer) {
  type Buffered = { ch: number; connection: { channels: { buffer: { write(bytes: Buffer): boolean } }[] } }
  const { ch, connection } = channel as unknown as Buffered
  const { buffer } = connection.channels[ch] as Buffered['connection']['channels'][number]
  const write = buffer.write.bind(buffer)
  const text = '~'.repeat(table.length)
  buffer.write = (bytes) => {
    const start = bytes.indexOf(text)
    if (start > 0) {
      table.copy(bytes, start)
      bytes.write('F', start - 5) // before it stand its type and its length
    }
    return write(bytes)
  }
  channel.sendToQueue(queue, body, { headers: { h: text } })
  buffer.write = write
}

const lacks = whyNoRabbitmq()
const ifRabbitmq = lacks ? describe.skip : describe
ifRabbitmq(`an inlet from RabbitMQ${lacks ? ` (skipped: it ${lacks})` : ''}`, () => {
  let dir: string
  let server: LocalBroker
  let connection: Awaited<ReturnType<typeof connect>>
  let channel: ConfirmChannel
  beforeAll(async () => {
    dir = temporaryFolder('rabbitmq-inlet')
    server = await startRabbitmq({ dir, port: await freePort(), password: 'a-secret-word' })
    connection = await connect(server.url)
    channel = await connection.createConfirmChannel()
  }, 120_000)
  afterAll(async () => {
    await connection?.close()
    await server?.stop()
    rmSync(dir, { recursive: true, force: true })
  })

  test('has few bytes in hand, however many and large the messages are, and brings each once and in order', async () => {
    await channel.assertQueue('in', {
      durable: true,
      arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 },
    })
    const sizes = [...Array<number>(70).fill(megabyte), 10 * megabyte, ...Array<number>(300).fill(10)]
    for (const [n, size] of sizes.entries()) channel.sendToQueue('in', Buffer.alloc(size, `${n} `))
    await channel.waitForConfirms()
    const place = {
      bridge: 'test',
      options: { url: 'RABBITMQ_URL', queue: { name: 'in' }, prefetch: 50 },
      url: server.url,
    }
    const stop = new AbortController()
    const numbers: number[] = []
    let largestBatch = 0
    let connections = 0
    const take = async (messages: readonly Received[]) => {
      const bytes = messages.reduce((sum, { body }) => sum + body.length, 0)
      if (messages.length > 1) largestBatch = Math.max(largestBatch, bytes)
      connections += messages.length === 0 ? 1 : 0
      if (connections === 1 && messages.length > 0) await delay(500) // what is given comes in the meantime
      numbers.push(...messages.map(({ body }) => Number.parseInt(body.subarray(0, 8).toString(), 10)))
      if (numbers.length >= sizes.length) stop.abort()
    }
    await openInlet({ ...place, logger: testLogger() }).receive(take, stop.signal)
    expect(numbers).toEqual(sizes.map((_, n) => n))
    expect(connections).toBeGreaterThan(2)
    expect(largestBatch).toBeLessThanOrEqual(inHandBytes)
  }, 120_000)

  const queueOf = (name: string) =>
    channel.assertQueue(name, {
      durable: true,
      arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 },
    })
  const open = (name: string, prefetch = 50) =>
    openInlet({
      bridge: 'test',
      options: { url: 'RABBITMQ_URL', queue: { name }, prefetch },
      url: server.url,
      logger: testLogger(),
    })

  test('what cannot be decoded is unfit, and holds up nothing', async () => {
    await queueOf('undecodable')
    publishTable(channel, 'undecodable', Buffer.from('before'), nestedTables(9_000))
    publishTable(channel, 'undecodable', Buffer.alloc(0), nestedTables(9_000))
    channel.sendToQueue('undecodable', Buffer.from('after'), { headers: { a: { b: [1] } }, contentType: 'text/plain' })
    await channel.waitForConfirms()
    const stop = new AbortController()
    const got: Received[] = []
    const oneByOne = open('undecodable', 1) // the next comes once this is acknowledged
    await oneByOne.receive(async (messages) => {
      got.push(...messages)
      if (got.length >= 3) stop.abort()
    }, stop.signal)
    const unfit = { headers: {}, unfit: 'its headers cannot be decoded' }
    expect(got).toEqual([
      { body: Buffer.from('before'), ...unfit },
      { body: Buffer.alloc(0), ...unfit },
      { body: Buffer.from('after'), contentType: 'text/plain', headers: { a: '{"b":[1]}' } },
    ])
  }, 60_000)

  test('headers count as bytes in hand', async () => {
    await queueOf('headers')
    const count = 400
    for (let n = 0; n < count; n += 1)
      channel.sendToQueue('headers', Buffer.alloc(0), { headers: { n, h: 'x'.repeat(50_000) } })
    await channel.waitForConfirms()
    const stop = new AbortController()
    const numbers = new Set<number>() // what was not acknowledged in time comes again
    let most = 0
    await open('headers', count).receive(async (messages) => {
      if (numbers.size === 0 && messages.length > 0) await delay(500) // what is given comes in the meantime
      most = Math.max(most, messages.length)
      for (const { headers } of messages) numbers.add(Number(headers.n))
      if (numbers.size >= count) stop.abort()
    }, stop.signal)
    expect([...numbers]).toEqual(Array.from({ length: count }, (_, n) => n))
    expect(most).toBeLessThanOrEqual(inHandBytes / 50_000)
  }, 60_000)

  test('what it has given is taken before it throws: another call would bring the same into memory again', async () => {
    await queueOf('taken')
    channel.sendToQueue('taken', Buffer.from('a'))
    await channel.waitForConfirms()
    const told: string[] = []
    const begun = Promise.withResolvers<void>()
    const database = Promise.withResolvers<void>()
    const receiving = open('taken').receive(async (messages) => {
      if (messages.length === 0) return
      begun.resolve()
      await database.promise
    }, new AbortController().signal)
    const threw = receiving.catch((error: Error) => told.push(error.message))
    await begun.promise
    await channel.deleteQueue('taken') // which ends the connection
    await delay(500) // for a wrong one to throw
    told.push('taken')
    database.resolve()
    await threw
    expect(told).toEqual(['taken', 'RabbitMQ: queue taken was deleted'])
  }, 60_000)
})
