import { setTimeout as delay } from 'node:timers/promises'
import type { Client, Credentials, Wish } from './client.ts'
import type { Operation } from './ledger.ts'
import type { Random } from './random.ts'

/** The products that are there from the beginning; few, and some of them scarce, so that orders meet at them. */
export const skus = ['common', 'wanted', 'scarce', 'heavy', 'rare', 'plenty']
const priceOf = (sku: string) => ({ amount: 100 * (1 + sku.length), currency: 'EUR' })
const firstStock = 60

/** How often a customer and staff do what. */
const wishes = { order: 10, cancel: 3, read: 4, list: 1 }
const duties = { adjust: 6, ship: 8, deliver: 5, cancel: 1, read: 2, product: 1 }

/** What one step needs of chance, always drawn in full, so that later steps do not depend on what came of earlier ones. */
function draw(random: Random) {
  return {
    pauseMs: random.between(20, 700),
    /** Which of several orders, as a share of their number. */
    choice: random.next(),
    lines: [...new Set(Array.from({ length: random.whole(1, 3) }, () => random.pick(skus)))].map((sku) => ({
      sku,
      quantity: random.whole(1, 3),
    })),
    delta: random.chance(0.85) ? random.whole(5, 40) : -random.whole(1, 20),
    waitSeconds: random.chance(0.3) ? random.whole(1, 3) : undefined,
    /** One in seven looks away before the answer is there. */
    patienceMs: random.chance(0.15) ? random.between(5, 250) : undefined,
    persists: random.chance(0.8),
    /** Whether the same is sent once more after it was answered. */
    repeats: random.chance(0.15),
  }
}
type Draw = ReturnType<typeof draw>

const address = (key: string) => ({
  name: 'Ada Lovelace',
  line1: '12 St James Square',
  line2: key, // shows in the order which request it came from
  city: 'London',
  postalCode: 'SW1Y 4JH',
  country: 'GB',
})

/** Runs until stopped; a step that was begun is finished. Sends what is to be repeated twice, with the same key. */
async function live(
  random: Random,
  stop: AbortSignal,
  step: (drawn: Draw, n: number) => Promise<Wish | undefined>,
  client: Client,
) {
  for (let n = 1; !stop.aborted; n++) {
    const drawn = draw(random)
    await delay(drawn.pauseMs, undefined, { signal: stop }).catch(() => {}) // stopped
    if (stop.aborted) return
    const wish = await step(drawn, n)
    if (!wish) continue
    const patience = drawn.patienceMs === undefined ? {} : { patienceMs: drawn.patienceMs, persists: drawn.persists }
    await client.perform({ ...wish, ...patience })
    if (drawn.repeats && wish.key) await client.perform(wish)
  }
}

/** A customer's life: registers, then orders, cancels and looks at the orders until stopped. */
export async function liveAsCustomer(
  client: Client,
  { email, password }: Credentials,
  random: Random,
  stop: AbortSignal,
) {
  const body = { email, password, displayName: 'Ada Lovelace' }
  while (!stop.aborted) {
    const { attempts } = await client.perform({ kind: 'register', method: 'POST', path: '/v1/users', body })
    if (attempts.some(({ status, code }) => status === 201 || code === 'email-taken')) break
  }
  const own: string[] = []
  const remember = ({ kind, attempts }: Operation) => {
    const id = attempts.at(-1)?.body?.id
    if (kind === 'order' && id && !own.includes(id)) own.push(id)
  }
  const remembering: Client = {
    name: client.name,
    async perform(wish) {
      const operation = await client.perform(wish)
      remember(operation)
      return operation
    },
  }
  await live(
    random,
    stop,
    async (drawn, n) => {
      const kind = random.weighted(wishes)
      const key = `${client.name}-${n}`
      const id = own[Math.floor(drawn.choice * own.length)]
      const wait = drawn.waitSeconds
      const headers: Record<string, string> = wait === undefined ? {} : { prefer: `wait=${wait}` }
      if (kind === 'order') {
        const order = { items: drawn.lines, shippingAddress: address(key) }
        return { kind, method: 'POST', path: '/v1/orders', body: order, key, headers }
      }
      if (kind === 'list') return { kind, method: 'GET', path: '/v1/orders?limit=20' }
      if (id === undefined) return undefined
      if (kind === 'read') return { kind, method: 'GET', path: `/v1/orders/${id}`, headers }
      return { kind, method: 'POST', path: `/v1/orders/${id}/cancel`, body: { reason: key }, key }
    },
    remembering,
  )
}

/** Lists the products and stocks them: the first thing that staff do. */
export async function openShop(client: Client) {
  for (const sku of skus) {
    await client.perform(listing(sku, `${client.name}-list-${sku}`))
    await client.perform(adjustment(sku, firstStock, `${client.name}-stock-${sku}`))
  }
}

const listing = (sku: string, key: string): Wish => ({
  kind: 'product',
  method: 'PUT',
  path: `/v1/products/${sku}`,
  body: { name: sku, description: 'For chaos.', price: priceOf(sku) },
  key,
})

const adjustment = (sku: string, delta: number, key: string): Wish => ({
  kind: 'adjust',
  method: 'POST',
  path: `/v1/products/${sku}/stock-adjustments`,
  body: { delta, reason: key },
  key,
})

/** Staff's day: stock, ship, deliver, sometimes cancel for a customer, until stopped. */
export async function liveAsStaff(client: Client, random: Random, stop: AbortSignal) {
  const find = async (status: string, choice: number): Promise<string | undefined> => {
    const path = `/v1/orders?limit=50&status=${status}`
    const { attempts } = await client.perform({ kind: 'list', method: 'GET', path })
    const items: { id: string }[] = attempts.at(-1)?.body?.items ?? []
    return items[Math.floor(choice * items.length)]?.id
  }
  await live(
    random,
    stop,
    async ({ choice, delta, lines }, n) => {
      const kind = random.weighted(duties)
      const key = `${client.name}-${n}`
      const sku = lines[0]?.sku ?? ''
      if (kind === 'adjust') return adjustment(sku, delta, key)
      if (kind === 'product') return listing(`chaos-${key}`, key)
      if (kind === 'read') return { kind, method: 'GET', path: `/v1/products/${sku}` }
      const id = await find(kind === 'deliver' ? 'shipped' : 'confirmed', choice)
      if (!id) return undefined
      const path = `/v1/orders/${id}`
      if (kind === 'ship')
        return { kind, method: 'POST', path: `${path}/shipment`, body: { carrier: 'Post', trackingNumber: key }, key }
      if (kind === 'deliver') return { kind, method: 'POST', path: `${path}/delivery`, key }
      return { kind, method: 'POST', path: `${path}/cancel`, body: { reason: key }, key }
    },
    client,
  )
}
