import { sql, type Transaction } from '@shopstream/database'
import { produces } from '../produces.ts'
import { levelsChanged, lockStock, type Stock, writeStock } from '../stock/queries.ts'
import type { Tables } from '../tables.ts'
import { decide, type OrderEvent, type Reservation } from './decide.ts'

/** Handles a chunk of order events: locks, decides in their order, writes sets. */
export async function applyOrderEvents(tx: Transaction<Tables>, messages: OrderEvent[]): Promise<void> {
  const reservations = await lockReservations(tx, messages)
  const stock = await lockStock(tx, skusOf(messages, reservations))
  const before = new Map([...stock].map(([sku, level]) => [sku, { ...level }]))
  const touched = new Set<string>()
  const events = messages.flatMap((message) => {
    const decided = decide({ stock, reservations }, message)
    if (decided.length > 0) touched.add(message.key)
    return decided
  })
  await writeReservations(
    tx,
    [...touched].map((orderId) => reservations.get(orderId) as Reservation),
  )
  const changed = [...stock.values()].filter((level) => hasMoved(level, before.get(level.sku)))
  await writeStock(tx, changed)
  await produces.emit(tx, [...events, ...levelsChanged(changed, messages.at(-1))])
}

const hasMoved = (now: Stock, then: Stock | undefined) => now.onHand !== then?.onHand || now.reserved !== then.reserved

function skusOf(messages: OrderEvent[], reservations: Map<string, Reservation>): string[] {
  const ordered = messages.flatMap(({ type, data }) => (type === 'OrderPlaced' ? data.lines : []))
  const reserved = [...reservations.values()].flatMap(({ lines }) => lines)
  return [...ordered, ...reserved].map(({ sku }) => sku)
}

async function lockReservations(tx: Transaction<Tables>, messages: OrderEvent[]): Promise<Map<string, Reservation>> {
  const { rows } = await sql<Reservation>`
    select order_id as "orderId", state, lines, sequence from reservation
    where order_id = any(${messages.map(({ key }) => key)}::uuid[])
    order by order_id for update`.execute(tx)
  return new Map(rows.map((row) => [row.orderId, row]))
}

async function writeReservations(tx: Transaction<Tables>, reservations: Reservation[]): Promise<void> {
  await sql`
    insert into reservation (order_id, state, lines, sequence)
    select * from unnest(
      ${reservations.map(({ orderId }) => orderId)}::uuid[], ${reservations.map(({ state }) => state)}::text[],
      ${reservations.map(({ lines }) => JSON.stringify(lines))}::jsonb[], ${reservations.map(({ sequence }) => sequence)}::bigint[])
    on conflict (order_id) do update
      set state = excluded.state, sequence = excluded.sequence, updated_at = now()`.execute(tx)
}
