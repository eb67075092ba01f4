import { Type } from '@shopstream/config'
import { type Database, isUnavailable, type Transaction } from '@shopstream/database'
import {
  effectGroup,
  line,
  optionalBody,
  Price,
  page,
  type Route,
  reply,
  route,
  ShopError,
  Sku,
  Total,
  toMoney,
  toPrice,
  type User,
} from '@shopstream/http'
import { currentTrace, formatTraceparent } from '@shopstream/observability'
import { errors } from './errors.ts'
import { changeOrder } from './fulfilling/change.ts'
import type { Order, OrderCommand } from './life-cycle.ts'
import { findOrder, listOrders } from './orders.ts'
import { type OrderRequest, placeAll } from './placing/place.ts'
import { waiting } from './prefer-wait.ts'
import type { Tables } from './tables.ts'

const Status = Type.Enum(['pending', 'confirmed', 'rejected', 'shipped', 'delivered', 'cancelled'])
const Address = Type.Object({
  name: line(200),
  line1: line(200),
  line2: Type.Optional(line(200)),
  city: line(200),
  region: Type.Optional(line(200)),
  postalCode: line(20),
  country: Type.String({ pattern: '^[A-Z]{2}$', description: 'ISO 3166-1 alpha-2.' }),
})
const OrderBody = Type.Object({
  items: Type.Array(
    Type.Object({ sku: Sku, quantity: Type.Integer({ minimum: 1, maximum: 10_000 }), unitPrice: Type.Optional(Price) }),
    { minItems: 1, maxItems: 100, description: 'Each sku once.' },
  ),
  shippingAddress: Address,
})
const OrderView = Type.Object({
  id: Type.String({ format: 'uuid' }),
  status: Status,
  items: Type.Array(Type.Object({ sku: Sku, quantity: Type.Integer(), unitPrice: Price })),
  total: Total,
  reason: Type.Union([Type.String(), Type.Null()]),
  shippingAddress: Address,
  shipment: Type.Union([Type.Object({ carrier: Type.String(), trackingNumber: Type.String() }), Type.Null()]),
  createdAt: Type.String({ format: 'date-time' }),
  updatedAt: Type.String({ format: 'date-time' }),
  history: Type.Array(Type.Object({ status: Status, at: Type.String({ format: 'date-time' }) })),
})
const params = Type.Object({ id: Type.String({ format: 'uuid' }) })

const toView = ({ lines, total, createdAt, updatedAt, history, ...order }: Order) => ({
  id: order.id,
  status: order.status,
  items: lines.map(({ sku, quantity, unitPrice }) => ({ sku, quantity, unitPrice: toPrice(unitPrice) })),
  total: toPrice(total),
  reason: order.reason,
  shippingAddress: order.shippingAddress,
  shipment: order.shipment,
  createdAt: createdAt.toISOString(),
  updatedAt: updatedAt.toISOString(),
  history: history.map((step) => ({ status: step.status, at: step.at.toISOString() })),
})

/** Whose orders the caller may see: staff see all. */
const ownerOf = ({ user, isStaff }: { user: User; isStaff: boolean }) => (isStaff ? undefined : user.id)

type WaitUntilDecided = ReturnType<typeof waiting>

/** The table of the order service's routes. */
export function routes({
  database,
  deadlineSeconds,
}: {
  database: Database<Tables>
  deadlineSeconds: number
}): Route[] {
  const waitUntilDecided = waiting(database)
  return [
    placingRoute(database, deadlineSeconds, waitUntilDecided),
    ...readingRoutes(database, waitUntilDecided),
    ...changingRoutes,
  ]
}

function placingRoute(database: Database<Tables>, deadlineSeconds: number, waitUntilDecided: WaitUntilDecided): Route {
  const placing = effectGroup<OrderRequest>(database, async (tx, all) =>
    (await placeAll(tx, all, deadlineSeconds)).map((order) =>
      order instanceof ShopError ? order : reply.created(toView(order), `/v1/orders/${order.id}`),
    ),
  )
  return route({
    method: 'POST',
    url: '/v1/orders',
    operationId: 'placeOrder',
    summary: 'Place an order',
    waits: true,
    sheds: true,
    access: 'user',
    schema: { body: OrderBody, response: { 201: OrderView } },
    async handle({ body, user, effectIn, amend, waitSeconds, signal }) {
      const { shippingAddress } = body
      const items = body.items.map(({ unitPrice, ...item }) => ({
        ...item,
        ...(unitPrice && { unitPrice: toMoney(unitPrice) }),
      }))
      const trace = currentTrace()
      const traceparent = trace && formatTraceparent(trace)
      const placed = await effectIn(placing, { userId: user.id, items, shippingAddress, traceparent })
      if (placed.replayed || waitSeconds === undefined) return placed
      try {
        const { id } = placed.body
        const order = await waitUntilDecided({ id, owner: user.id, seconds: waitSeconds, signal, isNew: true })
        const answer = { ...placed, body: order ? toView(order) : placed.body }
        await amend(answer)
        return answer
      } catch (error) {
        if (!isUnavailable(error)) throw error
        return placed // the order is taken: an error would make the client place another
      }
    },
  })
}

const readingRoutes = (database: Database<Tables>, waitUntilDecided: WaitUntilDecided): Route[] => [
  route({
    method: 'GET',
    url: '/v1/orders',
    operationId: 'listOrders',
    summary: "List orders, the newest first: one's own, or all for staff",
    access: 'user',
    schema: {
      query: Type.Object({ ...page.query, status: Type.Optional(Status) }),
      response: { 200: page.list(OrderView) },
    },
    async handle({ query, user, isStaff }) {
      const [before] = page.decodeCursor(query.cursor, ['uuid']) ?? []
      const filter = { owner: ownerOf({ user, isStaff }), status: query.status, before, limit: query.limit + 1 }
      return reply.ok(page.of(await listOrders(database.query, filter), query.limit, toView, ({ id }) => [id]))
    },
  }),
  route({
    method: 'GET',
    url: '/v1/orders/:id',
    operationId: 'getOrder',
    summary: 'Show an order; with Prefer: wait=N once it is decided',
    waits: true,
    access: 'user',
    schema: { params, response: { 200: OrderView } },
    async handle({ params: { id }, user, isStaff, waitSeconds, signal }) {
      const owner = ownerOf({ user, isStaff })
      const order =
        waitSeconds === undefined
          ? await findOrder(database.query, id, owner)
          : await waitUntilDecided({ id, owner, seconds: waitSeconds, signal })
      if (!order) throw errors['order-not-found']()
      return reply.ok(toView(order))
    },
  }),
]

const changingRoutes: readonly Route[] = [
  route({
    method: 'POST',
    url: '/v1/orders/:id/cancel',
    operationId: 'cancelOrder',
    summary: 'Cancel an order that is not shipped yet',
    access: 'user',
    schema: {
      params,
      body: optionalBody(Type.Object({ reason: Type.Optional(line(200)) })),
      response: { 200: OrderView },
    },
    async handle({ params: { id }, body, user, isStaff, effect }) {
      const command: OrderCommand = {
        type: 'cancel',
        reason: body?.reason ?? (isStaff ? 'cancelled by the shop' : 'cancelled by the customer'),
      }
      return effect(async (tx: Transaction<Tables>) =>
        reply.ok(toView(await changeOrder(tx, { id, owner: ownerOf({ user, isStaff }), command }))),
      )
    },
  }),
  route({
    method: 'POST',
    url: '/v1/orders/:id/shipment',
    operationId: 'shipOrder',
    summary: 'Ship a confirmed order',
    access: 'staff',
    schema: {
      params,
      body: Type.Object({ carrier: line(200), trackingNumber: line(200) }),
      response: { 201: OrderView },
    },
    async handle({ params: { id }, body, effect }) {
      const command = { type: 'ship' as const, ...body }
      return effect(async (tx: Transaction<Tables>) =>
        reply.created(toView(await changeOrder(tx, { id, owner: undefined, command }))),
      )
    },
  }),
  route({
    method: 'POST',
    url: '/v1/orders/:id/delivery',
    operationId: 'deliverOrder',
    summary: 'Record that a shipped order has arrived',
    access: 'staff',
    schema: { params, response: { 201: OrderView } },
    async handle({ params: { id }, effect }) {
      const command = { type: 'deliver' as const }
      return effect(async (tx: Transaction<Tables>) =>
        reply.created(toView(await changeOrder(tx, { id, owner: undefined, command }))),
      )
    },
  }),
]
