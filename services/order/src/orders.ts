import { type Kysely, type Selectable, signal, sql, type Transaction } from '@shopstream/database'
import type { Order, OrderLine, OrderStatus } from './life-cycle.ts'
import type { StoredLine, Tables } from './tables.ts'

/** Name of the after-commit signal that an order changed; its payload is the order as it is since. */
export const orderChanged = 'order-changed'

const toOrder = (row: Selectable<Tables['order']>): Order => ({
  id: row.id,
  userId: row.user_id,
  status: row.status,
  lines: row.lines.map(toLine),
  total: { amount: row.total_amount, currency: row.total_currency },
  shippingAddress: row.shipping_address,
  reason: row.reason,
  shipment: row.shipment,
  history: row.history.map(({ status, at }) => ({ status, at: new Date(at) })),
  reservationDeadline: row.reservation_deadline,
  sequence: row.sequence,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
})

const toLine = ({ unitPrice, ...line }: StoredLine): OrderLine => ({
  ...line,
  unitPrice: { amount: BigInt(unitPrice.amount), currency: unitPrice.currency },
})

const toStoredLine = ({ unitPrice, ...line }: OrderLine): StoredLine => ({
  ...line,
  unitPrice: { amount: String(unitPrice.amount), currency: unitPrice.currency },
})

export async function insertOrders(tx: Transaction<Tables>, orders: readonly Order[]): Promise<void> {
  if (orders.length === 0) return
  await sql`
    insert into "order" (id, user_id, status, lines, total_amount, total_currency, shipping_address, history,
      reservation_deadline, sequence, created_at, updated_at)
    select * from unnest(
      ${orders.map(({ id }) => id)}::uuid[], ${orders.map(({ userId }) => userId)}::uuid[],
      ${orders.map(({ status }) => status)}::text[],
      ${orders.map(({ lines }) => JSON.stringify(lines.map(toStoredLine)))}::jsonb[],
      ${orders.map(({ total }) => total.amount)}::bigint[], ${orders.map(({ total }) => total.currency)}::text[],
      ${orders.map(({ shippingAddress }) => JSON.stringify(shippingAddress))}::jsonb[],
      ${orders.map(({ history }) => JSON.stringify(history))}::jsonb[],
      ${orders.map(({ reservationDeadline }) => reservationDeadline)}::timestamptz[],
      ${orders.map(({ sequence }) => sequence)}::bigint[], ${orders.map(({ createdAt }) => createdAt)}::timestamptz[],
      ${orders.map(({ updatedAt }) => updatedAt)}::timestamptz[])`.execute(tx)
}

/** Locks orders in id order and reads them, by id. */
export async function lockOrders(tx: Transaction<Tables>, ids: string[]): Promise<Map<string, Order>> {
  const rows = await tx
    .selectFrom('order')
    .selectAll()
    .where('id', '=', sql<string>`any(${ids}::uuid[])`)
    .orderBy('id')
    .forUpdate()
    .execute()
  return new Map(rows.map((row) => [row.id, toOrder(row)]))
}

/**
 * Locks pending orders past their deadline, by the clock that set it (clock.ts), and skips locked ones. With
 * `withinSeconds`, only orders whose deadline has passed within that time.
 */
export async function lockOverdue(tx: Transaction<Tables>, limit: number, withinSeconds?: number): Promise<Order[]> {
  // Keeps Postgres from the index by status: it also has pending orders and looks as small while these are few, but it
  // has no times.
  await sql`set local enable_sort = off`.execute(tx)
  const rows = await tx
    .selectFrom('order')
    .selectAll()
    .where('status', '=', 'pending')
    .where('reservation_deadline', '<', sql<Date>`now()`)
    .$if(withinSeconds !== undefined, (all) =>
      all.where('reservation_deadline', '>', sql<Date>`now() - ${withinSeconds} * interval '1 s'`),
    )
    .orderBy('reservation_deadline')
    .limit(limit)
    .forUpdate()
    .skipLocked()
    .execute()
  return rows.map(toOrder)
}

/** Writes changed orders back, and tells who waits for them. */
export async function updateOrders(tx: Transaction<Tables>, orders: Order[]): Promise<void> {
  if (orders.length === 0) return
  await sql`
    update "order" set status = changed.status, reason = changed.reason, shipment = changed.shipment, history = changed.history,
      sequence = changed.sequence, updated_at = changed.updated_at
    from unnest(
      ${orders.map(({ id }) => id)}::uuid[], ${orders.map(({ status }) => status)}::text[], ${orders.map(({ reason }) => reason)}::text[],
      ${orders.map(({ shipment }) => shipment && JSON.stringify(shipment))}::jsonb[],
      ${orders.map(({ history }) => JSON.stringify(history))}::jsonb[], ${orders.map(({ sequence }) => sequence)}::bigint[],
      ${orders.map(({ updatedAt }) => updatedAt)}::timestamptz[]
    ) as changed (id, status, reason, shipment, history, sequence, updated_at)
    where "order".id = changed.id`.execute(tx)
  for (const order of orders) signal(tx, orderChanged, order)
}

/** An order, if `owner` (a user id; undefined for staff) may see it. */
export async function findOrder(
  query: Kysely<Tables>,
  id: string,
  owner: string | undefined,
): Promise<Order | undefined> {
  const byId = query.selectFrom('order').selectAll().where('id', '=', id)
  const row = await (owner === undefined ? byId : byId.where('user_id', '=', owner)).executeTakeFirst()
  return row && toOrder(row)
}

export interface OrderFilter {
  /** A user id; undefined for staff, who see all. */
  owner: string | undefined
  status: OrderStatus | undefined
  /** Only orders older than this id. */
  before: string | undefined
  limit: number
}

/** Orders, the newest first. */
export async function listOrders(
  query: Kysely<Tables>,
  { owner, status, before, limit }: OrderFilter,
): Promise<Order[]> {
  let orders = query.selectFrom('order').selectAll().orderBy('id', 'desc').limit(limit)
  if (owner !== undefined) orders = orders.where('user_id', '=', owner)
  if (status !== undefined) orders = orders.where('status', '=', status)
  if (before !== undefined) orders = orders.where('id', '<', before)
  return (await orders.execute()).map(toOrder)
}
