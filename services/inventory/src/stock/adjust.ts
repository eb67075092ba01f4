import type { Transaction } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { errors } from '../errors.ts'
import { produces } from '../produces.ts'
import type { Tables } from '../tables.ts'
import { levelsChanged, lockStock, type Stock, writeStock } from './queries.ts'

/** Pieces of one sku at the most: what an Avro int and a Postgres integer hold, with room. */
const maxOnHand = 2_000_000_000

export interface Adjustment {
  sku: string
  /** Pieces that came (positive) or went (negative). */
  delta: number
  reason: string
  /** User id. */
  madeBy: string
}

/** The level after an adjustment. Throws `stock-below-zero` (what is reserved cannot go) and `stock-too-large`. */
function adjusted(level: Stock, delta: number): Stock {
  const onHand = level.onHand + delta
  if (onHand < level.reserved) throw errors['stock-below-zero']()
  if (onHand > maxOnHand) throw errors['stock-too-large']()
  return { ...level, onHand }
}

/** Adjusts the stock on hand and announces the new level. Throws `product-not-found`, and what {@link adjusted} throws. */
export async function adjustStock(tx: Transaction<Tables>, { sku, delta, reason, madeBy }: Adjustment): Promise<Stock> {
  const level = (await lockStock(tx, [sku])).get(sku)
  if (!level) throw errors['product-not-found']()
  const next = adjusted(level, delta)
  await writeStock(tx, [next])
  await tx.insertInto('stock_adjustment').values({ id: newEventId(), sku, delta, reason, made_by: madeBy }).execute()
  await produces.emit(tx, levelsChanged([next]))
  return next
}
