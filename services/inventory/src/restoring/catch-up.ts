import { sql, type Transaction } from '@shopstream/database'
import type { CatchUp, Message } from '@shopstream/messaging'
import { produces } from '../produces.ts'
import { levelsChanged, lockStock, writeStock } from '../stock/queries.ts'
import type { Tables } from '../tables.ts'

type ProductMessage = Message<'ProductListed' | 'ProductChanged' | 'ProductRetired'>
type LevelMessage = Message<'StockLevelChanged'>
type ReservationMessage = Message<'StockReserved' | 'StockRejected' | 'StockReleased' | 'StockSold'>

const stateAfter = {
  StockReserved: 'reserved',
  StockRejected: 'rejected',
  StockReleased: 'released',
  StockSold: 'sold',
} as const

/**
 * Adopts what this service has published but its restored tables do not know: others have acted on it, so a new
 * decision could contradict it. Events of products and levels hold the full state. A level may have been lost with the
 * outbox although the reservation of the same transaction was published before. So the reserved amount follows from the
 * reservations, and what was sold after the last known level is subtracted.
 */
export function catchUp(): CatchUp {
  /** Event id of the newest known level, by sku. Ids are ordered by time. */
  const levels = new Map<string, string>()
  /** Pieces sold after that level, by sku. */
  const soldAfter = new Map<string, number>()
  return {
    topics: [
      { topic: 'shop.product.v1', adopt: (tx, messages) => adoptProducts(tx, messages as ProductMessage[]) },
      {
        topic: 'shop.stock.v1',
        adopt(tx, messages) {
          for (const { key, id } of messages) if (id > (levels.get(key) ?? '')) levels.set(key, id)
          return adoptLevels(tx, messages as LevelMessage[])
        },
      },
      {
        topic: 'shop.reservation.v1',
        async adopt(tx, messages) {
          const adopted = await adoptReservations(tx, messages as ReservationMessage[])
          for (const message of adopted.filter(({ type }) => type === 'StockSold')) {
            for (const { sku, quantity } of linesOf(message))
              if (message.id > (levels.get(sku) ?? '')) soldAfter.set(sku, (soldAfter.get(sku) ?? 0) + quantity)
          }
          return adopted.length
        },
      },
    ],
    async settle(tx) {
      await settleLevels(tx, soldAfter)
      const skus = await settleAdjustments(tx)
      if (skus.length === 0) return []
      return [
        `who adjusted the stock of ${skus.length} products, and why: one adjustment each stands for it (${skus.join(', ')})`,
      ]
    },
  }
}

/** The last message of each key. */
const lastOfEach = <M extends Message>(messages: readonly M[]): M[] =>
  [...Map.groupBy(messages, ({ key }) => key).values()].map((ofKey) =>
    ofKey.reduce((last, message) => (message.sequence > last.sequence ? message : last)),
  )

async function adoptProducts(tx: Transaction<Tables>, messages: ProductMessage[]): Promise<number> {
  const latest = lastOfEach(messages)
  const { rows } = await sql`
    insert into product as stored (sku, name, description, price_amount, price_currency, version, retired, sequence)
    select * from unnest(
      ${latest.map(({ key }) => key)}::text[], ${latest.map(({ data }) => data.name)}::text[],
      ${latest.map(({ data }) => data.description)}::text[], ${latest.map(({ data }) => data.price.amount)}::bigint[],
      ${latest.map(({ data }) => data.price.currency)}::text[], ${latest.map(({ data }) => data.version)}::integer[],
      ${latest.map(({ type }) => type === 'ProductRetired')}::boolean[], ${latest.map(({ sequence }) => sequence)}::bigint[])
    on conflict (sku) do update set name = excluded.name, description = excluded.description,
      price_amount = excluded.price_amount, price_currency = excluded.price_currency, version = excluded.version,
      retired = excluded.retired, sequence = excluded.sequence, updated_at = now()
    where stored.sequence < excluded.sequence
    returning sku`.execute(tx)
  await sql`insert into stock (sku) select unnest(${latest.map(({ key }) => key)}::text[]) on conflict do nothing`.execute(
    tx,
  )
  return rows.length
}

async function adoptLevels(tx: Transaction<Tables>, messages: LevelMessage[]): Promise<number> {
  const latest = lastOfEach(messages)
  const { rows } = await sql`
    update stock set on_hand = level.on_hand, reserved = level.reserved, sequence = level.sequence
    from unnest(
      ${latest.map(({ key }) => key)}::text[], ${latest.map(({ data }) => data.onHand)}::integer[],
      ${latest.map(({ data }) => data.reserved)}::integer[], ${latest.map(({ sequence }) => sequence)}::bigint[]
    ) as level (sku, on_hand, reserved, sequence)
    where stock.sku = level.sku and stock.sequence < level.sequence
    returning stock.sku`.execute(tx)
  return rows.length
}

/** Returns the messages that were news. A rejected reservation only tells the lines that were short. */
async function adoptReservations(
  tx: Transaction<Tables>,
  messages: ReservationMessage[],
): Promise<ReservationMessage[]> {
  const known = await sql<{ orderId: string; sequence: bigint }>`
    select order_id "orderId", sequence from reservation
    where order_id = any(${messages.map(({ key }) => key)}::uuid[])`.execute(tx)
  const sequences = new Map(known.rows.map(({ orderId, sequence }) => [orderId, sequence]))
  const once = [...new Map(messages.map((message) => [message.id, message])).values()]
  const news = once.filter(({ key, sequence }) => sequence > (sequences.get(key) ?? 0n))
  const latest = lastOfEach(news)
  await sql`
    insert into reservation as stored (order_id, state, lines, sequence)
    select * from unnest(
      ${latest.map(({ key }) => key)}::uuid[], ${latest.map(({ type }) => stateAfter[type])}::text[],
      ${latest.map((message) => JSON.stringify(linesOf(message)))}::jsonb[], ${latest.map(({ sequence }) => sequence)}::bigint[])
    on conflict (order_id) do update
      set state = excluded.state, lines = excluded.lines, sequence = excluded.sequence, updated_at = now()`.execute(tx)
  return news
}

const linesOf = ({ data }: ReservationMessage) =>
  'lines' in data ? data.lines : data.shortages.map(({ sku, requested }) => ({ sku, quantity: requested }))

/** Announces the levels that differ from what the reservations hold, or from what was sold since. */
async function settleLevels(tx: Transaction<Tables>, soldAfter: ReadonlyMap<string, number>): Promise<void> {
  const { rows } = await sql<{ sku: string; held: number }>`
    with held as (
      select line->>'sku' as sku, sum((line->>'quantity')::integer)::integer as pieces
      from reservation, jsonb_array_elements(lines) as line where state = 'reserved' group by 1
    )
    select sku, coalesce(pieces, 0) as held from stock left join held using (sku)
    where reserved <> coalesce(pieces, 0) or sku = any(${[...soldAfter.keys()]}::text[])`.execute(tx)
  const stock = await lockStock(
    tx,
    rows.map(({ sku }) => sku),
  )
  const held = new Map(rows.map((row) => [row.sku, row.held]))
  const levels = [...stock.values()].map((level) => ({
    ...level,
    onHand: level.onHand - (soldAfter.get(level.sku) ?? 0),
    reserved: held.get(level.sku) ?? 0,
  }))
  await writeStock(tx, levels)
  await produces.emit(tx, levelsChanged(levels))
}

/** On hand = adjustments - sold. Adjustments travel in no event, so one per sku stands for those that were lost. */
async function settleAdjustments(tx: Transaction<Tables>): Promise<string[]> {
  const { rows } = await sql<{ sku: string }>`
    with sold as (
      select sku, sum(pieces)::integer as pieces from (
        select line->>'sku' as sku, (line->>'quantity')::bigint as pieces
        from reservation, jsonb_array_elements(lines) as line where state = 'sold'
        union all select key, amount from archived_sum where "table" = 'reservation'
      ) as moved group by 1
    ), adjusted as (
      select sku, sum(delta) as pieces from stock_adjustment group by 1
    ), lost as (
      select sku, on_hand + coalesce(sold.pieces, 0) - coalesce(adjusted.pieces, 0) as delta
      from stock left join sold using (sku) left join adjusted using (sku)
    )
    insert into stock_adjustment (id, sku, delta, reason, made_by)
    select gen_random_uuid(), sku, delta, 'lost when the database was restored', '00000000-0000-0000-0000-000000000000'
    from lost where delta <> 0
    returning sku`.execute(tx)
  return rows.map(({ sku }) => sku).sort()
}
