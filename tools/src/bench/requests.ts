/** What one running shop does with requests of one kind: reads, orders of one product, and more than it can take at once. */
import { eventually } from '@shopstream/testing'
import { generate, inWords, measureThroughput, ordersOf } from './arm.ts'
import { openShop } from './arm-ours.ts'
import type { Say } from './measure.ts'
import { compared, inTurns, type Result, spreadOf } from './results.ts'

const rounds = 3
const readers = 32
const buyers = 128
const burstOrders = 5_000
const customers = 100

/** Reads of a product through the gateway, beside the same straight at the service. */
export async function gateway(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const running = await openShop(1, 1)
  try {
    const [token = '', sku] = [running.tokens[0], running.skus[0]]
    const clients = Array.from({ length: readers }, () => ({ token }))
    const read = async (url: string) => {
      const load = await generate({ url: `${url}/v1/products/${sku}`, method: 'GET', clients, seconds: seconds / 2 })
      return load.accepted / load.seconds
    }
    const { shop } = running
    const turns = await inTurns(say, {
      ours: () => read(shop.gatewayUrl),
      reference: () => read(shop.serviceUrls.inventory),
    })
    const reference = { name: 'at the service', figures: turns.reference }
    return [compared({ name: 'gateway', unit: 'reads/s', goal: 0.5, ours: turns.ours, reference })]
  } finally {
    await running.stop()
  }
}

/** Orders that all want one product, beside such that want each another, in turns on one shop. */
export async function hotSku(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const running = await openShop(buyers, buyers)
  try {
    const { url } = running.plan
    const one = { ...running, plan: { url, clients: ordersOf(running.tokens, running.skus.slice(0, 1)) } }
    const [hot, apart]: [number[], number[]] = [[], []]
    await measureThroughput(running, buyers, 5)
    for (let round = 1; round <= rounds; round++) {
      const [left, right] = [
        await measureThroughput(one, buyers, seconds),
        await measureThroughput(running, buyers, seconds),
      ]
      say(`round ${round}, one product: ${inWords(left)}`)
      say(`round ${round}, ${buyers} products: ${inWords(right)}`)
      hot.push(left.perSecond)
      apart.push(right.perSecond)
    }
    const reference = { name: `over ${buyers} products`, figures: apart }
    return [compared({ name: 'hot-sku', unit: 'orders/s', goal: 0.9, ours: hot, reference })]
  } finally {
    await running.stop()
  }
}

/** Thousands of orders as quickly as they can be sent, by clients that come again when they are told to. */
export async function burst(say: Say): Promise<Result[]> {
  const running = await openShop(customers)
  try {
    const { url, clients } = running.plan
    await measureThroughput(running, 32, 5)
    const all = Array.from({ length: burstOrders }, (_, n) => clients[n % customers] as (typeof clients)[number])
    const before = await running.confirmed()
    const begun = performance.now()
    const perSecond = burstOrders
    const load = await generate({ url, clients: all, requests: burstOrders, perSecond, seconds: 120 })
    await eventually('all orders to be decided', async () => (await running.confirmed()) - before >= burstOrders, {
      timeoutMs: 120_000,
      everyMs: 20,
    })
    const decided = (performance.now() - begun) / 1_000
    say(`${burstOrders} orders in a second: ${load.accepted} accepted, the last after ${load.seconds.toFixed(1)} s`)
    say(`refused at first: ${JSON.stringify(load.refused)}; all decided after ${decided.toFixed(1)} s`)
    const result = (name: string, figure: number) => ({ name, unit: 's', ours: spreadOf([figure]) })
    return [result('burst: all accepted', load.seconds), result('burst: all decided', decided)]
  } finally {
    await running.stop()
  }
}
