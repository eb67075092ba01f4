import { sql } from '@shopstream/database'
import type { Reach } from '../shop/reach.ts'

/** Stock, reservations and orders of a shop at rest: everything in which they do not agree, a sentence each. */
export async function checkInvariants({ databases }: Reach): Promise<string[]> {
  const stock = await sql<{
    sku: string
    onHand: number
    reserved: number
    adjusted: bigint
    sold: bigint
    held: bigint
  }>`
    with line as (
      select state, line->>'sku' as sku, (line->>'quantity')::integer as quantity
      from reservation, jsonb_array_elements(lines) as line
    )
    select sku, on_hand "onHand", reserved,
      (select coalesce(sum(delta), 0) from stock_adjustment adjustment where adjustment.sku = stock.sku)::bigint as adjusted,
      (select coalesce(sum(quantity), 0) from line where line.sku = stock.sku and state = 'sold')::bigint as sold,
      (select coalesce(sum(quantity), 0) from line where line.sku = stock.sku and state = 'reserved')::bigint as held
    from stock`.execute(databases.inventory.query)
  const levels = stock.rows.flatMap(({ sku, onHand, reserved, adjusted, sold, held }) => {
    const found = []
    if (BigInt(onHand) !== adjusted - sold)
      found.push(`${sku}: ${onHand} on hand, but ${adjusted} were booked in and ${sold} sold`)
    if (BigInt(reserved) !== held) found.push(`${sku}: ${reserved} reserved, but reservations hold ${held}`)
    return found
  })
  const orders = await sql<{ id: string; status: string }>`select id, status from "order"`.execute(
    databases.order.query,
  )
  const reservations = await sql<{ id: string; state: string }>`
    select order_id "id", state from reservation`.execute(databases.inventory.query)
  const stateOf = new Map(reservations.rows.map(({ id, state }) => [id, state]))
  const statusOf = new Map(orders.rows.map(({ id, status }) => [id, status]))
  const mismatched = orders.rows.flatMap(({ id, status }) => {
    const state = stateOf.get(id)
    return fits[status]?.includes(state ?? 'missing')
      ? []
      : [`order ${id} is ${status}, its reservation ${state ?? 'missing'}`]
  })
  const orphans = reservations.rows.filter(({ id }) => !statusOf.has(id))
  return [...levels, ...mismatched, ...orphans.map(({ id }) => `the reservation of ${id} has no order`)]
}

const fits: Record<string, string[]> = {
  confirmed: ['reserved'],
  rejected: ['rejected'],
  shipped: ['sold'],
  delivered: ['sold'],
  cancelled: ['released', 'rejected'],
}
