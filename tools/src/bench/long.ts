/** What only shows once a shop is large, or something lasts long: a million orders, a dump, a mailing to everybody. */
import { openSession, type Session } from '@shopstream/database'
import { eventually } from '@shopstream/testing'
import { call, staffToken } from '../local/client.ts'
import { type Shop, startShop } from '../local/shop.ts'
import { owners } from '../operations/shop-access.ts'
import { inWords, measureThroughput } from './arm.ts'
import { openShop, type RunningShop } from './arm-ours.ts'
import type { Grown } from './data.ts'
import { skuOf } from './fill.ts'
import { memoryOf, type Say, treeOf } from './measure.ts'
import { compared, type Result } from './results.ts'
import { mustBeRight } from './verify.ts'

const rounds = 3
/** With which the shop does the most. */
const buyers = 128
const warmUpSeconds = 10

/** Orders a second of so many rounds. */
async function play(running: RunningShop, times: number, seconds: number, say: Say): Promise<number[]> {
  const figures: number[] = []
  for (let round = 1; round <= times; round++) {
    const found = await measureThroughput(running, buyers, seconds)
    say(inWords(found))
    figures.push(found.perSecond)
  }
  return figures
}

/** With all the orders, inbox rows and products of a large shop there already, beside an empty one. */
export async function grown(say: Say, { seconds, grown }: { seconds: number; grown: Grown }): Promise<Result[]> {
  const { orders, products } = grown.contents
  const apart = Math.max(1, Math.floor(products / buyers))
  const skus = Array.from({ length: buyers }, (_, n) => skuOf((n * apart) % products))
  const kept = { home: await grown.home(), skus }
  const [large, empty]: [number[], number[]] = [[], []]
  for (let round = 1; round <= rounds; round++) {
    for (const [name, figures, there] of [
      [`of ${orders} orders`, large, kept],
      ['that is empty', empty, undefined],
    ] as const) {
      say(`round ${round} of ${rounds}: a shop ${name}`)
      const running = await openShop(buyers, buyers, there)
      try {
        await play(running, 1, warmUpSeconds, () => {})
        figures.push(...(await play(running, 1, seconds, say)))
      } finally {
        await running.stop()
      }
    }
  }
  const reference = { name: 'an empty shop', figures: empty }
  return [compared({ name: 'grown', unit: 'orders/s', goal: 0.9, ours: large, reference })]
}

/** A snapshot is held for so many rounds: ten minutes of 20 s each. */
const roundsUnderSnapshot = 30

/** While somebody holds a snapshot of each database, as dumps do: its last rounds, beside those before and after. */
export async function snapshot(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const running = await openShop(buyers, buyers)
  try {
    await play(running, 1, warmUpSeconds, () => {})
    const free = await play(running, rounds, seconds, say)
    const holding = await holdSnapshots(running.shop)
    say(`snapshots are held for ${(roundsUnderSnapshot * seconds) / 60} minutes`)
    const held = await play(running, roundsUnderSnapshot, seconds, say)
    for (const session of holding) await session.query('commit') // throws when it was not held to the end
    await Promise.all(holding.map((session) => session.close()))
    say('snapshots are let go of')
    free.push(...(await play(running, rounds, seconds, say)))
    await mustBeRight(running.shop.home, say)
    const reference = { name: 'none held', figures: free }
    return [compared({ name: 'snapshot', unit: 'orders/s', goal: 0.8, ours: held.slice(-rounds), reference })]
  } finally {
    await running.stop()
  }
}

/** As dumps ask for: services' own transactions end after seconds without a statement. */
const unlimited = { idle_in_transaction_session_timeout: 0, transaction_timeout: 0 }

async function holdSnapshots(shop: Shop): Promise<Session[]> {
  const opened = owners.map(async (owner) => {
    const session = await openSession(shop.databaseUrl(owner), 'bench', unlimited)
    await session.query('begin isolation level repeatable read')
    await session.query('select count(*) from outbox')
    return session
  })
  return Promise.all(opened)
}

/** A mailing to everybody: until all are sent, and the memory of who sends them. */
export async function mailing(say: Say, { grown }: { grown: Grown }) {
  const shop = await startShop({ home: await grown.home() })
  try {
    const token = await staffToken(shop)
    const begun = performance.now()
    const { status, headers } = await call(shop, 'POST', '/v1/mailings', {
      token,
      headers: { 'idempotency-key': `mailing-${begun}` },
      body: { subject: 'News', text: 'All is well.' },
    })
    const place = headers.get('location')
    if (status !== 202 || place === null) throw new Error(`a mailing was answered with ${status}`)
    let memoryMB = 0
    const done = await eventually(
      'the mailing to be through',
      async () => {
        memoryMB = Math.max(memoryMB, memoryOf(treeOf(process.pid)).notification ?? 0)
        const { body } = await call(shop, 'GET', place, { token })
        return body.state === 'done' && body
      },
      { timeoutMs: 1_200_000, everyMs: 1_000 },
    )
    const seconds = Math.round((performance.now() - begun) / 100) / 10
    const { recipients, sent, failed } = done
    say(
      `${sent} of ${recipients} mails sent, ${failed} failed, in ${seconds} s; at most ${memoryMB} MB in notification`,
    )
    return { recipients, sent, failed, seconds, memoryMB }
  } finally {
    await shop.stop()
  }
}
