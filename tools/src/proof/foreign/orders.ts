import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { partitionOf, topicOf } from '@shopstream/events'
import { type Answer, call, orderOf, type Reachable, register, staffToken, stock } from '../../local/client.ts'

/** An order as its buyer saw it; times in ms since 1970. */
export interface Order {
  /** Undefined: nobody has accepted it. */
  id?: string
  /** Of its events in shop.order.v1 and shop.reservation.v1; -1 without an id. */
  partition: number
  postedAt: number
  /** When the answer came that it was decided. */
  decidedAt?: number
  /** The last that was heard of it. */
  status: string
}

/** Buyers with their tokens, and something that they can buy. */
export interface Buyers {
  tokens: readonly string[]
  sku: string
}

const { partitions } = topicOf('OrderPlaced')
/** What Prefer takes at the most. */
const waitSeconds = 30
/** A good client asks again for so long. */
const patienceMs = 180_000

/** Registers `count` customers, and stocks more than anyone will order. Tokens are good for 15 minutes. */
export async function inviteBuyers(shop: Reachable, count: number): Promise<Buyers> {
  const sku = await stock(shop, await staffToken(shop), 1_000_000)
  const customers = await Promise.all(Array.from({ length: count }, () => register(shop)))
  return { sku, tokens: customers.map(({ token }) => token) }
}

export interface Placing {
  count: number
  lastingMs: number
  /** Orders go on at the same rate until this is settled. */
  until?: Promise<unknown>
  signal: AbortSignal
}

/** Places orders evenly, whatever becomes of the earlier ones. Returns when the last is posted. */
export async function placeOrders(
  shop: Reachable,
  { tokens, sku }: Buyers,
  { count, lastingMs, until, signal }: Placing,
): Promise<Promise<Order>[]> {
  let isOver = until === undefined
  const over = () => {
    isOver = true
  }
  until?.then(over, over)
  const begun = performance.now()
  const placed: Promise<Order>[] = []
  for (let n = 0; n < count || !isOver; n++) {
    await delay(Math.max(0, begun + (n * lastingMs) / count - performance.now()), undefined, { signal })
    placed.push(follow(shop, tokens[n % tokens.length] as string, sku))
  }
  return placed
}

/** One order, from its post until it is decided; repeated with its key and asked for again, as a good client does. */
async function follow(shop: Reachable, token: string, sku: string): Promise<Order> {
  const order: Order = { partition: -1, postedAt: Date.now(), status: 'not answered' }
  const key = randomUUID()
  while (order.decidedAt === undefined && Date.now() < order.postedAt + patienceMs) {
    const answer = await ask(shop, order.id, { token, sku, key })
    if (!answer || answer.status >= 400) {
      order.status = answer ? `refused: ${answer.status} ${answer.body?.code}` : 'not answered'
      if (answer && answer.status < 500 && answer.status !== 429 && answer.body?.code !== 'request-in-progress') break
      await delay(100)
      continue
    }
    const id: string = answer.body.id
    Object.assign(order, { id, partition: partitionOf(id, partitions), status: answer.body.status })
    if (order.status !== 'pending') order.decidedAt = Date.now()
  }
  return order
}

/** Posts it, or asks for it once it has an id; undefined without an answer. */
function ask(
  shop: Reachable,
  id: string | undefined,
  { token, sku, key }: { token: string; sku: string; key: string },
): Promise<Answer | undefined> {
  const signal = AbortSignal.timeout((waitSeconds + 10) * 1_000)
  const headers = { prefer: `wait=${waitSeconds}` }
  const asked =
    id === undefined
      ? call(shop, 'POST', '/v1/orders', {
          token,
          signal,
          body: orderOf(sku),
          headers: { ...headers, 'idempotency-key': key },
        })
      : call(shop, 'GET', `/v1/orders/${id}`, { token, signal, headers })
  return asked.catch(() => undefined)
}
