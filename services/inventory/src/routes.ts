import { Type } from '@shopstream/config'
import type { Database, Transaction } from '@shopstream/database'
import { line, Price, page, printable, type Route, reply, route, Sku, toMoney, toPrice } from '@shopstream/http'
import { put, retire } from './catalogue/decide.ts'
import { applyChange, findListed, type ListedProduct, listListed, lockProduct, lockSku } from './catalogue/queries.ts'
import { errors } from './errors.ts'
import { adjustStock } from './stock/adjust.ts'
import type { Stock } from './stock/queries.ts'
import type { Tables } from './tables.ts'

const Product = Type.Object({
  sku: Sku,
  name: Type.String(),
  description: Type.String(),
  price: Price,
  available: Type.Integer(),
  version: Type.Integer(),
})
const ProductBody = Type.Object({ name: line(200), description: printable(5_000), price: Price })
const Level = Type.Object({ sku: Sku, onHand: Type.Integer(), reserved: Type.Integer(), available: Type.Integer() })
const AdjustmentBody = Type.Object({
  delta: Type.Integer({
    minimum: -1_000_000_000,
    maximum: 1_000_000_000,
    description: 'Pieces that came, or went when negative.',
  }),
  reason: line(200),
})
const params = Type.Object({ sku: Sku })

const toProduct = ({ sku, name, description, price, available, version }: ListedProduct) => ({
  sku,
  name,
  description,
  price: toPrice(price),
  available,
  version,
})

const toLevel = ({ sku, onHand, reserved }: Stock) => ({ sku, onHand, reserved, available: onHand - reserved })

/** The table of inventory's routes. */
export const routes = (database: Database<Tables>): Route[] => [...productRoutes(database), ...stockRoutes(database)]

const productRoutes = (database: Database<Tables>): Route[] => [
  route({
    method: 'GET',
    url: '/v1/products',
    operationId: 'listProducts',
    summary: 'List the products on sale',
    access: 'anyone',
    schema: { query: Type.Object({ ...page.query }), response: { 200: page.list(Product) } },
    async handle({ query }) {
      const [after] = page.decodeCursor(query.cursor, ['text']) ?? []
      const products = await listListed(database.query, query.limit + 1, after)
      return reply.ok(page.of(products, query.limit, toProduct, ({ sku }) => [sku]))
    },
  }),
  route({
    method: 'GET',
    url: '/v1/products/:sku',
    operationId: 'getProduct',
    summary: 'Show a product',
    access: 'anyone',
    schema: { params, response: { 200: Product } },
    async handle({ params: { sku } }) {
      return reply.ok(toProduct(await mustFind(database, sku)))
    },
  }),
  route({
    method: 'PUT',
    url: '/v1/products/:sku',
    operationId: 'putProduct',
    summary: 'List a product or change it',
    access: 'staff',
    schema: { params, body: ProductBody, response: { 200: Product, 201: Product } },
    async handle({ params: { sku }, body, effect }) {
      const details = { ...body, price: toMoney(body.price) }
      return effect(async (tx: Transaction<Tables>) => {
        await lockSku(tx, sku)
        const current = await lockProduct(tx, sku)
        const change = put(current, sku, details)
        if (change) await applyChange(tx, change)
        const product = toProduct((await findListed(tx, sku)) as ListedProduct)
        return change?.type === 'ProductListed' ? reply.created(product, `/v1/products/${sku}`) : reply.ok(product)
      })
    },
  }),
  route({
    method: 'DELETE',
    url: '/v1/products/:sku',
    operationId: 'retireProduct',
    summary: 'Retire a product; orders that have it keep it',
    access: 'staff',
    schema: { params, response: { 204: Type.Null() } },
    async handle({ params: { sku }, effect }) {
      return effect(async (tx: Transaction<Tables>) => {
        const current = await lockProduct(tx, sku)
        if (!current) throw errors['product-not-found']()
        const change = retire(current)
        if (change) await applyChange(tx, change)
        return reply.noContent()
      })
    },
  }),
]

const stockRoutes = (database: Database<Tables>): Route[] => [
  route({
    method: 'GET',
    url: '/v1/products/:sku/stock',
    operationId: 'getStock',
    summary: 'Show what is on hand, reserved and available',
    access: 'staff',
    schema: { params, response: { 200: Level } },
    async handle({ params: { sku } }) {
      const row = await database.query.selectFrom('stock').selectAll().where('sku', '=', sku).executeTakeFirst()
      if (!row) throw errors['product-not-found']()
      return reply.ok(toLevel({ ...row, onHand: row.on_hand, sellable: true }))
    },
  }),
  route({
    method: 'POST',
    url: '/v1/products/:sku/stock-adjustments',
    operationId: 'adjustStock',
    summary: 'Book pieces in or out',
    access: 'staff',
    schema: { params, body: AdjustmentBody, response: { 201: Level } },
    async handle({ params: { sku }, body, user, effect }) {
      return effect(async (tx: Transaction<Tables>) =>
        reply.created(toLevel(await adjustStock(tx, { sku, ...body, madeBy: user.id }))),
      )
    },
  }),
]

async function mustFind(database: Database<Tables>, sku: string): Promise<ListedProduct> {
  const product = await findListed(database.query, sku)
  if (!product) throw errors['product-not-found']()
  return product
}
