import { sql, type Transaction } from '@shopstream/database'
import type { Message } from '@shopstream/messaging'
import type { Tables } from '../tables.ts'

export interface Stock {
  sku: string
  onHand: number
  reserved: number
  sequence: bigint
  /** A retired product cannot be reserved any more. */
  sellable: boolean
}

/**
 * Locks stock rows in sku order and reads them. The order is what keeps two of these from waiting for each other; an
 * UPDATE ... FROM (... ORDER BY) does not lock in order (measured: 6-16 against 132-137 batches/s with 4 workers).
 */
export async function lockStock(tx: Transaction<Tables>, skus: string[]): Promise<Map<string, Stock>> {
  const { rows } = await sql<Stock>`
    select stock.sku, on_hand as "onHand", reserved, stock.sequence, not product.retired as sellable
    from stock join product using (sku)
    where stock.sku = any(${[...new Set(skus)]}::text[])
    order by stock.sku for update of stock`.execute(tx)
  return new Map(rows.map((row) => [row.sku, row]))
}

/** Writes levels back and raises their sequence; the given objects are brought up to date. */
export async function writeStock(tx: Transaction<Tables>, levels: Stock[]): Promise<void> {
  for (const level of levels) level.sequence += 1n
  await sql`
    update stock set on_hand = level.on_hand, reserved = level.reserved, sequence = level.sequence
    from unnest(
      ${levels.map(({ sku }) => sku)}::text[], ${levels.map(({ onHand }) => onHand)}::integer[],
      ${levels.map(({ reserved }) => reserved)}::integer[], ${levels.map(({ sequence }) => sequence)}::bigint[]
    ) as level (sku, on_hand, reserved, sequence)
    where stock.sku = level.sku`.execute(tx)
}

/** One StockLevelChanged per sku and transaction: it carries the whole level, so steps in between add nothing. */
export const levelsChanged = (levels: readonly Stock[], causedBy?: Pick<Message, 'id' | 'traceparent'>) =>
  levels.map(({ sku, onHand, reserved, sequence }) => ({
    type: 'StockLevelChanged' as const,
    key: sku,
    sequence,
    data: { sku, onHand, reserved, available: onHand - reserved },
    ...(causedBy && { causedBy }),
  }))
