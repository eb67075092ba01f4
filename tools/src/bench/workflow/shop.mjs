/**
 * The saga as durable workflows on Postgres: one process and one database. Each step is one statement that may run again, as
 * its result is noted after it; a workflow bears the request's idempotency key, so a repeated request starts no other.
 * Environment: DATABASE_URL, PORT, POOL_SIZE; `node shop.mjs SKUS` fills the tables first.
 */
import { DBOS } from '@dbos-inc/dbos-sdk'
import { fastify } from 'fastify'
import pg from 'pg'

const { DATABASE_URL, PORT, POOL_SIZE } = process.env
const database = new pg.Pool({ connectionString: DATABASE_URL, max: Number(POOL_SIZE) })
const outOfStock = '23514'

/** A statement is prepared once in each connection; its name is its step's. */
const statement = (name, text) => async (values) => (await database.query({ name, text, values })).rows

const insertOrder = statement(
  'place',
  `insert into shop_order (id, customer, status, lines, total_amount, shipping_address)
   select $1, $2, 'pending', jsonb_agg(jsonb_build_object('sku', sku, 'quantity', quantity, 'amount', amount)),
     sum(amount * quantity), $4
   from jsonb_to_recordset($3) as wanted (sku text, quantity integer) join product using (sku)
   having count(*) = jsonb_array_length($3)
   on conflict (id) do nothing`,
)
const reserveLines = statement(
  'reserve',
  `with mine as (
     insert into reservation (order_id, state, lines) values ($1, 'reserved', $2)
     on conflict (order_id) do nothing returning order_id)
   update stock set reserved = reserved + quantity
   from jsonb_to_recordset($2) as wanted (sku text, quantity integer), mine
   where stock.sku = wanted.sku`,
)
const reject = statement(
  'reject',
  `insert into reservation (order_id, state, lines) values ($1, 'rejected', $2) on conflict (order_id) do nothing`,
)
const decide = statement('decide', `update shop_order set status = $2 where id = $1 and status = 'pending'`)
const writeMail = statement(
  'mail',
  `insert into mail (order_id, recipient, subject, body)
   select id, customer, 'Your order is confirmed', format('Thank you for your order %s: %s cents', id, total_amount)
   from shop_order where id = $1
   on conflict (order_id) do nothing`,
)

async function reserve(id, lines) {
  try {
    await reserveLines([id, lines])
    return true
  } catch (error) {
    if (error.code !== outOfStock) throw error
    await reject([id, lines])
    return false
  }
}

const again = { retriesAllowed: true, maxAttempts: 10 }

const fulfil = DBOS.registerWorkflow(
  async (id, { customer, items, shippingAddress }) => {
    const lines = JSON.stringify(items)
    const address = JSON.stringify(shippingAddress)
    await DBOS.runStep(() => insertOrder([id, customer, lines, address]), { name: 'place', ...again })
    const isReserved = await DBOS.runStep(() => reserve(id, lines), { name: 'reserve', ...again })
    const status = isReserved ? 'confirmed' : 'rejected'
    await DBOS.runStep(() => decide([id, status]), { name: 'decide', ...again })
    if (isReserved) await DBOS.runStep(() => writeMail([id]), { name: 'tell the buyer', ...again })
  },
  { name: 'fulfil' },
)

const tables = `
  create table product (sku text primary key, amount bigint not null);
  create table stock (sku text primary key, on_hand integer not null, reserved integer not null default 0,
    check (reserved <= on_hand));
  create table shop_order (id uuid primary key, customer text not null, status text not null, lines jsonb not null,
    total_amount bigint not null, shipping_address jsonb not null, placed_at timestamptz not null default now());
  create index order_of_customer on shop_order (customer, id desc);
  create table reservation (order_id uuid primary key, state text not null, lines jsonb not null);
  create table mail (order_id uuid primary key, recipient text not null, subject text not null, body text not null,
    written_at timestamptz not null default now())`

async function fill(skus) {
  await database.query(tables)
  await database.query(`insert into product select 'sku-' || n, 1000 from generate_series(0, $1 - 1) as n`, [skus])
  await database.query('insert into stock select sku, 1000000000 from product')
}

async function serve() {
  const app = fastify()
  app.post('/orders', async (request, reply) => {
    const id = request.headers['idempotency-key']
    const customer = request.headers.authorization.replace('Bearer ', '')
    await DBOS.startWorkflow(fulfil, { workflowID: id })(id, { customer, ...request.body })
    return reply.code(202).send({ id, status: 'pending' })
  })
  DBOS.setConfig({
    name: 'shop',
    systemDatabaseUrl: DATABASE_URL,
    systemDatabasePoolSize: Number(POOL_SIZE),
    logLevel: 'warn',
    runAdminServer: false,
  })
  await DBOS.launch()
  await app.listen({ host: '127.0.0.1', port: Number(PORT) })
  process.stdout.write('serving\n')
}

if (process.argv[2]) await fill(Number(process.argv[2]))
await serve()
