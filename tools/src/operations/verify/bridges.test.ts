/** What a bridge has passed, what its broker holds, and what is judged of that. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals'
import { createDatabase, migrate, openSession, type Session, sql } from '@shopstream/database'
import { messagingMigrations } from '@shopstream/messaging'
import { type TestDatabase, testDatabase, testLogger } from '@shopstream/testing'
import type { Reach } from '../shop-access.ts'
import { exitCodeOf } from '../verify.ts'
import { type AskedBridge, bridgeTables, noteHeld, openBridges, undeliveredEvent } from './bridges.ts'
import { show } from './check.ts'
import { tables } from './temporary-tables.ts'

let ofBridge: TestDatabase
let session: Session
beforeAll(async () => {
  ofBridge = await testDatabase('verify_bridges')
  const database = createDatabase<unknown>({
    url: ofBridge.url,
    poolSize: 1,
    applicationName: 'verify-bridges',
    logger: testLogger(),
  })
  await migrate(database, messagingMigrations)
  await database.close()
  session = await openSession(ofBridge.url, 'verify-bridges', {})
  await session.query(`${tables};${bridgeTables}`)
})
afterAll(async () => {
  await session?.close()
  await ofBridge?.drop()
})
beforeEach(() => session.query('truncate fact, parked_message cascade'))

const minute = 60_000
const start = Date.parse('2026-01-31T12:00:00Z')
/** A UUID version 7 of this time, with a number that tells it from others. */
const idAt = (ms: number, n: number) => {
  const time = ms.toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-${String(n).padStart(12, '0')}`
}

interface Passed {
  minutes: number
  type?: string
  origin?: string
}
/** Events at offsets from 0 on of one partition; returns their ids. */
async function written(...events: Passed[]): Promise<string[]> {
  const ids = events.map(({ minutes }, n) => idAt(start + minutes * minute, n))
  for (const [n, { type = 'OrderConfirmed', origin = null }] of events.entries())
    await session.query(
      `insert into fact (topic, partition, "offset", event_id, key, sequence, type, origin, written)
       values ('shop.order.v1', 2, $1, $2, 'k', 1, $3, $4, $5)`,
      [n, ids[n], type, origin, start],
    )
  return ids
}

const bridge: AskedBridge = {
  name: 'mirror',
  group: 'bridge-mirror',
  topics: ['shop.order.v1'],
  events: ['OrderConfirmed', 'OrderShipped'],
  origins: ['back'],
  async *held() {},
  close: async () => {},
}

const unasked: string[] = []

/** Offsets that are found, where the group has passed `done` and the broker holds these, the oldest first. */
async function found(done: number, ...held: (string | undefined)[]) {
  const positions = async () => [{ topic: 'shop.order.v1', partition: 2, start: 0n, done: BigInt(done) }]
  const asked = {
    ...bridge,
    held: async function* () {
      for (const id of ['no uuid', ...held]) if (id !== undefined) yield id
    },
  }
  const bus = { positions } as unknown as Reach['bus']
  unasked.length = 0
  await noteHeld(session, { bus }, { asked: [asked], unasked, away: [] })
  const rows = await session.query<{ offset: bigint }>(undeliveredEvent([asked]).sql('bridge'))
  return rows.map(({ offset }) => Number(offset)).sort()
}

const park = (offset: number, state: 'waiting' | 'dead' | 'handled' | 'discarded', by = 'mirror') =>
  session.query(
    `insert into parked_message (topic, partition, "offset", key, bytes, headers, state, blocks, ended_at)
     values ($1, 2, $2, 'k', '', '{}', $3, $3 in ('waiting', 'dead'), case when $3 in ('handled', 'discarded') then now() end)`,
    [`shop.order.v1@${by}`, offset, state],
  )

test('each that was passed is held; what is behind the offset, of other types, or came from that broker is not judged', async () => {
  const [a, , c] = await written(
    { minutes: 0 },
    { minutes: 1 },
    { minutes: 2 },
    { minutes: 3, type: 'OrderPlaced' },
    { minutes: 4, origin: 'back' },
    { minutes: 5 },
  )
  expect(await found(5, a, c)).toEqual([1])
  expect(await found(1, a)).toEqual([])
  expect(await found(6, a, c)).toEqual([1, 5])
})

test('what is parked or discarded is not at the broker; what was handed on at last is', async () => {
  const ids = await written(...[0, 1, 2, 3, 4].map((minutes) => ({ minutes })))
  await park(1, 'waiting')
  await park(2, 'discarded')
  await park(3, 'handled')
  await park(4, 'dead', 'another')
  expect(await found(5, ids[0])).toEqual([3, 4])
})

test('where the first are not held any more, what is younger than those that are is judged', async () => {
  const ids = await written({ minutes: 0 }, { minutes: 30 }, { minutes: 39 }, { minutes: 41 }, { minutes: 50 })
  expect(await found(5, ids[1], ids[4])).toEqual([3])
  expect(await found(5, ids[0], ids[4])).toEqual([1, 2, 3])
  await park(0, 'handled') // a redrive brought it late: it says nothing of when others came
  expect(await found(5, ids[0], ids[4])).toEqual([])
  expect(unasked).toEqual([])
  expect(await found(5)).toEqual([])
  expect(unasked).toEqual(['bridge mirror: its broker holds no event, so that there is nothing to compare'])
})

test('a type whose stream is shorter is judged by itself', async () => {
  const shipped = { type: 'OrderShipped' }
  const ids = await written({ minutes: 0 }, { minutes: 1, ...shipped }, { minutes: 60 }, { minutes: 61, ...shipped })
  expect(await found(4, ids[0], ids[2], ids[3])).toEqual([])
  expect(await found(4, ids[0], ids[2])).toEqual([1, 3]) // all of the other are there
  expect(await found(4, ids[2])).toEqual([]) // not all are
})

test('brokers that are away are asked side by side and told, and nothing is found of them', async () => {
  await written({ minutes: 0 }, { minutes: 1 })
  const bus = { positions: async () => [] } as unknown as Reach['bus']
  const allAsked = Promise.withResolvers<void>()
  let waiting = 2
  const held = async function* (): AsyncIterable<string> {
    yield* []
    waiting -= 1
    if (waiting === 0) allAsked.resolve()
    await allAsked.promise
    throw new Error('connect ECONNREFUSED')
  }
  const asked = ['mirror', 'second'].map((name) => ({ ...bridge, name, held }))
  const notes = { asked, unasked: [], away: [] }
  for (let look = 0; look < 2; look += 1) await noteHeld(session, { bus }, notes)
  const away = ['mirror', 'second'].map((name) => `the broker of bridge ${name}: connect ECONNREFUSED`)
  expect(notes).toMatchObject({ away, unasked: [] })
  expect(await session.query(undeliveredEvent([bridge]).sql('bridge'))).toEqual([])
})

test('a broker that is away is no proof: the exit code tells, unless something is wrong', () => {
  expect(exitCodeOf({ discrepancies: 0, away: [] })).toBe(0)
  expect(exitCodeOf({ discrepancies: 0, away: ['x'] })).toBe(2)
  expect(exitCodeOf({ discrepancies: 1, away: ['x'] })).toBe(1)
})

test('of a bridge whose row this process does not have it is told why', async () => {
  const database = createDatabase<unknown>({
    url: ofBridge.url,
    poolSize: 1,
    applicationName: 'x',
    logger: testLogger(),
  })
  const reach = { databases: { bridge: database }, bridgeEnvironment: { BRIDGES_FILE: '/nowhere.yaml' } }
  try {
    expect((await openBridges(reach as unknown as Reach)).unasked).toEqual([]) // its table is not there yet
    await sql`create table bridge as select 'mirror' as name, 'send' as direction, 'redis' as kind, array['OrderPlaced'] as events,
      null::timestamptz as away_since, null as away_reason, now() as seen_at`.execute(database.query)
    const { asked, unasked } = await openBridges(reach as unknown as Reach)
    expect([asked, unasked]).toEqual([
      [],
      [expect.stringMatching(/^bridge mirror: its row is not known here: .*nowhere/)],
    ])
  } finally {
    await database.close()
  }
})

test('nothing is proven of bridges whose names are not known: their database is away', async () => {
  const database = createDatabase<unknown>({
    url: 'postgres://bridge:x@127.0.0.1:1/bridge',
    poolSize: 1,
    applicationName: 'x',
    logger: testLogger(),
  })
  const { asked, away } = await openBridges({ databases: { bridge: database } } as unknown as Reach)
  expect([asked, away]).toEqual([[], [expect.stringMatching(/^the bridge database, .* cannot be asked: /)]])
  await database.close()
})

test('the commands that show what a bridge has parked name the topic itself, or none', () => {
  expect(show('shop.order.v1@mirror', 'k')).toEqual(show('shop.order.v1', 'k'))
  expect(show('inbound@erp', null)).toEqual([])
})
