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
})
