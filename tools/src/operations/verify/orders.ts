import { shop } from '../../terminal/format.ts'
import { archivedAs, type Check, excused, handled, type Scope, show } from './check.ts'
import { statesThatFit } from './reservation-states.ts'

const fittingStates = `case o.status ${Object.entries(statesThatFit)
  .map(([status, states]) => `when '${status}' then array[${states.map((state) => `'${state}'`).join(', ')}]`)
  .join(' ')} end`

/** How long after its deadline an order may still be pending: the sweeper looks every 2 s, and takes 100 at a time. */
const overdueSeconds = 60

/** Orders of which inventory had handled every event before its moment; `o`, with the last of their events. */
const settledOrders = `
  settled as (
    select o.* from order_seen as o
    left join (
      select f.key, max(f.sequence) as sequence, bool_and(f."offset" < p.done) as handled
      from fact as f join position as p on p.topic = f.topic and p.partition = f.partition
      where f.topic = 'shop.order.v1' group by f.key) as e using (key)
    cross join (select since from kept where topic = 'shop.order.v1') as k
    where case when e.key is null then o.changed < k.since else e.handled and e.sequence = o.sequence end
      and not ${excused(`'shop.order.v1'`, 'o.key')}),
  held as (select key, state, lines from aggregate where topic = 'shop.reservation.v1')`
const besideOrders = { inventory: ['shop.order.v1', 'shop.reservation.v1'] }
const countOrders = () => 'select count(*) from order_seen'

const stockLevel: Check = {
  name: 'stock-level',
  promise:
    'pieces on hand are the adjustments less what was sold; reserved are those of the open reservations, never more',
  at: { inventory: [] },
  looked: () =>
    'select (select count(*) from stock) + (select count(*) from stock_adjustment) + (select count(*) from reservation)',
  sql: () => `
    with moved as (
      select sku, sum(pieces) filter (where state = 'sold') as sold,
        sum(pieces) filter (where state = 'reserved') as reserved
      from (
        select line->>'sku' as sku, state, (line->>'quantity')::bigint as pieces
        from reservation cross join jsonb_array_elements(lines) as line where state in ('sold', 'reserved')
        union all select key, 'sold', amount from archived_sum where "table" = 'reservation') as lines
      group by 1),
    adjusted as (select sku, sum(delta) as pieces from stock_adjustment group by 1),
    due as (
      select s.sku, s.on_hand, s.reserved, coalesce(a.pieces, 0) - coalesce(m.sold, 0) as due_on_hand,
        coalesce(m.reserved, 0) as due_reserved
      from (select sku from stock union select sku from moved) as all_skus
      left join stock as s using (sku) left join adjusted as a using (sku) left join moved as m using (sku))
    select sku as subject, * from due
    where on_hand is distinct from due_on_hand or reserved is distinct from due_reserved or on_hand < reserved`,
  message: ({ sku, on_hand, reserved, due_on_hand, due_reserved }) =>
    `${sku} has ${on_hand} on hand and ${reserved} reserved; by adjustments, sales and reservations it is ${due_on_hand} and ${due_reserved}`,
  commands: ({ sku }) => show('shop.stock.v1', sku),
}

const reservationWithoutOrder: Check = {
  name: 'reservation-without-order',
  promise: 'every reservation belongs to an order',
  at: besideOrders,
  needsOrders: true,
  looked: () => `select count(*) from aggregate where topic = 'shop.reservation.v1'`,
  sql: () => `
    select r.key as subject, r.key, r.state from aggregate as r
    where r.topic = 'shop.reservation.v1' and not exists (select 1 from order_seen as o where o.key = r.key)
      and not exists (select 1 from order_archived as o where o.key = r.key)`,
  message: ({ key, state }) => `there is a reservation (${state}) for order ${key}, and no such order`,
  commands: ({ key }) => show('shop.reservation.v1', key),
}

const orderWithoutReservation: Check = {
  name: 'order-without-reservation',
  promise: 'every order that inventory has heard of has its reservation',
  at: besideOrders,
  needsOrders: true,
  looked: countOrders,
  sql: () => `
    with ${settledOrders}
    select o.key as subject, o.key, o.status from settled as o
    where not exists (select 1 from held as r where r.key = o.key)
      and not exists (select 1 from ${archivedAs('o.key')})`,
  message: ({ key, status }) =>
    `order ${key} (${status}) has no reservation, although inventory has handled its events`,
  commands: ({ key }) => show('shop.order.v1', key),
}

const reservationState: Check = {
  name: 'reservation-state',
  promise: "a reservation is what its order's events make of it: reserved, rejected, released or sold",
  at: besideOrders,
  needsOrders: true,
  looked: countOrders,
  sql: () => `
    with ${settledOrders}
    select o.key as subject, o.key, o.status, r.state from settled as o join held as r using (key)
    where not r.state = any(${fittingStates})
    union all -- an order is archived when it is over
    select o.key, o.key, 'archived', r.state from order_archived as o join held as r using (key)
    where r.state = 'reserved' and not ${excused(`'shop.order.v1'`, 'o.key')}`,
  message: ({ key, status, state }) => `order ${key} is ${status}, and its reservation ${state}`,
  commands: ({ key }) => show('shop.order.v1', key),
}

const reservationLines: Check = {
  name: 'reservation-lines',
  promise: 'a reservation holds, or held, what its order has ordered',
  at: besideOrders,
  needsOrders: true,
  looked: countOrders,
  // A rejected one holds nothing; of one that was restored from its event only the short lines are known.
  sql: () => `
    select o.key as subject, o.key from order_seen as o
    join aggregate as r on r.topic = 'shop.reservation.v1' and r.key = o.key
    where r.state <> 'rejected' and r.lines is distinct from o.lines`,
  message: ({ key }) => `the reservation of order ${key} has other lines than the order`,
  commands: ({ key }) => show('shop.order.v1', key),
}

const orderUndecided = ({ factsOf }: Scope): Check => ({
  name: 'order-undecided',
  promise: 'an order is decided once its service has handled what inventory said',
  at: { order: ['shop.reservation.v1'] },
  looked: factsOf(() => ['shop.reservation.v1']),
  sql: () => `
    select f.key as subject, f.key, f.type from fact as f ${handled}
    join "order" as o on o.id::text = f.key
    where f.topic = 'shop.reservation.v1' and f.type in ('StockReserved', 'StockRejected') and o.status = 'pending'
      and not ${excused('f.topic', 'f.key')}`,
  message: ({ key, type }) => `order ${key} is still pending, although its service has handled ${type}`,
  commands: ({ key }) => show('shop.order.v1', key),
})

const orderOverdue: Check = {
  name: 'order-overdue',
  promise: `no order is pending ${overdueSeconds} s after its deadline`,
  at: { order: [] },
  looked: () => 'select count(*) from "order"',
  sql: () => `
    select id::text as subject, id::text as key, reservation_deadline as deadline,
      round(extract(epoch from now() - reservation_deadline))::integer as seconds
    from "order" where status = 'pending' and reservation_deadline < now() - interval '${overdueSeconds} seconds'`,
  message: ({ key, seconds }) =>
    `order ${key} is pending ${seconds} s after its deadline; it should have been cancelled: does the order service run, and is the row locked?`,
  commands: ({ key }) => [...show('shop.order.v1', key), shop('status')],
}

/** Stock, reservations and orders fit each other. */
export const orderChecks = (scope: Scope): Check[] => [
  stockLevel,
  reservationWithoutOrder,
  orderWithoutReservation,
  reservationState,
  reservationLines,
  orderUndecided(scope),
  orderOverdue,
]
