import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createDatabase, type Database, sql } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import type { Message } from '@shopstream/messaging'
import { readMessage } from '@shopstream/messaging/operations'
import { createWorld, eventually, type TestDatabase, testDatabase, type World } from '@shopstream/testing'
import fc from 'fast-check'
import { buildInventory, buildOrder, cancelOverdue } from './apps.ts'
import {
  agreement,
  type OrderStatus,
  order as orders,
  type ReservationState,
  inventory as reservations,
} from './services.ts'

type OrderTables = Parameters<typeof cancelOverdue>[0] extends Database<infer Tables> ? Tables : never
type Service = Pick<Awaited<ReturnType<typeof buildOrder>>, 'http' | 'start' | 'stop'>
interface Line {
  sku: string
  quantity: number
}

/** Enough of the one for every order, of the other for a few. */
const stocked: Record<string, number> = { plenty: 1_000, scarce: 20 }
const shippingAddress = { name: 'Ada', line1: '1 Main Street', city: 'Bern', postalCode: '3000', country: 'CH' }
const patience = { timeoutMs: 40_000 }

let world: World
let staff: string
let ofInventory: TestDatabase
let databases: { order: Database<OrderTables>; inventory: Database<object> }
/** The first two are instances of the order service: each sweeps. */
let services: { orders: Service[]; inventory: Service }

beforeAll(async () => {
  world = await createWorld('order', 'inventory')
  ofInventory = await testDatabase('inventory')
  const open = <T>(url: string) =>
    createDatabase<T>({ url, poolSize: 10, applicationName: 'races', logger: world.logger })
  databases = { order: open(world.settings.DATABASE_URL), inventory: open(ofInventory.url) }
  staff = await world.token({ id: newEventId(), roles: ['customer', 'staff'] })
  await world.publishSigningKey()
  services = { orders: await startOrders(), inventory: await startInventory() }
  await Promise.all(Object.entries(stocked).map(([sku, pieces]) => stock(sku, pieces)))
}, 60_000)

afterAll(async () => {
  await Promise.all([...services.orders, services.inventory].map((service) => service.stop()))
  await Promise.all(Object.values(databases).map((database) => database.close()))
  await ofInventory.drop()
  await world.close()
})

async function started(service: Service): Promise<Service> {
  await service.start()
  await eventually('readiness', async () => (await service.http.inject('/readyz')).statusCode === 200, patience)
  return service
}

async function startOrders(): Promise<Service[]> {
  const start = async () =>
    started(await buildOrder({ ...world.settings, RESERVATION_DEADLINE_SECONDS: 900 }, world.logger))
  return [await start(), await start()]
}

async function startInventory(): Promise<Service> {
  const settings = { ...world.settings, DATABASE_URL: ofInventory.url, SEED_CATALOGUE: false }
  return started(await buildInventory(settings, world.logger))
}

async function call({ http }: Service, method: 'GET' | 'POST' | 'PUT', url: string, payload?: object) {
  const headers = { authorization: `Bearer ${staff}` }
  const response = await http.inject({ method, url, headers, ...(payload && { payload }) })
  return { status: response.statusCode, body: response.json() }
}

/** Lists a product and stocks it; waits until the order service knows it. */
async function stock(sku: string, pieces: number): Promise<void> {
  const product = { name: sku, description: '', price: { amount: 1_000, currency: 'EUR' } }
  await call(services.inventory, 'PUT', `/v1/products/${sku}`, product)
  const delivery = { delta: pieces, reason: 'first delivery' }
  await call(services.inventory, 'POST', `/v1/products/${sku}/stock-adjustments`, delivery)
  await eventually(`${sku} in the replica`, async () => {
    const { rows } = await sql`select from product where sku = ${sku}`.execute(databases.order.query)
    return rows.length === 1
  })
}

/** Any of the instances, each in its turn. */
let turn = 0
const anyOrders = () => services.orders[turn++ % services.orders.length] as Service

async function place(lines: Line[]): Promise<string> {
  const { body } = await call(anyOrders(), 'POST', '/v1/orders', { items: lines, shippingAddress })
  return body.id
}

const letDeadlinePass = (ids: string[]) =>
  sql`update "order" set reservation_deadline = now() where id = any(${ids}::uuid[])`.execute(databases.order.query)

const isAnnounced = (id: string, types: Parameters<World['events']>[0][]) =>
  eventually(
    `${types.join(' or ')} of ${id}`,
    () => types.some((type) => world.events(type).some(({ key }) => key === id)),
    { ...patience, everyMs: 2 },
  )

/** When a race starts. */
const moments = {
  placed: async () => {},
  reserved: (id: string) => isAnnounced(id, ['StockReserved', 'StockRejected']),
  decided: (id: string) => isAnnounced(id, ['OrderConfirmed', 'OrderRejected']),
}

/** Who takes part in it; each answers whether it has had its way. */
const contenders = {
  async cancel(id: string): Promise<boolean> {
    const { status } = await call(anyOrders(), 'POST', `/v1/orders/${id}/cancel`, { reason: 'changed my mind' })
    expect([200, 409]).toContain(status)
    return status === 200
  },
  /** Ships as soon as it may; gives up when it never will. */
  async ship(id: string): Promise<boolean> {
    const parcel = { carrier: 'Post', trackingNumber: id }
    const attempt = async () => {
      const { status } = await call(anyOrders(), 'POST', `/v1/orders/${id}/shipment`, parcel)
      if (status === 201) return { shipped: true }
      expect(status).toBe(409)
      const { body } = await call(anyOrders(), 'GET', `/v1/orders/${id}`)
      return ['pending', 'confirmed'].includes(body.status) ? undefined : { shipped: false }
    }
    return (await eventually(`the end of shipping ${id}`, attempt, { ...patience, everyMs: 5 })).shipped
  },
  /** Two sweepers, besides those of the instances. What they pass over because somebody works on it, those find. */
  async timeout(id: string): Promise<boolean> {
    await letDeadlinePass([id])
    const counts = await Promise.all([cancelOverdue(databases.order), cancelOverdue(databases.order)])
    return counts.some((count) => count > 0)
  },
}
type Moment = keyof typeof moments
type Contender = keyof typeof contenders

interface Race {
  moment: Moment
  /** In the order in which they start. */
  contenders: Contender[]
  lines: Line[]
}

async function run({ moment, contenders: names, lines }: Race) {
  const id = await place(lines)
  await moments[moment](id)
  const answers = await Promise.all(names.map(async (name) => [name, await contenders[name](id)] as const))
  const won = (name: Contender) => answers.some(([answered, hadItsWay]) => answered === name && hadItsWay)
  return { id, names, shipped: won('ship'), cancelled: won('cancel') }
}

/** What an order may be in the end, by what its clients were told. */
function possible({ names, shipped, cancelled }: Awaited<ReturnType<typeof run>>): OrderStatus[] {
  if (shipped) return cancelled ? [] : ['shipped']
  if (cancelled) return ['cancelled']
  const timedOut: OrderStatus[] = names.includes('timeout') ? ['cancelled'] : []
  const left: OrderStatus[] = names.includes('ship') || names.includes('cancel') ? [] : ['confirmed']
  return ['rejected', ...timedOut, ...left]
}

/** Waits until nothing is under way between the two. */
async function rest(): Promise<void> {
  let before = ''
  const isResting = async () => {
    const outboxes = Object.values(databases).map(({ query }) => sql`select from outbox`.execute(query))
    const isSent = (await Promise.all(outboxes)).every(({ rows }) => rows.length === 0)
    const positions = [
      ...(await world.bus.positions('order', ['shop.reservation.v1'])),
      ...(await world.bus.positions('inventory', ['shop.order.v1'])),
    ]
    const ends = positions.map(({ end }) => end).join()
    // What one of them began while the other was looked at has moved an end by the next look.
    const isQuiet = isSent && positions.every(({ done, end }) => done === end)
    const isResting = isQuiet && ends === before
    before = isQuiet ? ends : ''
    return isResting
  }
  await eventually('rest', isResting, patience)
}

/** The types of all events in a topic by key, of which each is there in its place: 1, 2, 3... */
async function told(topic: string): Promise<Map<string, string[]>> {
  const messages = new Map<string, Message>()
  await world.bus.read({
    topics: [topic],
    toEnd: true,
    handle(batch) {
      for (const message of batch.map(readMessage)) if (!messages.has(message.id)) messages.set(message.id, message)
    },
  })
  const byKey = Map.groupBy(messages.values(), ({ key }) => key)
  for (const [key, ofKey] of byKey) {
    const places = ofKey.map((_, i) => BigInt(i + 1))
    expect({ key, sequences: ofKey.map(({ sequence }) => sequence) }).toEqual({ key, sequences: places })
  }
  return new Map([...byKey].map(([key, ofKey]) => [key, ofKey.map(({ type }) => type)]))
}

interface Reservation {
  id: string
  state: ReservationState
  lines: Line[]
}

function expectConserved(levels: { sku: string; onHand: number; reserved: number }[], all: Reservation[]): void {
  const sum = (sku: string, wanted: ReservationState) =>
    all
      .filter(({ state }) => state === wanted)
      .flatMap(({ lines }) => lines.filter((line) => line.sku === sku))
      .reduce((pieces, { quantity }) => pieces + quantity, 0)
  const due = Object.entries(stocked).map(([sku, pieces]) => ({
    sku,
    onHand: pieces - sum(sku, 'sold'),
    reserved: sum(sku, 'reserved'),
  }))
  expect(levels).toEqual(due)
  for (const { onHand, reserved } of levels) expect(onHand).toBeGreaterThanOrEqual(reserved)
}

/** Waits for rest, and proves what the model proves of it. Returns what was told of each order and its reservation. */
async function proveRest(): Promise<Map<string, { status: OrderStatus; order: string[]; reservation: string[] }>> {
  await rest()
  for (const { query } of Object.values(databases)) {
    const { rows } = await sql`select topic, key, error from parked_message`.execute(query)
    expect(rows).toEqual([])
  }
  const { rows: levels } = await sql<{ sku: string; onHand: number; reserved: number }>`
    select sku, on_hand as "onHand", reserved from stock order by sku`.execute(databases.inventory.query)
  const { rows: held } = await sql<Reservation>`
    select order_id as id, state, lines from reservation`.execute(databases.inventory.query)
  expectConserved(levels, held)

  const { rows: placed } = await sql<{ id: string; status: OrderStatus; history: { status: OrderStatus }[] }>`
    select id, status, history from "order"`.execute(databases.order.query)
  const [ofOrders, ofReservations] = [await told('shop.order.v1'), await told('shop.reservation.v1')]
  const states = new Map(held.map(({ id, state }) => [id, state]))
  expect([...states.keys()].sort()).toEqual(placed.map(({ id }) => id).sort())
  const all = placed.map(({ id, status, history }) => {
    const state = states.get(id) as ReservationState
    const [order, reservation] = [ofOrders.get(id) ?? [], ofReservations.get(id) ?? []]
    expect(agreement[status]).toContain(state)
    expect(order).toEqual(history.map((step) => orders.announces[step.status]))
    expect(reservation.at(-1)).toBe(reservations.entering[state].announces)
    return [id, { status, order, reservation }] as const
  })
  return new Map(all)
}

/** Every moment with everybody who may take part from then on: 24 races. */
const everyRace = Object.keys(moments).flatMap((moment) =>
  [
    [],
    ['cancel'],
    ['ship'],
    ['timeout'],
    ['cancel', 'ship'],
    ['cancel', 'timeout'],
    ['ship', 'timeout'],
    ['cancel', 'ship', 'timeout'],
  ].map((names) => ({ moment: moment as Moment, names: names as Contender[] })),
)
const some = (sku: string) => fc.record({ sku: fc.constant(sku), quantity: fc.integer({ min: 1, max: 3 }) })
/** Most orders can be had, or there is little to race about. */
const lines = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(some('plenty')) },
  { weight: 1, arbitrary: fc.tuple(some('plenty'), some('scarce')) },
)
const races: fc.Arbitrary<Race[]> = fc.tuple(
  ...everyRace.map(({ moment, names }) =>
    fc.record({
      moment: fc.constant(moment),
      contenders: fc.shuffledSubarray(names, { minLength: names.length }),
      lines,
    }),
  ),
)

test('clients, sweepers and reservations that race leave orders and stock in agreement, and every answer true', async () => {
  const everybody = async (all: Race[]) => {
    const ended = await Promise.all(all.map(run))
    const settled = await proveRest()
    for (const each of ended) expect(possible(each)).toContain(settled.get(each.id)?.status)
  }
  // Real races do not repeat themselves, so there is nothing to shrink.
  await fc.assert(fc.asyncProperty(races, everybody), { numRuns: 3, endOnFailure: true })
})

test('what is reserved after the deadline is given back, with every service started anew in between', async () => {
  await services.inventory.stop()
  const ids = await Promise.all(Array.from({ length: 20 }, () => place([{ sku: 'plenty', quantity: 2 }])))
  await Promise.all(services.orders.map((service) => service.stop()))
  await letDeadlinePass(ids)
  services.orders = await startOrders()
  await Promise.all(ids.map((id) => isAnnounced(id, ['OrderCancelled'])))
  services.inventory = await startInventory()
  const settled = await proveRest()
  for (const id of ids)
    expect(settled.get(id)).toEqual({
      status: 'cancelled',
      order: ['OrderPlaced', 'OrderCancelled'],
      reservation: ['StockReserved', 'StockReleased'],
    })
})
