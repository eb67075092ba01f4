import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from '@jest/globals'
import { openSession, sql } from '@shopstream/database'
import { encode, type LockEntry, partitionOf, registry, topicOf } from '@shopstream/events'
import { createCodec } from '@shopstream/events/codec'
import { createMetrics } from '@shopstream/observability'
import { createSteppedClock, eventually } from '@shopstream/testing'
import { MessageRefused } from './broker/bus.ts'
import type { Consumption } from './event/consumption.ts'
import { outgoing, publishable } from './outbox/outbox.ts'
import { createOutboxFloor, firstOfOutbox } from './outbox/outbox-floor.ts'
import { collect, openTestShop, sequencesByKey, type TestShop, upTo } from './testing/shop.ts'
import { produces, stockEvent, writeEffects } from './testing/stock.ts'

const topic = topicOf('StockLevelChanged')
let shop: TestShop
afterEach(() => shop.close())

const rawMessage = (
  key: string,
  value: Buffer,
  headers: Record<string, string> = { ce_type: 'StockLevelChanged' },
) => ({
  topic: topic.name,
  partition: partitionOf(key, topic.partitions),
  key,
  value,
  headers,
})

describe('outbox, relay, inbox', () => {
  test('what is rolled back is not published; what is committed by 16 writers is, once and in order per key', async () => {
    shop = await openTestShop()
    await shop.start()
    await expect(
      shop.database.transaction(async (tx) => {
        await produces.emit(tx, [stockEvent('rolled back', 1n)])
        throw new Error('changed my mind')
      }),
    ).rejects.toThrow('changed my mind')
    const writer = async (key: string) => {
      for (let sequence = 1n; sequence <= 40n; sequence++) await shop.emit(stockEvent(key, sequence))
    }
    const keys = Array.from({ length: 16 }, (_, i) => `sku-${i}`)
    await Promise.all(keys.map(writer))
    await eventually('all effects', async () => (await shop.effects()).length >= 16 * 40)
    expect(sequencesByKey(await shop.effects())).toEqual(Object.fromEntries(keys.map((key) => [key, upTo(40)])))
    await eventually('an empty outbox', async () => (await shop.outbox()).length === 0)
  })

  test('the same messages delivered three times take effect once', async () => {
    shop = await openTestShop()
    const published = collect(shop.bus, topic.name)
    await shop.start()
    await shop.emit(...upTo(30).map((n) => stockEvent(`sku-${n % 3}`, BigInt(Math.ceil(n / 3)))))
    await eventually('the messages', () => published.messages.length === 30)
    const copies = [...published.messages]
    await eventually('their effects', async () => (await shop.effects()).length === 30) // so that no chunk has both
    await shop.bus.publish(copies)
    await shop.bus.publish(copies)
    await shop.emit(stockEvent('last', 1n))
    await eventually('all deliveries', () => published.messages.length === 91)
    await eventually('the group to have handled everything', async () => {
      const positions = await shop.bus.positions('shop', [topic.name])
      return (
        positions.reduce((sum, { end }) => sum + end, 0n) === 91n && positions.every(({ end, done }) => end === done)
      )
    })
    await published.close()
    expect(await shop.effects()).toHaveLength(31)
  })

  test('a second instance takes the relay over when the first stops', async () => {
    shop = await openTestShop()
    const first = await shop.start([])
    await shop.emit(stockEvent('a', 1n))
    await eventually('the first to publish', async () => (await shop.outbox()).length === 0)
    await shop.start()
    await eventually('the second to have asked for the lock in vain', async () => {
      const { rows } = await sql`
        select 1 from pg_stat_activity
        where datname = current_database() and state = 'idle' and query like 'select pg_try_advisory_lock%'`.execute(
        shop.database.query,
      )
      return rows.length > 0
    })
    await first.stop()
    await shop.emit(stockEvent('a', 2n))
    await eventually('the second to publish', async () => (await shop.effects()).length === 2)
  })

  test('an instance that does not lead wakes the one that does', async () => {
    shop = await openTestShop()
    await shop.start()
    await shop.start([])
    const listening = await openSession(shop.url, 'listening', {})
    let heard = 0
    await listening.listen('outbox', () => heard++)
    await eventually('somebody to be told of an event', async () => {
      await shop.emit(stockEvent('sku', 1n))
      return heard > 0
    })
    await listening.close()
  })

  test('an event that the broker refuses for good is set aside with its key; the others go on', async () => {
    shop = await openTestShop()
    await shop.bus.ensureTopics([{ ...topic, settings: { ...topic.settings, 'max.message.bytes': '1500' } }])
    const nobodys = { topic: topic.name, partition: 0, key: 'big', headers: { ce_type: Buffer.from('Nobodys') } }
    await eventually('the broker to have heard of its setting', () =>
      shop.bus
        .publish([{ ...nobodys, value: Buffer.alloc(5_000) }])
        .then((deliveries) => deliveries.every(({ error }) => error instanceof MessageRefused)),
    )
    const metrics = createMetrics('shop')
    await shop.start(undefined, metrics)
    await shop.emit(stockEvent('good', 1n))
    await shop.database.transaction(async (tx) => {
      await sql`insert into outbox (topic, partition, key, value, headers) values
        (${topic.name}, ${partitionOf('big', topic.partitions)}, 'big', ${Buffer.alloc(5_000)}, '{}')`.execute(tx)
    })
    await shop.emit(stockEvent('big', 2n), stockEvent('good', 2n), stockEvent('other', 1n))
    await eventually('the others', async () => (await shop.effects()).length === 3)
    await eventually('only the held back rows', async () => (await shop.outbox()).length === 2)
    expect(sequencesByKey(await shop.effects())).toEqual({ good: [1, 2], other: [1] })
    expect(await shop.outbox()).toMatchObject([{ refused: expect.stringContaining('larger') }, { refused: null }])
    const measured = await metrics.metrics()
    expect(measured).toContain('shopstream_outbox_refused{service="shop"} 1\n')
    expect(measured).toContain('shopstream_outbox_oldest_seconds{service="shop"} 0\n') // it is no lateness of Kafka's
  })

  test('while somebody holds a snapshot, nobody walks over what has been published', async () => {
    shop = await openTestShop()
    await shop.start()
    const dump = await openSession(shop.url, 'dump', { idle_in_transaction_session_timeout: 0 })
    await dump.query('begin isolation level repeatable read')
    await dump.query('select from outbox')
    const others = Array.from({ length: 500 }, (_, n) => stockEvent(`sku-${n}`, 1n))
    for (let round = 0; round < 20; round++) await shop.emit(...others)
    await eventually('an empty outbox', async () => (await shop.outbox()).length === 0)
    const share = async () => {
      const { rows } = await sql<{ 'QUERY PLAN': [{ Plan: { 'Shared Hit Blocks': number } }] }>`
        explain (analyze, buffers, format json)
        ${sql.raw(firstOfOutbox({ columns: 'id', where: publishable, limit: 1 }))}`.execute(shop.database.query)
      const size = await sql<{ pages: number }>`select (pg_relation_size('outbox') / 8192)::integer as pages`.execute(
        shop.database.query,
      )
      return (rows[0]?.['QUERY PLAN'][0].Plan['Shared Hit Blocks'] ?? Number.NaN) / (size.rows[0]?.pages ?? Number.NaN)
    }
    // The floor stands 2,000 rows and a batch behind at the most, of 10,000.
    await eventually('a look at a part of the pages', async () => (await share()) < 0.5)
    await dump.close()
  })

  test('thousands that wait are each read once, not again and again by the looks before theirs', async () => {
    shop = await openTestShop()
    const [topic, waiting] = [topicOf('ProductListed'), 20_000] // of which nobody is to read
    await sql`insert into outbox (topic, partition, key, value, headers)
      select ${topic.name}, n % ${topic.partitions}::integer, 'sku-' || n, '', '{}' from generate_series(1, ${waiting}::integer) as n`.execute(
      shop.database.query,
    )
    await shop.start()
    const { read } = await readRows(shop, ({ deleted }) => deleted >= waiting)
    expect(read).toBeLessThan(10 * waiting) // 8: to publish and delete them, and to move the floor; 18 where looks sort them all
  })

  test('the floor of the outbox passes nobody who commits late, and leaves behind what waits', async () => {
    shop = await openTestShop()
    const session = await openSession(shop.url, 'relay', {})
    const early = createOutboxFloor(session)
    await early.passed(0) // before the first id is given out
    await early.passed(0)
    const look = async () =>
      (await session.query<{ id: bigint }>(firstOfOutbox({ columns: 'id', limit: 100 }))).map(({ id }) => id)
    await shop.emit(stockEvent('waiting', 1n), stockEvent('published', 1n))
    const isWritten = Promise.withResolvers<void>()
    const mayCommit = Promise.withResolvers<void>()
    const late = shop.database.transaction(async (tx) => {
      await produces.emit(tx, [stockEvent('late', 1n)])
      isWritten.resolve()
      await mayCommit.promise
    })
    await isWritten.promise
    await shop.emit(stockEvent('published', 2n), stockEvent('waiting', 2n))
    await session.query(`delete from outbox where key = 'published'`)
    const before = await look()
    expect(before).toHaveLength(2)
    const floor = createOutboxFloor(session)
    const move = async () => {
      await floor.passed(0)
      return (await session.query<{ id: bigint }>('select id from outbox_floor'))[0]?.id ?? 0n
    }
    expect([await move(), await move()]).toEqual([0n, 0n]) // it is noted where it could be, and the late one is waited for
    mayCommit.resolve()
    await late
    await eventually('the floor to move', async () => (await move()) > 0n)
    expect(await look()).toEqual([before[0], 3n, before[1]])
    await session.close()
    await shop.start()
    await eventually('all effects', async () => (await shop.effects()).length === 3)
    expect(sequencesByKey(await shop.effects())).toEqual({ late: [1], waiting: [1, 2] })
  })

  test('behind thousands that wait for a missing topic nobody walks over them again and again', async () => {
    shop = await openTestShop()
    await shop.start()
    const missing = topicOf('ProductListed')
    await shop.deleteTopic(missing.name)
    const waiting = 20_000
    await sql`insert into outbox (topic, partition, key, value, headers)
      select ${missing.name}, n % ${missing.partitions}::integer, 'sku-' || n, '', '{}' from generate_series(1, ${waiting}::integer) as n`.execute(
      shop.database.query,
    )
    let emitted = 0
    const readFor = async (events: number) => {
      const before = await readRows(shop)
      for (let n = 0; n < events; n++) {
        emitted += 1
        await shop.emit(stockEvent('beside', BigInt(emitted)))
        await eventually('its effect', async () => (await shop.effects()).length === emitted)
      }
      const after = await readRows(shop, ({ deleted }) => deleted >= before.deleted + events)
      return after.read - before.read
    }
    // Each look walked over all of them: two and more of an event's.
    await eventually('events that cost less than one walk each', async () => (await readFor(20)) < 20 * waiting, {
      timeoutMs: 60_000,
    })
    await shop.deploy()
    await eventually('all that waited', async () => (await shop.outbox()).length === 0, { timeoutMs: 60_000 })
  }, 180_000)

  test('a floor that a restore has left above the ids to come hides nothing', async () => {
    shop = await openTestShop()
    await sql`update outbox_floor set id = 500000`.execute(shop.database.query)
    await shop.start()
    await shop.emit(stockEvent('a', 1n))
    await eventually('its effect', async () => (await shop.effects()).length === 1)
  })

  test('a consumer outlives the loss of all its database connections', async () => {
    const cut = () =>
      sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`
        .execute(shop.database.query)
        .catch(() => undefined)
    const toCut = [1n, 5n, 5n, 5n, 10n, 10n] // what has failed once has another attempt before it would be parked
    const trouble = async ({ sequence }: { sequence: bigint }) => {
      if (!toCut.includes(sequence)) return
      toCut.splice(toCut.indexOf(sequence), 1)
      await cut()
    }
    shop = await openTestShop({ trouble })
    const metrics = createMetrics('shop')
    await shop.start(undefined, metrics)
    for (const sequence of upTo(20)) {
      await eventually('an emitted event', () => shop.emit(stockEvent('a', BigInt(sequence))).then(() => true))
      await eventually('its effect, alone', async () => (await shop.effects()).length >= sequence)
    }
    expect(sequencesByKey(await shop.effects())).toEqual({ a: upTo(20) })
    // Nothing was parked, not even for a while: it was no message's fault.
    expect(await metrics.metrics()).not.toMatch(/outcome="parked"\S* [1-9]/)
    expect(await metrics.metrics()).toMatch(/outcome="handled"\S* 20/)
  })
})

describe('failing messages', () => {
  test.each([
    ['an Error', new Error('no')],
    ['a TypeError', new TypeError('no')],
    ['a RangeError', new RangeError('no')],
    ['undefined', undefined],
  ])(
    'a handler that throws %s parks its message and what follows of its key, while others go on',
    async (_, thrown) => {
      let isBroken = true
      shop = await openTestShop({
        policy: { attempts: 1_000 },
        trouble: ({ key, sequence }) => {
          if (isBroken && key === 'bad' && sequence === 2n) throw thrown
        },
      })
      await shop.start()
      await shop.emit(...upTo(4).flatMap((n) => [stockEvent('bad', BigInt(n)), stockEvent('good', BigInt(n))]))
      await eventually('the others', async () => (await shop.effects()).length === 5)
      await eventually('the parked', async () => (await shop.parked()).length === 3)
      expect(sequencesByKey(await shop.effects())).toEqual({ bad: [1], good: upTo(4) })
      isBroken = false
      await eventually('the retried', async () => (await shop.effects()).length === 8)
      expect(sequencesByKey(await shop.effects())).toEqual({ bad: upTo(4), good: upTo(4) })
      expect(await shop.parked()).toEqual([])
    },
  )

  test('chunks of several partitions take effect together; what they fail with is parked alone, and the others take effect', async () => {
    const together: number[] = []
    const inserted = writeEffects(
      ({ key }) => {
        if (key === 'bad') throw new Error('no')
      },
      { backoffMs: 3_600_000, maxBackoffMs: 3_600_000 },
    )
    const counting: Consumption = {
      ...inserted,
      handle(tx, messages) {
        together.push(new Set(messages.map(({ partition }) => partition)).size)
        return inserted.handle(tx, messages)
      },
    }
    shop = await openTestShop()
    const keys = ['bad', ...upTo(40).map((n) => `good-${n}`)]
    await shop.bus.publish(keys.map((key) => outgoing('shop', stockEvent(key, 1n)))) // before anybody reads: one answer has all
    await shop.start([counting])
    await eventually('the good ones', async () => (await shop.effects()).length === 40)
    await eventually('the bad one', async () => (await shop.parked()).length === 1)
    expect(await shop.parked()).toMatchObject([{ key: 'bad', attempts: 1 }])
    expect(sequencesByKey(await shop.effects())).toEqual(
      Object.fromEntries(keys.filter((key) => key !== 'bad').map((key) => [key, [1]])),
    )
    expect(Math.max(...together)).toBeGreaterThan(1)
  })

  test('a message that fails for good is dead, goes to the dead-letter topic, and goes on blocking its key', async () => {
    shop = await openTestShop({
      policy: { attempts: 3 },
      trouble: ({ sequence }) => {
        if (sequence === 1n) throw new Error('never')
      },
    })
    const original = collect(shop.bus, topic.name)
    const dead = collect(shop.bus, 'shop.shop.dlq')
    await shop.start()
    await shop.emit(stockEvent('bad', 1n), stockEvent('bad', 2n))
    await eventually('the dead letter', () => dead.messages.length === 1)
    await eventually('both originals', () => original.messages.length === 2)
    expect(dead.messages[0]?.value).toEqual(original.messages[0]?.value)
    expect(dead.messages[0]?.headers.dlq_error?.toString()).toBe('Error: never')
    await shop.emit(stockEvent('good', 2n))
    await eventually('another key', async () => (await shop.effects()).length === 1)
    expect(await shop.parked()).toMatchObject([
      { key: 'bad', state: 'dead', attempts: 3 },
      { key: 'bad', state: 'waiting', attempts: 0 },
    ])
    await Promise.all([original.close(), dead.close()])
  })

  test('a dead message blocks nothing where the policy says pass', async () => {
    shop = await openTestShop({
      policy: { attempts: 1, whenDead: 'pass' },
      trouble: ({ sequence }) => {
        if (sequence === 1n) throw new Error('never')
      },
    })
    await shop.start()
    await shop.emit(stockEvent('bad', 1n), stockEvent('bad', 2n))
    await eventually('the one after', async () => (await shop.effects()).length === 1)
    expect(await shop.parked()).toMatchObject([{ state: 'dead', attempts: 1 }])
  })

  test('what cannot be read is dead at once with its bytes, and the partition moves on', async () => {
    shop = await openTestShop()
    const garbage = Buffer.from([0, 0, 1, 134, 161, 255, 255, 255])
    const event = (id: number) => ({
      ce_type: 'StockLevelChanged',
      ce_id: `0198c0de-0000-4000-8000-00000000000${id}`,
      ce_sequence: '1',
      ce_time: new Date().toISOString(),
    })
    const hostile = [
      rawMessage('x1', garbage),
      rawMessage('x2', garbage, {}),
      rawMessage('x3', garbage, event(3)),
      rawMessage('x4', Buffer.alloc(0), event(4)),
      { ...rawMessage('x5', garbage), value: null },
      rawMessage('with a \0', garbage, event(6)),
      rawMessage('k'.repeat(5_000), garbage, event(7)),
    ]
    await shop.bus.publish(hostile)
    await shop.start()
    // By key: what a producer has sent again is there twice.
    const dead = async () => [...new Map((await shop.parked()).map((row) => [row.key, row])).values()]
    await eventually('the dead', async () => (await dead()).length === hostile.length)
    await shop.emit(...upTo(12).map((n) => stockEvent(`good-${n}`, 1n)))
    await eventually('the good ones', async () => (await shop.effects()).length === 12)
    const parked = await dead()
    expect(parked.every(({ state }) => state === 'dead')).toBe(true)
    expect(parked.filter(({ bytes }) => bytes?.equals(garbage))).toHaveLength(5)
  })

  test('bytes that lie are dead with what they were, and good ones between them in the same partition take effect', async () => {
    shop = await openTestShop()
    const bytes = encode('StockLevelChanged', stockEvent('sku', 1n).data)
    const changed = (change: (copy: Buffer) => void) => {
      const copy = Buffer.from(bytes)
      change(copy)
      return copy
    }
    const hostile: [reason: string, value: Buffer][] = [
      ['cut off', bytes.subarray(0, -1)],
      ['too many', Buffer.concat([bytes, Buffer.from([0])])],
      ['not UTF-8', changed((copy) => copy.fill(0xff, 6, 9))],
      ['announced', changed((copy) => copy.writeUInt8(0x7e, 5))],
      ['negative', changed((copy) => copy.writeUInt8(0x01, 5))],
    ]
    const inPartition = (key: string, value: Buffer) => ({
      ...rawMessage(key, value, outgoing('shop', stockEvent(key, 1n)).headers as Record<string, string>),
      partition: 0,
    })
    const good = (n: number) => inPartition(`good-${n}`, encode('StockLevelChanged', stockEvent(`good-${n}`, 1n).data))
    await shop.bus.publish(hostile.flatMap(([reason, value], n) => [inPartition(reason, value), good(n)]))
    await shop.start()
    await eventually('the good ones', async () => (await shop.effects()).length === hostile.length)
    const parked = new Map((await shop.parked()).map((row) => [row.key, row]))
    for (const [reason, value] of hostile) {
      expect(parked.get(reason)).toMatchObject({ state: 'dead', error: expect.stringContaining(reason) })
      expect(parked.get(reason)?.bytes).toEqual(value)
    }
    expect(parked.size).toBe(hostile.length)
  })

  test('an event older than the inbox remembers is never handled', async () => {
    shop = await openTestShop()
    const published = collect(shop.bus, topic.name)
    await shop.start()
    await shop.emit(stockEvent('a', 1n))
    await eventually('its message', () => published.messages.length === 1)
    const [message] = published.messages
    const old = { ...message, headers: { ...message?.headers, ce_id: '01890000-0000-7000-8000-000000000001' } }
    await shop.bus.publish([old as NonNullable<typeof message>])
    await eventually('the parked', async () => (await shop.parked()).length === 1)
    expect(await shop.parked()).toMatchObject([{ state: 'dead', error: expect.stringContaining('older than') }])
    expect(await shop.effects()).toHaveLength(1)
    await published.close()
  })
})

describe('clocks that are wrong', () => {
  const day = 86_400_000
  const idOf = (time: number) =>
    `${time
      .toString(16)
      .padStart(12, '0')
      .replace(/^(.{8})/, '$1-')}-7000-8000-000000000001`
  const madeAt = (key: string, time: number) => {
    const message = outgoing('shop', stockEvent(key, 1n))
    return { ...message, headers: { ...message.headers, ce_id: idOf(time) } }
  }

  test('an event of a time to come takes effect, and does so once', async () => {
    shop = await openTestShop()
    await shop.start()
    const now = Date.now()
    const ahead = [2 * day, 40 * day, 100 * 365 * day].map((ms) => madeAt(`ahead ${ms}`, now + ms))
    await shop.bus.publish([...ahead, ...ahead])
    await eventually('their effects', async () => (await shop.effects()).length === ahead.length)
    await sql`select inbox_add_week(week::date) from generate_series(
      date_trunc('week', now()), now() + interval '50 days', '1 week') as week`.execute(shop.database.query)
    await shop.bus.publish([...ahead, ...['x', 'y', 'z'].map((key) => madeAt(key, now + key.charCodeAt(0)))])
    await eventually('what comes behind them', async () => (await shop.effects()).length === ahead.length + 3)
    expect(await shop.parked()).toEqual([])
  })

  test.each([-40, 40])(
    'a process whose clock is %s days off handles the events of others, and others handle its',
    async (days) => {
      const dir = mkdtempSync(join(tmpdir(), 'shopstream-clock-'))
      const clock = createSteppedClock(join(dir, 'clock'))
      clock.step(days * day)
      shop = await openTestShop()
      const off = shop.startProcess('off', { clock })
      await shop.emit(stockEvent('echoed', 1n), stockEvent('echoed', 2n))
      await eventually('its effects', async () => (await shop.effects()).length >= 2, { timeoutMs: 60_000 })
      await off.kill('SIGKILL')
      await shop.start()
      await eventually('all effects', async () => (await shop.effects()).length === 4, { timeoutMs: 60_000 })
      expect(sequencesByKey(await shop.effects())).toEqual({ echoed: [1, 2], 'echo of echoed': [1, 2] })
      expect(await shop.parked()).toEqual([])
      rmSync(dir, { recursive: true })
    },
    120_000,
  )

  test('are told: readiness is degraded, and the metric says by how much', async () => {
    shop = await openTestShop()
    const metrics = createMetrics('shop')
    const { checks } = await shop.start([], metrics)
    const check = checks.find(({ name }) => name === 'clock')
    await check?.check()
    const now = Date.now
    try {
      Date.now = () => now() - 3_600_000
      await expect(check?.check()).rejects.toThrow(/clock is 3(600|599) s behind its database's/)
      expect(await metrics.metrics()).toMatch(/^shopstream_clock_offset_seconds\S* -3(600|599)/m)
    } finally {
      Date.now = now
    }
    expect(check?.optional).toBe(true)
  })
})

describe('events of a newer producer', () => {
  const newest = registry.findLast(({ subject }) => subject === 'shopstream.stock.StockLevelChanged') as LockEntry
  const { fields, ...record } = newest.schema as { fields: object[] }
  const { type, data } = stockEvent('sku', 1n)
  /** An event by a schema that this build does not know, and what tells the schema; each id is learned only once. */
  const newerBy = (id: number) => {
    const schema = { ...record, fields: [...fields, { name: `shelf${id}`, type: 'string', default: '' }] }
    const version = newest.version + 1
    const codec = createCodec<Record<string, unknown>>([...registry, { ...newest, id, version, schema }])
    const value = codec.encode(type, { ...data, [`shelf${id}`]: 'A7' })
    const about = { schemaId: id, subject: newest.subject, version, schema: JSON.stringify(schema) }
    return {
      event: rawMessage('sku', value, outgoing('shop', stockEvent('sku', 1n)).headers as Record<string, string>),
      told: outgoing('deployment', { type: 'SchemaRegistered', key: String(id), sequence: 1n, data: about }),
    }
  }

  test('wait until their schema has come through its topic, and no longer', async () => {
    shop = await openTestShop({ policy: { attempts: 1, backoffMs: 3_600_000, maxBackoffMs: 3_600_000 } })
    await shop.start()
    const { event, told } = newerBy(100_998)
    await shop.bus.publish([event])
    await eventually('the parked event', async () => (await shop.parked()).length === 1)
    expect(await shop.parked()).toMatchObject([{ state: 'waiting', error: expect.stringContaining('100998') }])
    await shop.bus.publish([told])
    await eventually('its effect', async () => (await shop.effects()).length === 1)
    expect(await shop.parked()).toEqual([])
  })

  test('do not spend the attempts of their handler on waiting', async () => {
    let fails = true
    shop = await openTestShop({
      policy: { attempts: 2 },
      trouble: () => {
        if (!fails) return
        fails = false
        throw new Error('once')
      },
    })
    await shop.start()
    const { event, told } = newerBy(100_997)
    await shop.bus.publish([event])
    await eventually('some waiting', async () => {
      await sql`update parked_message set next_attempt_at = now()`.execute(shop.database.query) // it would take hours
      return ((await shop.parked())[0]?.attempts ?? 0) > 4
    })
    await shop.bus.publish([told])
    await eventually('its effect', async () => (await shop.effects()).length === 1)
    expect([fails, await shop.parked()]).toEqual([false, []])
  })

  test('whose id was told before as another schema are not read by either in silence', async () => {
    shop = await openTestShop()
    await shop.start()
    const { told } = newerBy(100_996)
    const other = outgoing('deployment', {
      type: 'SchemaRegistered',
      key: '100996',
      sequence: 1n,
      data: { schemaId: 100_996, subject: 'shopstream.stock.Other', version: 1, schema: '{}' },
    })
    await shop.bus.publish([told, other])
    await eventually('the parked', async () => (await shop.parked()).length === 1)
    expect((await shop.parked())[0]?.error).toContain('schema 100996 was shopstream.stock.StockLevelChanged before')
  })

  test('are read at once by a process that starts after their schema was told', async () => {
    shop = await openTestShop({ policy: { backoffMs: 3_600_000, maxBackoffMs: 3_600_000 } })
    await shop.start()
    const { event, told } = newerBy(100_999)
    await shop.bus.publish([told])
    const isKept = () => sql`select 1 from learned_schema where schema_id = 100999`.execute(shop.database.query)
    await eventually('the schema to be kept', async () => (await isKept()).rows.length === 1)
    await shop.bus.publish([event])
    await eventually('its effect', async () => (await shop.effects()).length === 1)
    expect(await shop.parked()).toEqual([])
  })
})

test('a topic is read to its end, from the beginning or from a time, without a group that stays', async () => {
  shop = await openTestShop()
  const relay = await shop.start([])
  await shop.emit(...[1n, 2n, 3n].map((sequence) => stockEvent('early', sequence)))
  await eventually('the first events to be out', () => relay.hasPublished())
  const between = new Date(Date.now() + 1)
  await eventually('a later millisecond', () => new Date() > between)
  await shop.emit(stockEvent('late', 1n))
  await eventually('the last event to be out', () => relay.hasPublished())
  const read = async (from?: Date | 'end') => {
    const keys: (string | null)[] = []
    await shop.bus.read({
      topics: ['shop.stock.v1', 'shop.product.v1'],
      toEnd: true,
      ...(from && { from }),
      handle: (messages) => void keys.push(...messages.map(({ key }) => key)),
    })
    return keys.filter((key) => key === 'early' || key === 'late')
  }
  expect((await read()).sort()).toEqual(['early', 'early', 'early', 'late'])
  expect(await read(between)).toEqual(['late'])
  expect(await read('end')).toEqual([])
})

test('the first reading of the metrics shows the backlog as it is, and one without a database shows none', async () => {
  shop = await openTestShop()
  const metrics = createMetrics('shop')
  await shop.start([], metrics)
  await sql`insert into outbox (topic, partition, key, headers, created_at, refused)
    values ('shop.stock.v1', 0, 'cup', '{}', now() - interval '1 hour', 'too large')`.execute(shop.database.query)
  const shown = async () => {
    const text = await metrics.metrics()
    const values = text.matchAll(/^(shopstream_outbox_(?:refused|oldest_seconds))\S* (\S+)$/gm)
    return Object.fromEntries([...values].map(([, name, value]) => [name, Number(value)]))
  }
  expect(await shown()).toEqual({ shopstream_outbox_refused: 1, shopstream_outbox_oldest_seconds: 0 })
  await sql`alter table parked_message rename to parked_elsewhere`.execute(shop.database.query)
  expect(await shown()).toEqual({})
})

/** Rows of the outbox that were read and deleted, as the relay's session tells now and then. */
async function readRows({ database }: TestShop, isTold = (_: { deleted: number }) => true) {
  const look = async () => {
    const { rows } = await sql<{ read: number; deleted: number }>`
      select (seq_tup_read + coalesce(idx_tup_fetch, 0))::float8 as read, n_tup_del::float8 as deleted
      from pg_stat_user_tables where relname = 'outbox'`.execute(database.query)
    return rows[0] ?? { read: 0, deleted: 0 }
  }
  await eventually('what the relay has read and deleted', async () => isTold(await look()), { timeoutMs: 30_000 })
  return look()
}
