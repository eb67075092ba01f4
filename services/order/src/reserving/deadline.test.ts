import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from '@jest/globals'
import { createDatabase, type Database, sql } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import type { Message } from '@shopstream/messaging'
import { allButTheClock, createWorld, eventually, type World } from '@shopstream/testing'
import { buildOrder } from '../app.ts'
import { changeOrder } from '../fulfilling/change.ts'
import type { Order } from '../life-cycle.ts'
import { placeAll } from '../placing/place.ts'
import type { Tables } from '../tables.ts'
import { applyReservations } from './handle.ts'
import { cancelOverdue } from './sweep.ts'

let world: World
/** Of so many instances of the order service. */
let databases: Database<Tables>[]
let database: Database<Tables>

type Reserved = Message<'StockReserved', never>

const shippingAddress = { name: 'Ada', line1: '1 Main Street', city: 'Bern', postalCode: '3000', country: 'CH' }
const mug = { sku: 'mug', name: 'Mug', description: '', price: { amount: 1450n, currency: 'EUR' }, version: 1 }
const stepClock = (ms: number) => jest.useFakeTimers({ now: Date.now() + ms, doNotFake: [...allButTheClock] })

const start = async () => {
  const service = await buildOrder({ ...world.settings, RESERVATION_DEADLINE_SECONDS: 900 }, world.logger)
  await service.start()
  await eventually('readiness', async () => (await service.http.inject('/readyz')).statusCode === 200)
  return service
}

beforeAll(async () => {
  world = await createWorld('order')
  await world.publishSigningKey()
  await world.publish({ type: 'ProductListed', key: 'mug', sequence: 1n, data: mug })
  const service = await start()
  await service.stop()
  const { DATABASE_URL: url, DATABASE_POOL_SIZE: poolSize } = world.settings
  databases = Array.from({ length: 4 }, () =>
    createDatabase<Tables>({ url, poolSize, applicationName: 'order', logger: world.logger }),
  )
  database = databases[0] as Database<Tables>
})

beforeEach(async () => {
  await sql`delete from "order"`.execute(database.query)
  await sql`delete from outbox`.execute(database.query)
})

afterEach(() => {
  jest.useRealTimers()
})

afterAll(async () => {
  await Promise.all(databases.map((each) => each.close()))
  await world.close()
})

/** Places orders as the service does; returns their ids. */
async function placed(count: number): Promise<string[]> {
  const order = { userId: newEventId(), items: [{ sku: 'mug', quantity: 1 }], shippingAddress }
  const all = Array.from({ length: count }, () => order)
  const orders = await database.transaction((tx) => placeAll(tx, all, 900))
  return orders.map((placed) => (placed as Order).id)
}

async function overdue(count: number): Promise<string[]> {
  const ids = await placed(count)
  await sql`
    update "order" set reservation_deadline = now() - interval '1 second'
    where id = any(${ids}::uuid[])`.execute(database.query)
  return ids
}

/** What an outbox whose relay does not run holds of each order, as `OrderPlaced 1`. */
async function announced(): Promise<Map<string, string[]>> {
  const { rows } = await sql<{ key: string; said: string[] }>`
    select key, array_agg((headers->>'ce_type') || ' ' || (headers->>'ce_sequence') order by id) as said
    from outbox group by key`.execute(database.query)
  return new Map(rows.map(({ key, said }) => [key, said]))
}

async function sweepAll(): Promise<number> {
  const counts = await Promise.all(
    databases.map(async (each) => {
      let sum = 0
      for (let count = await cancelOverdue(each); count > 0; count = await cancelOverdue(each)) sum += count
      return sum
    }),
  )
  return counts.reduce((sum, count) => sum + count, 0)
}

test('four sweepers at once cancel each overdue order once, and no other', async () => {
  const late = await overdue(350)
  const inTime = await placed(5)
  expect(await sweepAll()).toBe(350)
  const said = await announced()
  for (const id of late) expect(said.get(id)).toEqual(['OrderPlaced 1', 'OrderCancelled 2'])
  for (const id of inTime) expect(said.get(id)).toEqual(['OrderPlaced 1'])
})

test('an order whose deadline passes while no instance runs is cancelled by the next one', async () => {
  const [id] = await overdue(1)
  const service = await start()
  try {
    const cancelled = await eventually('the cancellation', () =>
      world.events('OrderCancelled').find(({ key }) => key === id),
    )
    expect(cancelled).toMatchObject({ sequence: 2n, data: { reason: 'reservation-timeout' } })
  } finally {
    await service.stop()
  }
})

test('sweepers, buyers and reservations that come late decide each order once, whoever comes first', async () => {
  const [first, second, third] = databases as [Database<Tables>, Database<Tables>, Database<Tables>]
  const cancel = (id: string) =>
    third.transaction((tx) =>
      changeOrder(tx, { id, owner: undefined, command: { type: 'cancel', reason: 'changed my mind' } }),
    )
  const reserve = (ids: string[]) => {
    const messages = ids.map((key) => ({ type: 'StockReserved', key, id: newEventId() }) as Reserved)
    return second.transaction((tx) => applyReservations(tx, messages))
  }
  const lives = new Set<string | undefined>()
  const possible = [
    'OrderPlaced 1, OrderCancelled 2',
    'OrderPlaced 1, OrderConfirmed 2',
    'OrderPlaced 1, OrderConfirmed 2, OrderCancelled 3',
  ]
  // On a busy machine one of them may be first for long: at least twelve rounds, and more until each was.
  for (let round = 0; round < 12 || (round < 200 && lives.size < possible.length); round += 1) {
    const ids = await overdue(10)
    const contenders = [
      () => reserve(ids),
      () => cancelOverdue(first),
      () => Promise.all(ids.filter((_, i) => i % 3 === 0).map(cancel)),
    ]
    const turn = round % contenders.length
    await Promise.all([...contenders.slice(turn), ...contenders.slice(0, turn)].map((contend) => contend()))
    const said = await announced()
    for (const id of ids) lives.add(said.get(id)?.join(', '))
  }
  expect(lives).toEqual(new Set(possible))
})

test('a sweep of what is overdue since a minute leaves what is so for longer to one that looks at all there is', async () => {
  const [recent, former] = [await overdue(2), await overdue(2)]
  await sql`
    update "order" set reservation_deadline = now() - interval '2 minutes'
    where id = any(${former}::uuid[])`.execute(database.query)
  expect(await cancelOverdue(database, 60)).toBe(2)
  const said = await announced()
  expect(recent.map((id) => said.get(id))).toEqual(Array(2).fill(['OrderPlaced 1', 'OrderCancelled 2']))
  expect(await cancelOverdue(database)).toBe(2)
})

test.each([
  ['behind', -3_600_000],
  ['ahead', 3_600_000],
])('a process whose clock is an hour %s counts and keeps deadlines by the clock of the database', async (_, step) => {
  const [late] = await overdue(1)
  stepClock(step)
  const [inTime] = await placed(1)
  expect(await cancelOverdue(database)).toBe(1)
  const said = await announced()
  expect(said.get(late as string)).toEqual(['OrderPlaced 1', 'OrderCancelled 2'])
  expect(said.get(inTime as string)).toEqual(['OrderPlaced 1'])
  const { rows } = await sql<{ counted: boolean }>`
    select reservation_deadline = created_at + interval '900 seconds'
        and reservation_deadline between now() and now() + interval '900 seconds' as counted
    from "order" where id = ${inTime}`.execute(database.query)
  expect(rows).toEqual([{ counted: true }])
})
