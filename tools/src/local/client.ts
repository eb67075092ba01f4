import { randomUUID } from 'node:crypto'
import { eventually } from '@shopstream/testing'
import type { RunningShop } from './state-folder.ts'

/** What a client knows of a shop. */
export type Reachable = Pick<RunningShop, 'gatewayUrl' | 'staff'>

export interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON the shop answers with
  body: any
  headers: Headers
}

export interface Call {
  body?: unknown
  token?: string | undefined
  headers?: Record<string, string>
  /** Gives up waiting for the answer. */
  signal?: AbortSignal
}

/** Calls the gateway as a client would. */
export async function call(
  shop: Pick<Reachable, 'gatewayUrl'>,
  method: string,
  path: string,
  { body, token, headers, signal }: Call = {},
): Promise<Answer> {
  const response = await fetch(`${shop.gatewayUrl}${path}`, {
    method,
    headers: {
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(token && { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(signal && { signal }),
    ...(body !== undefined && {
      body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
    }),
  } as RequestInit)
  const text = await response.text()
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text), headers: response.headers }
}

/** Tries again, as a good client does, while the shop says 5xx or does not answer; the key keeps that from acting twice. */
export async function persistently(shop: Reachable, method: string, path: string, request: Call = {}): Promise<Answer> {
  const headers = { 'idempotency-key': randomUUID(), ...request.headers }
  return eventually(
    `an answer to ${method} ${path}`,
    async () => {
      const answer = await call(shop, method, path, { ...request, headers })
      return answer.status < 500 && answer.body?.code !== 'request-in-progress' ? answer : undefined
    },
    { timeoutMs: 60_000, everyMs: 100 },
  ) as Promise<Answer>
}

export interface Customer {
  id: string
  email: string
  token: string
}

export const password = 'correct horse battery staple'

async function login(shop: Reachable, credentials: { email: string; password: string }): Promise<string> {
  return (await persistently(shop, 'POST', '/v1/sessions', { body: credentials })).body.accessToken
}

export async function register(shop: Reachable, displayName = 'Ada Lovelace'): Promise<Customer> {
  const email = `customer-${randomUUID()}@example.com`
  const { body } = await persistently(shop, 'POST', '/v1/users', { body: { email, password, displayName } })
  return { id: body.id, email, token: await login(shop, { email, password }) }
}

export const staffToken = (shop: Reachable) => login(shop, shop.staff)

/** Lists a product of its own and stocks it; waits until it can be ordered. Returns its sku. */
export async function stock(shop: Reachable, staff: string, pieces: number, amount = 1_000): Promise<string> {
  const sku = `sku-${randomUUID()}`
  const details = { name: 'A thing', description: 'For tests.', price: { amount, currency: 'EUR' } }
  await persistently(shop, 'PUT', `/v1/products/${sku}`, { token: staff, body: details })
  await persistently(shop, 'POST', `/v1/products/${sku}/stock-adjustments`, {
    token: staff,
    body: { delta: pieces, reason: 'delivery' },
  })
  return sku
}

const shippingAddress = {
  name: 'Ada Lovelace',
  line1: '12 St James Square',
  city: 'London',
  postalCode: 'SW1Y 4JH',
  country: 'GB',
}
export const orderOf = (sku: string, quantity = 1) => ({ items: [{ sku, quantity }], shippingAddress })

/** Places an order; waits while the product has not reached the order service yet. */
export async function order(
  shop: Reachable,
  token: string,
  sku: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const key = { 'idempotency-key': randomUUID() }
  return eventually(
    `an order of ${sku}`,
    async () => {
      const answer = await persistently(shop, 'POST', '/v1/orders', {
        token,
        body: orderOf(sku),
        headers: { ...key, ...headers },
      })
      return answer.body.code === 'unknown-product' ? undefined : answer
    },
    { timeoutMs: 30_000 },
  ) as Promise<Answer>
}

/** All orders of a customer, or of everyone for staff. */
export async function ordersOf(shop: Reachable, token: string) {
  const found: { id: string; status: string; items: { sku: string }[] }[] = []
  for (let cursor = ''; ; ) {
    const { body } = await persistently(shop, 'GET', `/v1/orders?limit=100${cursor}`, { token })
    found.push(...body.items)
    if (body.nextCursor === null) return found
    cursor = `&cursor=${body.nextCursor}`
  }
}

export const stockOf = async (shop: Reachable, staff: string, sku: string) =>
  (await persistently(shop, 'GET', `/v1/products/${sku}/stock`, { token: staff })).body
