/** Takes orders, and decides each by what inventory says. Environment: PORT, TOKEN_SECRET, and core.ts's. */
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto'
import { fastify } from 'fastify'
import { consume, enqueue, relay, transaction } from './core.ts'

const { PORT, TOKEN_SECRET = '' } = process.env
const app = fastify()

/** A token is who it is for, a dot, and that under our secret. */
function customerOf(authorization = ''): string | undefined {
  const [customer = '', signature = ''] = authorization.replace('Bearer ', '').split('.')
  const expected = createHmac('sha256', TOKEN_SECRET).update(customer).digest()
  const given = Buffer.from(signature, 'base64url')
  return given.length === expected.length && timingSafeEqual(given, expected) ? customer : undefined
}

interface Body {
  items: { sku: string; quantity: number }[]
  shippingAddress: Record<string, unknown>
}

const text = { type: 'string', minLength: 1, maxLength: 200 }
const body = {
  type: 'object',
  required: ['items', 'shippingAddress'],
  properties: {
    items: {
      type: 'array',
      minItems: 1,
      maxItems: 50,
      items: {
        type: 'object',
        required: ['sku', 'quantity'],
        properties: { sku: text, quantity: { type: 'integer', minimum: 1, maximum: 100 } },
      },
    },
    shippingAddress: { type: 'object' },
  },
}

app.post<{ Body: Body }>('/v1/orders', { schema: { body } }, async (request, reply) => {
  const customer = customerOf(request.headers.authorization)
  if (!customer) return reply.code(401).send({ code: 'unauthenticated' })
  const { items, shippingAddress } = request.body
  const key = String(request.headers['idempotency-key'] ?? randomUUID())
  const answer = await transaction(async (sql) => {
    const claimed = await sql('insert into idempotency_key (customer, key) values ($1, $2) on conflict do nothing', [
      customer,
      key,
    ])
    if (claimed.rowCount === 0) {
      const kept = await sql('select answer from idempotency_key where customer = $1 and key = $2', [customer, key])
      return kept.rows[0].answer
    }
    const products = await sql('select sku, price_amount from product where sku = any($1) and not retired', [
      items.map(({ sku }) => sku),
    ])
    const prices = new Map(products.rows.map(({ sku, price_amount }) => [sku, Number(price_amount)]))
    if (items.some(({ sku }) => !prices.has(sku)))
      throw Object.assign(new Error('unknown product'), { statusCode: 422 })
    const id = randomUUID()
    const lines = items.map(({ sku, quantity }) => ({ sku, quantity, unitPrice: prices.get(sku) as number }))
    const total = lines.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
    const at = new Date().toISOString()
    await sql(
      `insert into shop_order values ($1, $2, 'pending', $3, $4, $5, $6, now() + interval '1 minute', now(), now())`,
      [
        id,
        customer,
        JSON.stringify(lines),
        total,
        JSON.stringify(shippingAddress),
        JSON.stringify([{ status: 'pending', at }]),
      ],
    )
    const placed = { id, customer, status: 'pending', lines, total }
    await enqueue(sql, 'usual.order', 'OrderPlaced', id, placed)
    await sql('update idempotency_key set answer = $3 where customer = $1 and key = $2', [
      customer,
      key,
      JSON.stringify(placed),
    ])
    return placed
  })
  return reply.code(201).send(answer)
})

await consume('usual-order', ['usual.reservation'], async (sql, { type, key }) => {
  const status = type === 'StockReserved' ? 'confirmed' : 'rejected'
  const step = JSON.stringify([{ status, at: new Date().toISOString() }])
  const { rows } = await sql(
    `update shop_order set status = $2, history = history || $3, updated_at = now()
     where id = $1 and status = 'pending' returning customer, lines, total_amount`,
    [key, status, step],
  )
  const [decided] = rows
  if (!decided) return
  const { customer, lines, total_amount: total } = decided
  const event = status === 'confirmed' ? 'OrderConfirmed' : 'OrderRejected'
  await enqueue(sql, 'usual.order', event, key, { id: key, customer, lines, total: Number(total) })
})
await app.listen({ host: '127.0.0.1', port: Number(PORT) })
process.stdout.write('serving\n')
await relay()
