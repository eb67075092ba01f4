import { type Kysely, sql, type Transaction } from '@shopstream/database'
import type { AnyNewEvent, KeyRange } from '@shopstream/messaging'
import { produces } from '../produces.ts'
import type { Tables } from '../tables.ts'
import { type Change, type Product, type ProductEventType, payloadOf } from './decide.ts'

interface ProductRow {
  sku: string
  name: string
  description: string
  price_amount: bigint
  price_currency: string
  retired: boolean
  version: number
  sequence: bigint
}

/** A product on sale with what is available of it. */
export type ListedProduct = Product & { available: number }

const toProduct = <Row extends ProductRow>({ price_amount, price_currency, ...row }: Row) => ({
  ...row,
  price: { amount: price_amount, currency: price_currency },
})

/** Locks a product, whether it is on sale or retired. */
export async function lockProduct(tx: Transaction<Tables>, sku: string): Promise<Product | undefined> {
  const row = await tx.selectFrom('product').selectAll().where('sku', '=', sku).forUpdate().executeTakeFirst()
  return row && toProduct(row)
}

/** Holds other writers of a sku back until this transaction ends, also when the product does not exist yet. */
export async function lockSku(tx: Transaction<Tables>, sku: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`sku ${sku}`}, 0))`.execute(tx)
}

/** Writes a decided change and its event. */
export async function applyChange(tx: Transaction<Tables>, change: NonNullable<Change>): Promise<void> {
  const { type, product } = change
  const { sku, name, description, price, retired, version, sequence } = product
  const values = {
    name,
    description,
    price_amount: price.amount,
    price_currency: price.currency,
    retired,
    version,
    sequence,
  }
  await tx
    .insertInto('product')
    .values({ sku, ...values })
    .onConflict((conflict) => conflict.column('sku').doUpdateSet({ ...values, updated_at: sql`now()` }))
    .execute()
  await tx
    .insertInto('stock')
    .values({ sku })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  await produces.emit(tx, [{ type, key: sku, sequence, data: payloadOf(product) }])
}

const listed = (query: Kysely<Tables>) =>
  query
    .selectFrom('product')
    .innerJoin('stock', 'stock.sku', 'product.sku')
    .selectAll('product')
    .select(sql<number>`stock.on_hand - stock.reserved`.as('available'))
    .where('retired', '=', false)

/** A product on sale. */
export async function findListed(query: Kysely<Tables>, sku: string): Promise<ListedProduct | undefined> {
  const row = await listed(query).where('product.sku', '=', sku).executeTakeFirst()
  return row && toProduct(row)
}

/** Products on sale by sku, after the given one. */
export async function listListed(
  query: Kysely<Tables>,
  limit: number,
  after: string | undefined,
): Promise<ListedProduct[]> {
  const all = listed(query).orderBy('product.sku').limit(limit)
  const rows = await (after === undefined ? all : all.where('product.sku', '>', after)).execute()
  return rows.map(toProduct)
}

/** The present state of products as events, for `republish`. */
export async function currentProducts(
  tx: Transaction<Tables>,
  { key, after, limit }: KeyRange,
): Promise<AnyNewEvent<ProductEventType>[]> {
  let products = tx.selectFrom('product').selectAll().orderBy('sku').limit(limit).forUpdate()
  if (key !== undefined) products = products.where('sku', '=', key)
  if (after !== undefined) products = products.where('sku', '>', after)
  return (await products.execute()).map(toProduct).map((product) => ({
    type: product.retired ? 'ProductRetired' : product.sequence === 1n ? 'ProductListed' : 'ProductChanged',
    key: product.sku,
    sequence: product.sequence,
    data: payloadOf(product),
  }))
}
