import { type Database, sql } from '@shopstream/database'
import { adjustStock } from '../stock/adjust.ts'
import type { Tables } from '../tables.ts'
import { put } from './decide.ts'
import { applyChange, lockProduct } from './queries.ts'

const eur = (amount: bigint) => ({ amount, currency: 'EUR' })

/** What a fresh local shop sells; prices in cents. */
const catalogue = [
  {
    sku: 'coffee-beans-1kg',
    name: 'Coffee beans, 1 kg',
    description: 'Medium roast from Huehuetenango.',
    price: eur(2190n),
    stock: 200,
  },
  {
    sku: 'tea-sencha-100g',
    name: 'Sencha, 100 g',
    description: 'Green tea of the first harvest.',
    price: eur(1290n),
    stock: 120,
  },
  {
    sku: 'mug-enamel',
    name: 'Enamel mug',
    description: 'Holds 350 ml and survives a fall.',
    price: eur(1450n),
    stock: 80,
  },
  { sku: 'grinder-hand', name: 'Hand grinder', description: 'Steel burrs, 24 settings.', price: eur(8900n), stock: 25 },
  {
    sku: 'kettle-gooseneck',
    name: 'Gooseneck kettle',
    description: 'One litre, for the stove.',
    price: eur(5400n),
    stock: 10,
  },
]

/** Who made an adjustment that no person made. */
const nobody = '00000000-0000-0000-0000-000000000000'

/** Lists the catalogue when there is no product yet; true when it did. Safe to call from several instances at once. */
export async function seedCatalogue(database: Database<Tables>): Promise<boolean> {
  return database.transaction(async (tx) => {
    await sql`select pg_advisory_xact_lock(hashtext('seed-catalogue'))`.execute(tx)
    const existing = await tx.selectFrom('product').select('sku').limit(1).executeTakeFirst()
    if (existing) return false
    for (const { sku, stock, ...details } of catalogue) {
      const change = put(await lockProduct(tx, sku), sku, details)
      if (change) await applyChange(tx, change)
      await adjustStock(tx, { sku, delta: stock, reason: 'first stock', madeBy: nobody })
    }
    return true
  })
}
