import { setTimeout as delay } from 'node:timers/promises'
import zlib from 'node:zlib'
import { afterEach, describe, expect, jest, test } from '@jest/globals'
import { topicOf } from '@shopstream/events'
import { eventually, testBroker } from '@shopstream/testing'
import {
  encodeBatch,
  encodeDenseBatch,
  lz4Frame,
  type RawRecord,
  rawSnappy,
  xerialSnappy,
} from '../../testing/batches.ts'
import { openForeignProducer } from '../../testing/foreign.ts'
import { silent } from '../../testing/shop.ts'
import {
  type AssignedPartition,
  type Bus,
  type ConsumeOptions,
  type IncomingBatch,
  type IncomingMessage,
  MessageRefused,
  type OutgoingMessage,
  PublisherFenced,
  placeOf,
} from '../bus.ts'
import { maxBytesInFlight } from './consuming.ts'
import { kafkaClients, openKafkaBus } from './open.ts'

/** What every client must do, as `bus.ts` promises it; run with each of them against a real broker. */

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
}, 60_000)

const declared = topicOf('StockLevelChanged')
const topic = declared.name
const patience = { timeoutMs: 30_000, everyMs: 50 }

const message = (partition: number, key: string, headers: OutgoingMessage['headers'] = {}): OutgoingMessage => ({
  topic,
  partition,
  key,
  value: Buffer.from(key),
  headers,
})
const numbered = (partition: number, name: string, count: number) =>
  Array.from({ length: count }, (_, n) => message(partition, `${name}-${n}`))

async function openPlace(client: (typeof kafkaClients)[number], batchLimitBytes?: number) {
  const broker = testBroker()
  const open = async () => {
    const bus = await openKafkaBus({
      ...broker,
      client,
      clientId: 'conformance',
      logger: silent,
      ...(batchLimitBytes && { batchLimitBytes }),
    })
    undo.push(() => bus.close())
    return bus
  }
  const bus = await open()
  await bus.ensureTopics([declared])
  const foreign = openForeignProducer(broker.brokers)
  undo.push(() => foreign.close())
  const wireTopic = broker.topicPrefix + topic
  return {
    bus,
    open,
    /** Writes a batch byte by byte. */
    writeRaw: (partition: number, batch: Buffer) => foreign.write(wireTopic, partition, batch),
    begin: () => foreign.transaction(wireTopic),
    makeAnew: () => foreign.makeAnew(wireTopic, declared.partitions),
    /** A whole transaction of one message in each of these partitions. */
    async transaction(value: string, partitions: number[], end: 'commit' | 'abort') {
      const transaction = await foreign.transaction(wireTopic)
      await transaction.send(partitions.map((partition) => ({ partition, value })))
      await transaction[end]()
    },
  }
}

/**
 * Adds those that are not there yet: one may come again when its group joins anew, and be there twice when a broker took
 * one partition's messages and refused another's.
 */
function addOnce(messages: IncomingMessage[], found: readonly IncomingMessage[]): void {
  const identity = ({ partition, key, value }: IncomingMessage) => `${partition} ${key} ${value?.toString('base64')}`
  const known = new Set(messages.map(identity))
  for (const one of found) {
    if (known.has(identity(one))) continue
    known.add(identity(one))
    messages.push(one)
  }
}

/** Publishes until all is delivered, as the relay does: a topic that was just made refuses for a while. */
async function write(bus: Bus, messages: readonly OutgoingMessage[]): Promise<void> {
  let pending = messages
  await eventually(
    'everything to be delivered',
    async () => {
      const failed = (await bus.publish(pending)).filter(({ error }) => error)
      pending = failed.map(({ message }) => message)
      return pending.length === 0
    },
    patience,
  )
}

/** Consumes into a list. */
function collect(bus: Bus, options: Partial<ConsumeOptions> = {}) {
  const messages: IncomingMessage[] = []
  const consumer = bus.consume({
    group: 'group',
    topics: [topic],
    async handle(batch, partition) {
      addOnce(messages, batch.messages)
      if (!batch.unreadable) partition.done(batch.next)
    },
    ...options,
  })
  undo.push(() => consumer.close())
  return { messages, consumer, keys: () => messages.map(({ key }) => key) }
}

const done = async (bus: Bus) =>
  new Map((await bus.positions('group', [topic])).map((position) => [position.partition, position]))

/** Waits until the group has come to the end of all partitions. */
const caughtUp = (bus: Bus) =>
  eventually(
    'the group to be at the end',
    async () => [...(await done(bus)).values()].every((position) => position.done === position.end),
    patience,
  )

describe.each(kafkaClients)('%s', (client) => {
  const codecs: [string, number, (bytes: Buffer) => Buffer][] = [
    ['nothing', 0, (bytes) => bytes],
    ['gzip', 1, (bytes) => zlib.gzipSync(bytes)],
    ['snappy as Java writes it', 2, xerialSnappy],
    ['snappy as librdkafka writes it', 2, rawSnappy],
    ['lz4', 3, lz4Frame],
    ['zstd', 4, (bytes) => zlib.zstdCompressSync(bytes)],
  ]

  test('every codec is read, in order, and so is what comes before and behind', async () => {
    const place = await openPlace(client)
    await write(place.bus, [message(0, 'before')])
    for (const [name, codec, compress] of codecs)
      await place.writeRaw(0, encodeBatch({ records: [{ key: name, value: Buffer.alloc(5_000) }], codec, compress }))
    await write(place.bus, [message(0, 'behind')])
    const { keys } = collect(place.bus)
    await eventually('all', () => keys().length === codecs.length + 2, patience)
    expect(keys()).toEqual(['before', ...codecs.map(([name]) => name), 'behind'])
    await caughtUp(place.bus)
  }, 60_000)

  test('all that a record can hold comes as it is; of repeated headers the last counts', async () => {
    const place = await openPlace(client)
    const records: RawRecord[] = [
      { key: 'null header', headers: [['x', null]] },
      {
        key: 'repeated',
        headers: [
          ['x', 'first'],
          ['x', 'last'],
        ],
      },
      {
        key: 'binary',
        headers: [
          ['x', Buffer.from([0, 255])],
          [Buffer.from([255]), 'odd name'],
        ],
      },
      {
        key: '__proto__',
        value: 'v',
        headers: [
          ['__proto__', 'polluted'],
          ['', 'nameless'],
        ],
      },
      { key: '', value: '' },
      { key: null, value: null },
      { key: Buffer.from([0, 255]), value: 'a key that is no text' },
      { key: 'k'.repeat(1_000), value: 'a long key' },
    ]
    await place.writeRaw(1, encodeBatch({ records }))
    const { messages } = collect(place.bus)
    await eventually('all', () => messages.length === records.length, patience)
    expect(messages[0]?.headers).toEqual({ x: null })
    expect(String(messages[1]?.headers.x)).toBe('last')
    expect(messages[2]?.headers.x).toEqual(Buffer.from([0, 255]))
    expect(Object.hasOwn(messages[3]?.headers ?? {}, '__proto__')).toBe(true)
    expect(messages.map(({ value }) => value?.toString() ?? null)).toEqual([
      null,
      null,
      null,
      'v',
      '',
      null,
      'a key that is no text',
      'a long key',
    ])
    expect(messages.every(({ timestamp }) => timestamp instanceof Date)).toBe(true)
  }, 60_000)

  test('what is published has its headers, those without a value too', async () => {
    const { bus } = await openPlace(client)
    const sent = { ...message(2, 'k'), headers: { text: 'yes', bytes: Buffer.from([0, 255]), none: null } }
    expect(await bus.publish([sent, { ...sent, key: null, value: null, headers: {} }])).toEqual([
      { message: sent },
      { message: expect.anything() },
    ])
    const { messages } = collect(bus)
    await eventually('both', () => messages.length === 2, patience)
    expect(messages[0]).toMatchObject({
      key: 'k',
      value: Buffer.from('k'),
      headers: {
        text: 'yes',
        bytes: Buffer.from([0, 255]),
        none: client === 'kafkajs' ? '' : null,
      }, // which KafkaJS cannot write
    })
    expect(messages[1]).toMatchObject({ key: null, value: null, headers: {} })
  }, 60_000)

  test('markers and aborted transactions, at the end and in the middle, are passed: the group comes to the end', async () => {
    const place = await openPlace(client)
    await place.transaction('committed', [0], 'commit')
    await place.transaction('aborted', [0, 3], 'abort')
    await write(place.bus, [message(0, 'plain')])
    await place.transaction('aborted', [0], 'abort')
    const { messages } = collect(place.bus)
    await eventually('both', () => messages.length === 2, patience)
    expect(messages.map(({ value }) => value?.toString())).toEqual(['committed', 'plain'])
    await caughtUp(place.bus)
    await place.transaction('aborted', [1, 2], 'abort') // alone: nothing that anybody sees comes with it
    await caughtUp(place.bus)
    const read: string[] = []
    await place.bus.read({
      topics: [topic],
      toEnd: true,
      handle: (found) => void read.push(...found.map(({ value }) => String(value))),
    })
    expect(read.toSorted()).toEqual(['committed', 'plain'])
  }, 60_000)

  test('an open transaction hides what comes behind it in its partition alone; positions tell; its end brings all', async () => {
    const place = await openPlace(client)
    const transaction = await place.begin()
    await transaction.send([{ partition: 0, value: 'undecided' }])
    await write(place.bus, [message(0, 'hidden'), message(1, 'seen')])
    const { keys, messages } = collect(place.bus)
    await eventually('the other partition', () => keys().includes('seen'), patience)
    const position = (await done(place.bus)).get(0)
    expect(position).toMatchObject({ end: 2n, stableEnd: 0n, done: 0n })
    expect((await place.bus.agesOf([position as never])).get(topic)).toBeGreaterThan(0)
    await place.bus.read({
      topics: [topic],
      toEnd: true,
      handle: (found) => expect(found.map(({ key }) => key)).toEqual(['seen']),
    })
    await transaction.commit()
    await eventually('all', () => messages.length === 3, patience)
    expect(messages.filter(({ partition }) => partition === 0).map(({ value }) => String(value))).toEqual([
      'undecided',
      'hidden',
    ])
    await caughtUp(place.bus)
  }, 60_000)

  test('what cannot be read holds up its partition alone, is given again, and is stepped over when somebody says so', async () => {
    const place = await openPlace(client, 100_000)
    const bomb = encodeBatch({
      records: [{ value: Buffer.alloc(1_000_000) }, { value: 'x' }],
      codec: 1,
      compress: (bytes) => zlib.gzipSync(bytes),
    })
    await write(place.bus, [message(0, 'before')])
    await place.writeRaw(0, bomb)
    await write(place.bus, [message(0, 'behind'), message(1, 'elsewhere')])
    let isAllowed = false
    const met: IncomingBatch['unreadable'][] = []
    const { keys } = collect(place.bus, {
      async handle(batch, partition) {
        addOnce(messages, batch.messages)
        if (!batch.unreadable) return partition.done(batch.next)
        partition.done(batch.next)
        met.push(batch.unreadable)
        if (isAllowed) return partition.done(batch.unreadable.lastOffset + 1n)
        partition.pause()
        setTimeout(() => partition.resume(), 100)
      },
    })
    const messages: IncomingMessage[] = []
    const seen = () => messages.map(({ key }) => key)
    expect(keys()).toEqual([])
    await eventually('it to be met again', () => met.length > 2, patience)
    await eventually('the other partition', () => seen().includes('elsewhere'), patience)
    expect(seen().toSorted()).toEqual(['before', 'elsewhere'])
    expect(met[0]).toMatchObject({
      topic,
      partition: 0,
      firstOffset: 1n,
      lastOffset: 2n,
      reason: expect.stringContaining('100000'),
    })
    expect(met[0]?.bytes.length).toBe(bomb.length)
    isAllowed = true
    await eventually('what is behind it', () => seen().includes('behind'), patience)
    await caughtUp(place.bus)

    const told: unknown[] = []
    const read: IncomingMessage[] = []
    await place.bus.read({
      topics: [topic],
      toEnd: true,
      handle: (found) => void read.push(...found),
      unreadable: (found) => void told.push(found.firstOffset),
    })
    const places = read.map(({ partition, offset }) => `${partition}/${offset}`)
    expect(new Set(places).size).toBe(places.length)
    const keysRead = [...new Set(read.map(({ key }) => key))].toSorted() // what was not answered in time is published twice
    expect({ keysRead, told }).toEqual({ keysRead: ['before', 'behind', 'elsewhere'], told: [1n] })
    await expect(place.bus.read({ topics: [topic], toEnd: true, handle: () => {} })).rejects.toThrow(
      /shop\.stock\.v1\/0 cannot be read from 1 to 2/,
    )
  }, 60_000)

  test('messages of a partition arrive in the order in which they were published, batch after batch', async () => {
    const { bus } = await openPlace(client)
    const all = Array.from({ length: 20 }, (_, round) =>
      [0, 1, 2].flatMap((partition) => numbered(partition, `${round}`, 50)),
    )
    for (const round of all) expect((await bus.publish(round)).every(({ error }) => error === undefined)).toBe(true)
    const { messages } = collect(bus)
    await caughtUp(bus)
    for (const partition of [0, 1, 2]) {
      const expected = all.flat().filter((one) => one.partition === partition)
      const found = messages.filter((one) => one.partition === partition).map(({ key }) => key)
      expect([...new Set(found)]).toEqual(expected.map(({ key }) => key)) // one that is there again comes behind itself
    }
  }, 60_000)

  test('a topic that was told to keep its messages for longer goes on so, and its other settings are set', async () => {
    const { bus } = await openPlace(client)
    const kept = (ms: string) => [{ ...declared, settings: { ...declared.settings, 'retention.ms': ms } }]
    expect((await bus.ensureTopics(kept('2592000000'))).longer).toEqual([])
    const longer = [{ topic: expect.stringMatching(/shop\.stock\.v1$/), settings: { 'retention.ms': '2592000000' } }]
    for (const _ of ['once', 'again']) expect(await bus.ensureTopics([declared])).toEqual({ made: [], longer })
    expect((await bus.ensureTopics(kept('-1'))).longer).toEqual([])
    expect((await bus.ensureTopics([declared])).longer[0]?.settings).toEqual({ 'retention.ms': '-1' })
  })

  test('each message has a delivery of its own: a missing topic or a refusal is no other one’s trouble', async () => {
    const { bus } = await openPlace(client)
    await bus.ensureTopics([{ ...declared, settings: { ...declared.settings, 'max.message.bytes': '1500' } }])
    const sent = [
      message(0, 'good'),
      { ...message(1, 'missing'), topic: 'shop.nowhere.v1' },
      { ...message(2, 'too large'), value: Buffer.alloc(5_000, Math.random().toString()) },
      message(3, 'good too'),
    ]
    await eventually(
      'the broker to have heard of its setting',
      async () => (await bus.publish([sent[2] as OutgoingMessage]))[0]?.error,
      patience,
    )
    const deliveries = await bus.publish(sent)
    expect(deliveries.map(({ message: one }) => one)).toEqual(sent)
    expect(deliveries.map(({ error }) => error instanceof MessageRefused)).toEqual([false, false, true, false])
    expect(deliveries.map(({ error }) => error === undefined)).toEqual([true, false, false, true])
  }, 120_000)

  test('a partition that is paused gives nothing, the others go on; resumed, it goes on where it was; sought, from there', async () => {
    const { bus } = await openPlace(client)
    await write(bus, [...numbered(0, 'a', 3), ...numbered(1, 'b', 3)])
    let toPause = true
    let paused: AssignedPartition | undefined
    const messages: IncomingMessage[] = []
    let seekable = 0n
    collect(bus, {
      async handle(batch, partition) {
        addOnce(messages, batch.messages)
        seekable = batch.messages.findLast(({ key }) => key === 'a-1')?.offset ?? seekable
        partition.done(batch.next)
        if (partition.partition !== 0 || !toPause) return
        paused = partition // the last one, should the group have joined anew
        partition.pause()
      },
    })
    const keysOf = (partition: number) => messages.filter((one) => one.partition === partition).map(({ key }) => key)
    const haveCome = () => {
      expect([keysOf(0), keysOf(1)]).toEqual([
        ['a-0', 'a-1', 'a-2'],
        ['b-0', 'b-1', 'b-2'],
      ])
      return true
    }
    await eventually('both', haveCome, patience)
    await write(bus, [message(0, 'later'), message(1, 'later')])
    await eventually('the one that is not paused', () => keysOf(1).includes('later'), patience)
    await write(bus, [message(1, 'later still')])
    await eventually('it to go on', () => keysOf(1).includes('later still'), patience)
    expect(keysOf(0)).toEqual(['a-0', 'a-1', 'a-2'])
    toPause = false
    paused?.resume()
    await eventually('the one that was paused', () => keysOf(0).length === 4, patience)
    messages.length = 0
    paused?.seek(seekable)
    await eventually('what was sought', () => keysOf(0).length >= 3, patience)
    expect(keysOf(0)).toEqual(['a-1', 'a-2', 'later'])
    await caughtUp(bus)
  }, 60_000)

  test('a topic that is made anew under a running group is read from its start', async () => {
    const place = await openPlace(client)
    const { keys } = collect(place.bus)
    await write(place.bus, numbered(0, 'before', 3))
    await eventually('what is there', () => keys().length === 3, patience)
    await caughtUp(place.bus)
    await place.makeAnew()
    await write(place.bus, numbered(0, 'after', 6)) // more than there were, so that the group's place is one of the new topic's
    await eventually('all of the new topic', () => keys().length === 9, patience)
    await caughtUp(place.bus)
  }, 120_000)

  test('a batch of 65,536 tiny records is unpacked once, and holds up no other partition, of its topic or another', async () => {
    const place = await openPlace(client)
    const beside = topicOf('ProductListed')
    const topics = [topic, beside.name]
    await place.bus.ensureTopics([beside])
    // Larger than what is asked for of a partition, as is one of the good ones: brokers send such a batch only in front.
    await place.writeRaw(0, encodeDenseBatch(65_536))
    await place.writeRaw(5, encodeBatch({ records: Array.from({ length: 65_536 }, () => ({ value: 'not an event' })) }))
    const good = [
      ...[1, 2].map((partition) => message(partition, 'good')),
      { ...message(3, 'good'), value: Buffer.alloc(1_200_000, '0123456789abcdef') },
      ...[0, 1, 2, 3, 4, 5].map((partition) => ({ ...message(partition, 'good'), topic: beside.name })),
    ]
    for (const one of good) await write(place.bus, [one])
    const unpack = jest.spyOn(zlib, 'zstdDecompressSync')
    undo.push(async () => unpack.mockRestore())
    const follow = () => {
      unpack.mockClear()
      const missing = new Set(good.map(placeOf))
      const tiny = {
        handled: 0,
        whenAllIsGood: Number.POSITIVE_INFINITY,
        byPartition: new Map([
          [0, 0],
          [5, 0],
        ]),
      }
      const handle = (messages: readonly IncomingMessage[]) => {
        for (const { key, ...one } of messages)
          if (key === 'good') missing.delete(placeOf(one))
          else tiny.byPartition.set(one.partition, (tiny.byPartition.get(one.partition) ?? 0) + 1)
        tiny.handled = [...tiny.byPartition.values()].reduce((sum, count) => sum + count)
        if (missing.size === 0) tiny.whenAllIsGood = Math.min(tiny.whenAllIsGood, tiny.handled)
      }
      const isEnough = () => tiny.handled >= 40_000
      return { handle, isEnough, tiny }
    }
    /** Of 40,000 that were handled, so many of each batch at least; they were 10,000 at the most when all that is good was there. */
    const isFair = ({ tiny }: ReturnType<typeof follow>) => {
      expect(tiny.whenAllIsGood).toBeLessThanOrEqual(10_000)
      expect(Math.min(...tiny.byPartition.values())).toBeGreaterThanOrEqual(10_000)
      expect(unpack).toHaveBeenCalledTimes(1)
    }

    const consumed = follow()
    const { consumer } = collect(place.bus, {
      topics,
      async handle(batch, partition) {
        consumed.handle(batch.messages)
        partition.done(batch.next)
      },
    })
    await eventually('many of them', consumed.isEnough, patience)
    await consumer.close()
    isFair(consumed)

    const read = follow()
    const enough = new AbortController()
    await place.bus.read({
      topics,
      signal: enough.signal,
      handle(messages) {
        read.handle(messages)
        if (read.isEnough()) enough.abort()
      },
    })
    isFair(read)
  }, 120_000)

  test('what was not done comes again, to the next consumer too', async () => {
    const { bus } = await openPlace(client)
    await write(bus, numbered(0, 'a', 5))
    const first: (string | null)[][] = []
    const { consumer } = collect(bus, {
      async handle(batch, partition) {
        first.push(batch.messages.map(({ key }) => key))
        partition.done((batch.messages[0]?.offset ?? 0n) + 1n)
      },
    })
    await eventually('several', () => first.length >= 3, patience)
    await consumer.close()
    expect(first.slice(0, 3)).toEqual([
      ['a-0', 'a-1', 'a-2', 'a-3', 'a-4'],
      ['a-1', 'a-2', 'a-3', 'a-4'],
      ['a-2', 'a-3', 'a-4'],
    ])
    const position = (await done(bus)).get(0)?.done as bigint
    expect(position).toBeGreaterThanOrEqual(2n)
    const { keys } = collect(bus)
    await eventually('the rest', async () => (await done(bus)).get(0)?.done === 5n, patience)
    expect(keys()).toEqual(
      numbered(0, 'a', 5)
        .slice(Number(position))
        .map(({ key }) => key),
    )
  }, 60_000)

  test('a partition that moves to another member is revoked: what is left of its batch is the other’s', async () => {
    const place = await openPlace(client)
    const other = await place.open()
    const revoked = new Set<number>()
    const all = new Set<string | null>()
    const slow = collect(place.bus, {
      async handle(batch, partition) {
        partition.revoked.addEventListener('abort', () => revoked.add(partition.partition))
        for (const one of batch.messages) {
          await delay(20)
          if (partition.revoked.aborted) return
          all.add(one.key)
          partition.done(one.offset + 1n)
        }
        partition.done(batch.next)
      },
    })
    await write(
      place.bus,
      [0, 1, 2, 3, 4, 5].flatMap((partition) => numbered(partition, `p${partition}`, 200)),
    )
    await eventually('the first to work', () => all.size > 20, patience)
    const second = collect(other)
    await eventually('the second to work', () => second.messages.length > 0, patience)
    await eventually('all of it', () => new Set([...all, ...second.keys()]).size === 1_200, { timeoutMs: 60_000 })
    expect(revoked.size).toBeGreaterThan(0)
    await caughtUp(place.bus)
    await Promise.all([slow.consumer.close(), second.consumer.close()])
    expect(await place.bus.members('group')).toBe(0)
  }, 120_000)

  test('members that want other topics are in one group: a topic that one alone knows is read by that one', async () => {
    const place = await openPlace(client)
    const newTopic = topicOf('ProductListed')
    await place.bus.ensureTopics([newTopic])
    const older = collect(place.bus)
    await caughtUp(place.bus)
    await eventually('the older to lead the group', async () => (await place.bus.members('group')) === 1, patience)
    const newer = collect(await place.open(), { topics: [topic, newTopic.name] })
    const all = [0, 1, 2, 3, 4, 5].flatMap((partition) => [
      message(partition, `old-${partition}`),
      { ...message(partition, `new-${partition}`), topic: newTopic.name },
    ])
    await write(place.bus, all)
    await eventually('all', () => older.messages.length + newer.messages.length >= all.length, patience)
    expect(older.messages.every((one) => one.topic === topic)).toBe(true)
    expect(newer.messages.filter((one) => one.topic !== topic)).toHaveLength(6)
    await Promise.all([older.consumer.close(), newer.consumer.close()])
  }, 60_000)

  test('closing lets the handler in hand finish, keeps what is done, and leaves the group at once', async () => {
    const { bus } = await openPlace(client)
    await write(bus, numbered(0, 'a', 10))
    let isFinished = false
    const begun = Promise.withResolvers<void>()
    const { consumer } = collect(bus, {
      async handle(batch, partition) {
        begun.resolve()
        await delay(1_000)
        isFinished = true
        partition.done(batch.next)
      },
    })
    await begun.promise
    expect(await bus.members('group')).toBe(1)
    await consumer.close()
    expect(isFinished).toBe(true)
    expect((await done(bus)).get(0)?.done).toBe(10n)
    expect(await bus.members('group')).toBe(0)
  }, 60_000)

  test('no more is held than the bound while a handler waits', async () => {
    const { bus } = await openPlace(client)
    const value = Buffer.alloc(200_000, '0123456789abcdef')
    for (let n = 0; n < 25; n++)
      await write(
        bus,
        [0, 1, 2, 3, 4, 5].map((partition) => ({ ...message(partition, `${n}`), value })),
      )
    let held = 0
    const release = Promise.withResolvers<void>()
    const { messages } = collect(bus, {
      async handle(batch, partition) {
        const bytes = batch.messages.reduce((sum, one) => sum + (one.value?.length ?? 0), 0)
        held += bytes
        await release.promise
        messages.push(...batch.messages)
        partition.done(batch.next)
      },
    })
    await eventually('a few batches', () => held > 1_000_000, patience)
    await delay(2_000)
    expect(held).toBeLessThanOrEqual(maxBytesInFlight + 1_048_576)
    release.resolve()
    await eventually('all', () => new Set(messages.map(({ partition, key }) => `${partition} ${key}`)).size === 150, {
      timeoutMs: 90_000,
    })
  }, 120_000)

  test('a group is moved back to a time or an offset without a consumer, and what lasts is measured without unpacking', async () => {
    const { bus } = await openPlace(client)
    await write(bus, numbered(0, 'a', 3))
    await delay(1_100)
    const time = new Date()
    await write(bus, numbered(0, 'b', 3))
    const { consumer } = collect(bus)
    await caughtUp(bus)
    await consumer.close()
    await bus.rewind('group', [topic], time)
    expect((await done(bus)).get(0)?.done).toBe(3n)
    await bus.rewind('group', [topic], [{ topic, partition: 0, offset: 1n }])
    const position = (await done(bus)).get(0)
    expect(position?.done).toBe(1n)
    const seconds = (await bus.agesOf([position as never])).get(topic) as number
    expect(seconds).toBeGreaterThan(1)
    expect(seconds).toBeLessThan(60)
  }, 60_000)

  test('an earlier publisher of a name writes nothing behind a later one, where the client can see to it', async () => {
    const place = await openPlace(client)
    const earlier = place.bus.publisher('relay')
    undo.push(() => earlier.close())
    expect(await earlier.publish([message(0, 'one')])).toMatchObject([{ message: { key: 'one' } }])
    const later = (await place.open()).publisher('relay')
    undo.push(() => later.close())
    expect((await later.publish([message(0, 'two')]))[0]?.error).toBeUndefined()
    expect(place.bus.fences).toBe(client === 'platformatic')
    if (!place.bus.fences) return
    await expect(earlier.publish([message(0, 'old'), message(1, 'old')])).rejects.toThrow(PublisherFenced)
    await expect(earlier.publish([message(0, 'old')])).rejects.toThrow(PublisherFenced)
    expect((await later.publish([message(0, 'three')]))[0]?.error).toBeUndefined()
    const { messages } = collect(place.bus)
    await caughtUp(place.bus)
    // In partition 1 the later one has written nothing that an old message could come behind.
    expect(messages.filter(({ partition }) => partition === 0).map(({ key }) => key)).toEqual(['one', 'two', 'three'])
  }, 60_000)

  test('a publisher sends nothing more once it is told to stop, be it in the middle', async () => {
    const { bus } = await openPlace(client)
    await bus.ensureTopics([{ ...declared, settings: { ...declared.settings, 'max.message.bytes': '1500' } }])
    const tooLarge = { ...message(0, 'too large'), value: Buffer.alloc(5_000, Math.random().toString()) }
    const isRefused = async () => (await bus.publish([tooLarge]))[0]?.error instanceof MessageRefused
    await eventually('the broker to have heard of its setting', isRefused, patience)
    // KafkaJS sends again, by partition, what is with one that is refused.
    const until = abortedAtLook(client === 'kafkajs' ? 2 : 1, new Error('the lock is gone'))
    const publisher = bus.publisher('relay', until)
    undo.push(() => publisher.close())
    await expect(publisher.publish([tooLarge, message(1, 'good')])).rejects.toThrow('the lock is gone')
    // The first request has the good one; to send it again is another relay's, which may have sent later ones meanwhile.
    expect((await done(bus)).get(1)?.end).toBe(client === 'kafkajs' ? 1n : 0n)
  }, 60_000)
})

/** A signal that is aborted when it is looked at for the nth time. */
function abortedAtLook(nth: number, reason: Error): AbortSignal {
  const controller = new AbortController()
  let looks = 0
  return Object.defineProperty(controller.signal, 'throwIfAborted', {
    value() {
      looks++
      if (looks === nth) controller.abort(reason)
      if (controller.signal.aborted) throw reason
    },
  })
}
