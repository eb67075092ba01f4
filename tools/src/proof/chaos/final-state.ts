import { sql } from '@shopstream/database'
import { call, persistently } from '../../local/client.ts'
import { type Owner, owners } from '../../operations/shop-access.ts'
import type { FinalState, OrderView } from './answers.ts'
import type { Credentials } from './client.ts'
import type { Arena } from './shop-under-chaos.ts'

/** What the shop says at rest, asked as its clients ask, and what its databases hold. */
export async function readFinalState(
  arena: Arena,
  customers: ReadonlyMap<string, Credentials>,
  skus: readonly string[],
): Promise<Omit<FinalState, 'mailFaults'>> {
  const { shop, reach } = arena
  const staff = await login(arena, shop.staff)
  const ownOrders = new Map<string, Set<string>>()
  const accounts = new Map<string, string>()
  for (const [name, credentials] of customers) {
    const token = await login(arena, credentials)
    if (token === undefined) continue // it never managed to register
    accounts.set(name, (await persistently(shop, 'GET', '/v1/users/me', { token })).body.id)
    ownOrders.set(name, new Set((await allOrders(arena, token)).map(({ id }) => id)))
  }
  const products = new Map()
  for (const sku of skus) {
    const { status, body } = await persistently(shop, 'GET', `/v1/products/${sku}`)
    if (status === 200) products.set(sku, body)
  }
  const adjustments = await sql<FinalState['adjustments'][number]>`
    select sku, delta, reason from stock_adjustment where reason like 'staff-%'`.execute(
    reach.databases.inventory.query,
  )
  return {
    orders: new Map((await allOrders(arena, staff)).map((order) => [order.id, order])),
    ownOrders,
    accounts,
    products,
    adjustments: adjustments.rows,
    mails: arena.mails().map(({ subject, to, headers, time, unanswered }) => ({
      subject,
      to,
      messageId: headers['message-id'] ?? '',
      at: Date.parse(time),
      ...(unanswered && { unanswered }),
    })),
  }
}

async function login({ shop }: Arena, { email, password }: Credentials): Promise<string | undefined> {
  const { body } = await persistently(shop, 'POST', '/v1/sessions', { body: { email, password } })
  return body.accessToken
}

async function allOrders({ shop }: Arena, token: string | undefined): Promise<OrderView[]> {
  const found: OrderView[] = []
  for (let cursor = ''; ; ) {
    const { status, body } = await call(shop, 'GET', `/v1/orders?limit=100${cursor}`, { token })
    if (status !== 200) throw new Error(`the orders cannot be listed at rest: ${status} ${body?.code}`)
    found.push(...body.items)
    if (body.nextCursor === null) return found
    cursor = `&cursor=${body.nextCursor}`
  }
}

/** Dead letters, by service: nothing that chaos does makes a message bad, so each is a fault of the shop's. */
export async function deadLetters({ reach }: Arena): Promise<string[]> {
  const perOwner = owners.map(async (owner: Owner) => {
    const { rows } = await sql<{ topic: string; key: string; error: string }>`
      select topic, key, error from parked_message where state = 'dead'`.execute(reach.databases[owner].query)
    return rows.map(({ topic, key, error }) => `${owner} gave up on a message of ${topic}, key ${key}: ${error}`)
  })
  return (await Promise.all(perOwner)).flat()
}
