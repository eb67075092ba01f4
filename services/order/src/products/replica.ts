import { sql, type Transaction } from '@shopstream/database'
import type { Money } from '@shopstream/events'
import type { Message } from '@shopstream/messaging'
import type { Tables } from '../tables.ts'

/** What the order service knows of a product. */
export interface KnownProduct {
  sku: string
  price: Money
  retired: boolean
}

type ProductMessage = Message<'ProductListed' | 'ProductChanged' | 'ProductRetired', 'sku' | 'price'>

/** Keeps the replica of the catalogue; what is older than the stored state is ignored. */
export async function keepProducts(tx: Transaction<Tables>, messages: ProductMessage[]): Promise<void> {
  const latest = [...Map.groupBy(messages, ({ key }) => key).values()].map((ofKey) =>
    ofKey.reduce((last, message) => (message.sequence > last.sequence ? message : last)),
  )
  await sql`
    insert into product as stored (sku, price_amount, price_currency, retired, sequence)
    select * from unnest(
      ${latest.map(({ data }) => data.sku)}::text[], ${latest.map(({ data }) => data.price.amount)}::bigint[],
      ${latest.map(({ data }) => data.price.currency)}::text[], ${latest.map(({ type }) => type === 'ProductRetired')}::boolean[],
      ${latest.map(({ sequence }) => sequence)}::bigint[])
    order by 1
    on conflict (sku) do update set price_amount = excluded.price_amount, price_currency = excluded.price_currency,
      retired = excluded.retired, sequence = excluded.sequence
    where stored.sequence < excluded.sequence`.execute(tx)
}

/** The known products among these skus, by sku. */
export async function findProducts(tx: Transaction<Tables>, skus: string[]): Promise<Map<string, KnownProduct>> {
  const rows = await tx.selectFrom('product').selectAll().where('sku', 'in', skus).execute()
  return new Map(
    rows.map(({ sku, price_amount, price_currency, retired }) => [
      sku,
      { sku, retired, price: { amount: price_amount, currency: price_currency } },
    ]),
  )
}
