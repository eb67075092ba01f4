import { randomUUID } from 'node:crypto'
import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { temporaryFolder } from '@shopstream/testing'
import { call, order, orderOf, register, staffToken, stock } from '../stack/client.ts'
import { startShop } from '../stack/shop.ts'
import { cpuOf, inWords, listed, type Say, spread, treeOf } from './measure.ts'

const warmUps = 30
const counted = 200
const idleSeconds = 20

/** One order after the other on a shop at rest: how long until it is decided, until it is taken, and a read beside them. */
export async function rest(say: Say) {
  const home = temporaryFolder('bench')
  const shop = await startShop({ home })
  try {
    const staff = await staffToken(shop)
    const { token } = await register(shop)
    const sku = await stock(shop, staff, 100_000)
    await order(shop, token, sku, { prefer: 'wait=10' })
    const place = (headers: Record<string, string>) =>
      call(shop, 'POST', '/v1/orders', {
        token,
        body: orderOf(sku),
        headers: { 'idempotency-key': randomUUID(), ...headers },
      })
    const kinds = {
      'order until decided': async () => (await place({ prefer: 'wait=10' })).body.status === 'confirmed',
      'order until taken': async () => (await place({})).status === 201,
      'read of a product': async () => (await call(shop, 'GET', `/v1/products/${sku}`)).status === 200,
    }
    const figures: Record<string, ReturnType<typeof spread>> = {}
    for (const [kind, once] of Object.entries(kinds)) {
      const times = []
      for (let n = 0; n < warmUps + counted; n++) {
        const begun = performance.now()
        if (!(await once())) throw new Error(`${kind}: not the expected answer`)
        if (n >= warmUps) times.push(performance.now() - begun)
      }
      figures[kind] = spread(times)
      say(`${kind}, ${counted} one after the other: ${inWords(figures[kind], 'ms')}`)
    }
    const idle = await idleCpu()
    say(`CPU while idle, of one core: ${listed(idle, ' %')}`)
    return { milliseconds: figures, idleCpuPercent: idle }
  } finally {
    await shop.stop()
    rmSync(home, { recursive: true, force: true })
  }
}

/** Share of one core that each part uses while nothing happens, in percent. */
async function idleCpu(): Promise<Record<string, number>> {
  await delay(3_000) // what the orders left to do is done
  const before = cpuOf(treeOf(process.pid))
  await delay(idleSeconds * 1_000)
  const after = cpuOf(treeOf(process.pid))
  return Object.fromEntries(
    Object.entries(after).map(([part, used]) => [part, ((used - (before[part] ?? 0)) / idleSeconds) * 100]),
  )
}
