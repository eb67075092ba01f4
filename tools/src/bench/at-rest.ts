import { randomUUID } from 'node:crypto'
import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { temporaryFolder } from '@shopstream/testing'
import { call, order, orderOf } from '../local/client.ts'
import { openShop } from './arm-ours.ts'
import { cpuOf, inWords, listed, memoryOf, type Say, spread, total, usedPer } from './measure.ts'
import { type Result, spreadOf } from './results.ts'
import { startAsUser } from './start-time.ts'

const warmUps = 30
const counted = 200
const idleSeconds = 20
const idleRounds = 3

/** One order after the other on a shop at rest: how long until it is decided, until it is taken, and a read beside them. */
export async function rest(say: Say) {
  const running = await openShop(1, 1)
  try {
    const { shop } = running
    const [token = '', sku = ''] = [running.tokens[0], running.skus[0]]
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
    return { milliseconds: figures }
  } finally {
    await running.stop()
  }
}

/** What the whole stack takes while nobody uses it. */
export async function idle(say: Say): Promise<Result[]> {
  const home = temporaryFolder('bench')
  const started = await startAsUser(home)
  try {
    await delay(5_000) // what the start left to do is done
    const perMinute: number[] = []
    for (let round = 1; round <= idleRounds; round++) {
      const before = cpuOf(started.tree())
      await delay(idleSeconds * 1_000)
      const parts = usedPer(idleSeconds / 60, before, cpuOf(started.tree()))
      say(`CPU seconds a minute: ${listed(parts, '')}`)
      perMinute.push(total(parts))
    }
    const memory = memoryOf(started.tree())
    say(`memory: ${listed(memory, ' MB')}`)
    return [
      { name: 'idle', unit: 'CPU s/minute', ours: spreadOf(perMinute), goal: 8 },
      { name: 'idle memory', unit: 'MB', ours: spreadOf([total(memory)]), goal: 850 },
    ]
  } finally {
    await started.stop()
    rmSync(home, { recursive: true, force: true })
  }
}
