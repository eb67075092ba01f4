import {
  agreement,
  type ConsumedOrderEvent,
  inventory,
  type Order,
  type OrderInput,
  order as orders,
  type Shelf,
} from './services.ts'

/**
 * The two services in memory: their own decisions, and between them, for each order, what is under way in each
 * direction. An outbox, its topic and an inbox are one queue here, because none of them changes the order of a key.
 */
export interface World {
  readonly demand: readonly Demand[]
  readonly orders: ReadonlyMap<string, Order>
  readonly shelf: Shelf
  /** Events of one key that are not handled yet, by direction and key. */
  readonly underWay: { readonly inventory: Queues; readonly order: Queues }
  /** Events that were handled, and may come again at any time. */
  readonly handled: readonly Event[]
  /** Pieces that came and went by hand, by sku; the first stock among them. */
  readonly adjusted: ReadonlyMap<string, number>
  /** What staff may still do to the stock. */
  readonly adjustments: readonly Adjustment[]
}

/** An order that somebody may place. */
export interface Demand {
  id: string
  lines: { sku: string; quantity: number }[]
}

/** `retire` takes a product off sale. */
export type Adjustment = { sku: string } & ({ delta: number } | { retire: true })

type Queues = ReadonlyMap<string, readonly Event[]>
interface Event {
  id: string
  type: string
  key: string
  sequence: bigint
  data: object
}

/** Something that can happen in a world, and the world after it. */
export interface Step {
  name: string
  /** Whether it only brings what is under way to where it goes. */
  delivers?: true
  take(): World
}

/** Cells of the two tables that were met, as `order pending cancel`. */
export type Met = Set<string>

const now = new Date(0)
const price = { amount: 1n, currency: 'EUR' }
const nowhere = { name: 'Ada', line1: '1 Main Street', city: 'Bern', postalCode: '3000', country: 'CH' }

export function createWorld(
  stock: Record<string, number>,
  demand: readonly Demand[],
  adjustments: readonly Adjustment[] = [],
): World {
  const level = (sku: string, onHand: number) => ({ sku, onHand, reserved: 0, sequence: 0n, sellable: true })
  return {
    demand,
    orders: new Map(),
    shelf: {
      stock: new Map(Object.entries(stock).map(([sku, onHand]) => [sku, level(sku, onHand)])),
      reservations: new Map(),
    },
    underWay: { inventory: new Map(), order: new Map() },
    handled: [],
    adjusted: new Map(Object.entries(stock)),
    adjustments,
  }
}

/** Everything that can happen next. Taking a step throws when the step breaks what must hold in itself. */
export function stepsOf(world: World, met: Met): Step[] {
  return [
    ...world.demand.flatMap((demand) =>
      world.orders.has(demand.id) ? inputsOf(world, demand.id, met) : [placing(world, demand, met)],
    ),
    ...[...world.underWay.inventory.keys()].map((key) => delivery(world, 'inventory', key, met)),
    ...[...world.underWay.order.keys()].map((key) => delivery(world, 'order', key, met)),
    ...world.adjustments.map((adjustment, place) => adjusting(world, adjustment, place)),
  ]
}

function placing(world: World, { id, lines }: Demand, met: Met): Step {
  const priced = lines.map((line) => ({ ...line, unitPrice: price }))
  const order = {
    id,
    userId: 'a buyer',
    lines: priced,
    total: price,
    shippingAddress: nowhere,
    reservationDeadline: now,
  }
  return { name: `place ${id}`, take: () => happen(world, id, { type: 'place', order }, met) }
}

const commands: OrderInput[] = [
  { type: 'cancel', reason: 'changed my mind' },
  { type: 'ship', carrier: 'Post', trackingNumber: 'T1' },
  { type: 'deliver' },
]

/** What clients ask, and what the sweeper does: it may have read the order when it was still pending. */
const inputsOf = (world: World, id: string, met: Met): Step[] => [
  ...commands.map((input) => ({ name: `${input.type} ${id}`, take: () => happen(world, id, input, met) })),
  { name: `deadline ${id}`, take: () => passDeadline(world, id, met) },
]

function passDeadline(world: World, id: string, met: Met): World {
  const before = world.orders.get(id)?.status
  const after = happen(world, id, { type: 'deadline' }, met)
  const status = after.orders.get(id)?.status
  must(status === (before === 'pending' ? 'cancelled' : before), () => `the deadline made a ${before} order ${status}`)
  return after
}

/** An input of the order service. */
function happen(world: World, id: string, input: OrderInput, met: Met): World {
  const before = world.orders.get(id)
  met.add(`order ${before?.status ?? 'none'} ${input.type}`)
  const decision = orders.decide(before, input, now)
  const isCommand = input.type === 'place' || commands.some(({ type }) => type === input.type)
  must(
    decision.outcome !== 'impossible' || isCommand,
    () => `${input.type} met an order that is ${before?.status ?? 'none'}: impossible`,
  )
  if (decision.outcome !== 'changed') return world
  const { order, event } = decision
  must(event.sequence === (before?.sequence ?? 0n) + 1n, () => `${event.type} has sequence ${event.sequence}`)
  must(!before || isOpen(before), () => `a ${before?.status} order became ${order.status}`)
  return send({ ...world, orders: new Map(world.orders).set(id, order) }, 'inventory', [event])
}

const isOpen = ({ status }: Order) => status !== 'rejected' && status !== 'cancelled' && status !== 'delivered'

/** The next event of a key, handled. */
function delivery(world: World, to: 'inventory' | 'order', key: string, met: Met): Step {
  const [event, ...rest] = world.underWay[to].get(key) as [Event, ...Event[]]
  return {
    name: `${event.type} ${key} arrives`,
    delivers: true,
    take() {
      const queues = new Map(world.underWay[to])
      if (rest.length > 0) queues.set(key, rest)
      else queues.delete(key)
      const taken = { ...world, underWay: { ...world.underWay, [to]: queues }, handled: [...world.handled, event] }
      return handle(taken, event, met)
    },
  }
}

const isForOrder = ({ type }: { type: string }) => type in orders.lifeCycle.none

function handle(world: World, event: Event, met: Met): World {
  if (isForOrder(event)) return happen(world, event.key, event as unknown as OrderInput, met)
  const shelf = copyOf(world.shelf)
  const before = shelf.reservations.get(event.key)
  met.add(`inventory ${before?.state ?? 'none'} ${event.type}`)
  const said = inventory.decide(shelf, event as unknown as ConsumedOrderEvent)
  for (const { type, sequence } of said)
    must(sequence === (before?.sequence ?? 0n) + 1n, () => `${type} has sequence ${sequence}`)
  return said.length === 0 ? world : send({ ...world, shelf }, 'order', said)
}

/** Only what the other side consumes is on its way to it. */
function send(world: World, to: 'inventory' | 'order', said: readonly Omit<Event, 'id'>[]): World {
  const table = to === 'inventory' ? inventory.lifeCycle : orders.lifeCycle
  const consumed = said.filter(({ type }) => type in table.none)
  if (consumed.length === 0) return world
  const queues = new Map(world.underWay[to])
  for (const { type, key, sequence, data } of consumed) {
    const event = { id: `${type} of ${key}`, type, key, sequence, data }
    queues.set(key, [...(queues.get(key) ?? []), event])
  }
  return { ...world, underWay: { ...world.underWay, [to]: queues } }
}

function adjusting(world: World, adjustment: Adjustment, place: number): Step {
  const adjustments = world.adjustments.filter((_, at) => at !== place)
  const { sku } = adjustment
  return {
    name: 'delta' in adjustment ? `adjust ${sku} by ${adjustment.delta}` : `retire ${sku}`,
    take() {
      const shelf = copyOf(world.shelf)
      const level = shelf.stock.get(sku)
      must(level !== undefined, () => `there is no ${sku}`)
      if (!('delta' in adjustment)) {
        level.sellable = false
        return { ...world, adjustments, shelf }
      }
      if (level.onHand + adjustment.delta < level.reserved) return world // refused: stock-below-zero
      level.onHand += adjustment.delta
      const adjusted = new Map(world.adjusted).set(sku, (world.adjusted.get(sku) ?? 0) + adjustment.delta)
      return { ...world, adjustments, adjusted, shelf }
    },
  }
}

/** Decisions of inventory change stock in place; reservations are replaced. */
const copyOf = ({ stock, reservations }: Shelf): Shelf => ({
  stock: new Map([...stock].map(([sku, level]) => [sku, { ...level }])),
  reservations: new Map(reservations),
})

/** Throws for what must hold at any moment, and at rest. */
export function check(world: World, met: Met): void {
  const lines = [...world.shelf.reservations.values()].flatMap(({ state, lines }) =>
    lines.map((line) => ({ ...line, state })),
  )
  for (const { sku, onHand, reserved } of world.shelf.stock.values()) {
    const sum = (wanted: string) =>
      lines.reduce(
        (all, { state, quantity, ...line }) => all + (state === wanted && line.sku === sku ? quantity : 0),
        0,
      )
    const adjusted = world.adjusted.get(sku) ?? 0
    const level = () => `${sku}: ${onHand} on hand, ${reserved} reserved, adjusted by ${adjusted}`
    must(onHand === adjusted - sum('sold'), () => `${level()}, ${sum('sold')} sold`)
    must(reserved === sum('reserved'), () => `${level()}, ${sum('reserved')} in reservations`)
    must(onHand >= reserved, level)
  }
  for (const event of world.handled)
    must(handle(world, event, met) === world, () => `${event.type} of ${event.key} has an effect again`)
  if (isAtRest(world)) for (const order of world.orders.values()) checkAgreement(world, order)
}

export const isAtRest = ({ underWay }: World) => underWay.inventory.size === 0 && underWay.order.size === 0

function checkAgreement({ shelf }: World, { id, status }: Order): void {
  const state = shelf.reservations.get(id)?.state
  const agrees = state !== undefined && agreement[status].includes(state)
  must(agrees, () => `at rest ${id} is ${status} and its reservation ${state ?? 'missing'}`)
}

function must(condition: boolean, message: () => string): asserts condition {
  if (!condition) throw new Error(message())
}

/** Worlds with the same text have the same future. */
function textOf({ orders, shelf, underWay, adjustments }: World): string {
  const steps = [...orders.values()].map(({ id, history }) => `${id}:${history.map(({ status }) => status)}`)
  const held = [...shelf.reservations.values()].map(({ orderId, state }) => `${orderId}:${state}`)
  const levels = [...shelf.stock.values()].map(({ onHand, reserved, sellable }) => `${onHand}/${reserved}/${sellable}`)
  const queues = [underWay.inventory, underWay.order].map((each) =>
    [...each.values()].flatMap((events) => events.map(({ id }) => id)).sort(),
  )
  return [steps.sort(), held.sort(), levels, ...queues, JSON.stringify(adjustments)].join(' ')
}

/** More worlds than any of the tests has: a table that goes round in circles makes ever more. */
const limit = 100_000

/**
 * Visits every world that can come of this one, each once, and checks it. Returns how many there are. Throws with the
 * shortest way to the first that is wrong, and when they do not end.
 */
export function explore(start: World, met: Met): { worlds: number; atRest: number } {
  const ways = new Map<string, { from: string; step: string }>([[textOf(start), { from: '', step: 'start' }]])
  const wayTo = (text: string): string[] => {
    const way = ways.get(text)
    return way ? [...wayTo(way.from), way.step] : []
  }
  let frontier: { world: World; text: string }[] = [{ world: start, text: textOf(start) }]
  let atRest = 0
  while (frontier.length > 0) {
    const next: typeof frontier = []
    for (const { world, text } of frontier) {
      if (isAtRest(world)) atRest += 1
      attempt(
        () => check(world, met),
        () => wayTo(text),
      )
      for (const step of stepsOf(world, met)) {
        const after = attempt(
          () => step.take(),
          () => [...wayTo(text), step.name],
        )
        if (after === world) continue
        const reached = textOf(after)
        if (ways.has(reached)) continue
        ways.set(reached, { from: text, step: step.name })
        next.push({ world: after, text: reached })
      }
    }
    frontier = next
    if (ways.size > limit) throw new Error(`there are more than ${limit} worlds`)
  }
  return { worlds: ways.size, atRest }
}

function attempt<T>(work: () => T, way: () => string[]): T {
  try {
    return work()
  } catch (error) {
    throw new Error(`${(error as Error).message}\nafter ${way().join(', ')}`, { cause: error })
  }
}
