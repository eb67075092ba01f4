import { newEventId } from '@shopstream/events'
import { generate, openCounter, startArm } from './arm.ts'
import { openShop } from './arm-ours.ts'
import type { Say } from './measure.ts'
import { connectPlain, type Statement } from './plain/postgres.ts'
import { compared, findBest, inTurns, type Result } from './results.ts'

const customers = 32
const mostClients = 256
const mostConnections = 64
const searchSeconds = 3
/** Rows of the service's own that the reference copies, so that nothing of them is simpler than what it writes. */
const models = 100

/**
 * Orders that the order service accepts a second while nobody else is at work, beside the same row of an order, one in each
 * transaction, by plain connections to the same database.
 */
export async function ingest(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const parts = await startParts()
  try {
    await accepted(parts, customers, 2 * searchSeconds) // to warm up, or the last number would be taken for the best
    const clients = await findBest('clients', say, mostClients, (atOnce) => accepted(parts, atOnce, searchSeconds))
    const order = await readModels(parts)
    const insert = (atOnce: number, lasting: number) => inserted(parts, order, atOnce, lasting)
    const connections = await findBest('connections', say, mostConnections, (atOnce) => insert(atOnce, searchSeconds))
    const turns = await inTurns(say, {
      ours: () => accepted(parts, clients, seconds / 3),
      reference: () => insert(connections, seconds / 3),
    })
    const reference = { name: `its row alone, ${connections} connections`, figures: turns.reference }
    return [compared({ name: 'ingest', unit: 'orders/s', goal: 0.8, ours: turns.ours, reference })]
  } finally {
    await parts.stop()
  }
}

type Parts = Awaited<ReturnType<typeof startParts>>

/** What reads the events of orders, or stands before the service, ends once there are customers and products. */
const startParts = () =>
  startArm(async (undo) => {
    const { shop, plan, stop } = await openShop(customers)
    undo.push(stop)
    const { order: _, ...others } = shop.services
    await Promise.all(Object.values(others).map((service) => service.stop(5_000)))
    const url = shop.databaseUrl('order')
    const orders = openCounter(url, 'select count(*)::int as n from "order"')
    undo.push(orders.close)
    return { url, orders, place: `${shop.serviceUrls.order}/v1/orders`, clients: plan.clients }
  })

/** Throws unless each request was accepted and has left a row. */
async function accepted({ orders, place, clients }: Parts, atOnce: number, seconds: number): Promise<number> {
  const before = await orders.count()
  const some = Array.from({ length: atOnce }, (_, n) => clients[n % customers] as (typeof clients)[number])
  const load = await generate({ url: place, clients: some, seconds })
  const written = (await orders.count()) - before
  if (written !== load.accepted || Object.keys(load.refused).length > 0)
    throw new Error(`${load.accepted} accepted, ${written} written; refused: ${JSON.stringify(load.refused)}`)
  return load.accepted / load.seconds
}

/** For a new id, the insert of a row that the service has written; its values as text, of which each column makes its own. */
async function readModels({ url }: Parts): Promise<(id: string, n: number) => Statement> {
  const [client] = await connectPlain(url, 1)
  if (!client) throw new Error('there is no connection')
  const columns = await client.run({
    text: `select attname as name from pg_attribute where attrelid = '"order"'::regclass and attnum > 0 and not attisdropped`,
    values: [],
  })
  const names = columns.rows.map(({ name }) => `"${name}"`)
  const rows = await client.run({
    text: `select ${names.map((name) => `${name}::text`)} from "order" limit ${models}`,
    values: [],
  })
  await client.close()
  const text = `insert into "order" (${names}) values (${names.map((_, n) => `$${n + 1}`)})`
  return (id, n) => ({ text, values: Object.values({ ...rows.rows[n % rows.rows.length], id }) })
}

/** Throws unless each insert has left a row. */
async function inserted(
  { url, orders }: Parts,
  order: (id: string, n: number) => Statement,
  atOnce: number,
  seconds: number,
): Promise<number> {
  const before = await orders.count()
  const clients = await connectPlain(url, atOnce)
  let sent = 0
  const begun = performance.now()
  await Promise.all(
    clients.map(async ({ run }) => {
      while (performance.now() - begun < seconds * 1_000) await run(order(newEventId(), sent++))
    }),
  )
  const lasted = (performance.now() - begun) / 1_000
  await Promise.all(clients.map(({ close }) => close()))
  const written = (await orders.count()) - before
  if (written !== sent) throw new Error(`${sent} inserted, ${written} written`)
  return sent / lasted
}
