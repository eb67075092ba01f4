import { randomUUID } from 'node:crypto'
import { openSession } from '@shopstream/database'
import { call, orderOf } from '../local/client.ts'
import type { Shop } from '../local/shop.ts'
import { openShop } from './arm-ours.ts'
import { cpuOf, inWords, listed, type Say, spread, total, treeOf, usedPer } from './measure.ts'

const clients = 32
const warmUpSeconds = 10
const roundSeconds = 20
const rounds = 3

/** Clients that place an order as soon as the one before is decided: orders per second, and the CPU of each part for one. */
export async function cost(say: Say) {
  const running = await openShop(clients, 1)
  try {
    const { shop, tokens } = running
    const [sku = ''] = running.skus
    say(`${clients} clients; ${warmUpSeconds} s to warm up, then ${rounds} rounds of ${roundSeconds} s`)
    await play(shop, tokens, sku, warmUpSeconds)
    const measured = []
    for (let round = 1; round <= rounds; round++) {
      const one = await play(shop, tokens, sku, roundSeconds)
      say(`${one.perSecond.toFixed(1)} orders/s; CPU ms per order: ${listed(one.cpu, '')}`)
      say(`of Postgres per order: ${listed(one.written, '')}`)
      measured.push(one)
    }
    const times = measured.flatMap(({ latencies }) => latencies)
    const perSecond = spread(measured.map((one) => one.perSecond))
    const cpuMs = spread(measured.map(({ cpu }) => total(ofTheShop(cpu))))
    say(`orders/s: ${inWords(perSecond, '')}`)
    say(`CPU ms per order, all but the load generator: ${inWords(cpuMs, '')}`)
    say(`from POST to decided: ${inWords(spread(times), 'ms')}`)
    return {
      perSecond,
      cpuMsPerOrder: cpuMs,
      milliseconds: spread(times),
      rounds: measured.map(({ cpu, written }) => ({ cpu, written })),
    }
  } finally {
    await running.stop()
  }
}

/** This process is the load generator, the supervisor and the mail server: no part of the shop. */
const ofTheShop = ({ 'npm and the stack': _, ...cpu }: Record<string, number>) => cpu

async function play(shop: Shop, tokens: readonly string[], sku: string, seconds: number) {
  const before = cpuOf(treeOf(process.pid))
  const writtenBefore = await writtenBy(shop)
  const begun = performance.now()
  const latencies: number[] = []
  const oneAfterTheOther = async (token: string) => {
    while (performance.now() - begun < seconds * 1_000) {
      const posted = performance.now()
      const { body } = await call(shop, 'POST', '/v1/orders', {
        token,
        body: orderOf(sku),
        headers: { prefer: 'wait=30', 'idempotency-key': randomUUID() },
      })
      if (body.status !== 'confirmed') throw new Error(`an order was answered with ${JSON.stringify(body)}`)
      latencies.push(performance.now() - posted)
    }
  }
  await Promise.all(tokens.map(oneAfterTheOther))
  const lasted = (performance.now() - begun) / 1_000
  const after = cpuOf(treeOf(process.pid))
  const written = usedPer(latencies.length, writtenBefore, await writtenBy(shop))
  return {
    perSecond: latencies.length / lasted,
    cpu: usedPer(latencies.length / 1_000, before, after),
    written,
    latencies,
  }
}

/** What Postgres has done so far: it does not depend on what else the machine does. */
async function writtenBy({ postgres }: Shop): Promise<Record<string, number>> {
  const session = await openSession(postgres.url, 'bench', {})
  try {
    const [row] = await session.query<Record<string, number>>(`
      select sum(xact_commit)::float8 as transactions, sum(tup_inserted)::float8 as "rows inserted",
        sum(tup_updated)::float8 as "rows updated", sum(tup_deleted)::float8 as "rows deleted",
        (pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') / 1024)::float8 as "KiB of WAL"
      from pg_stat_database`)
    return row ?? {}
  } finally {
    await session.close()
  }
}
