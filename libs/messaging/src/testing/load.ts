import { expect } from '@jest/globals'
import { sql } from '@shopstream/database'
import { eventually } from '@shopstream/testing'
import { pause } from '../async.ts'
import { atRest, type TestShop, upTo } from './shop.ts'
import { stockEvent } from './stock.ts'

/** For what takes its time while parts are down. */
export const patience = { timeoutMs: 120_000, everyMs: 100 }

/** In all partitions. */
export const keys = upTo(12).map((n) => `sku-${n}`)

/** A round is the next event of each key; rounds are numbered from 1. */
export interface Load {
  /** The last round that was begun. */
  readonly rounds: number
  /** Waits until a round has taken effect for every key. */
  handled(round: number): Promise<void>
  /** Emits no more; returns the last round. */
  stop(): Promise<number>
  /**
   * Stops; waits until all is at rest; expects that everything took effect once and in order, stands in the topic, and
   * nothing is parked. `others` are the sequences of keys that are not of the load.
   */
  finish(others?: Record<string, number[]>): Promise<void>
}

/**
 * Emits round after round, from `first` on. It waits for the consumers once they are a hundred rounds behind: the backlog
 * of an outage would otherwise grow with its length, and a busy machine might not handle it within the patience of a test.
 */
export function startLoad(shop: TestShop, first = 1): Load {
  const stopping = new AbortController()
  let rounds = first - 1
  const consumersToFollow = async () => {
    while (!stopping.signal.aborted && rounds - Math.max(first, await lastHandled(shop)) > 100) await pause(200)
  }
  const running = (async () => {
    while (!stopping.signal.aborted) {
      rounds += 1
      await shop.emit(...keys.map((key) => stockEvent(key, BigInt(rounds))))
      await pause(150) // 12 keys each time: a busy machine has to handle more than comes
      if (rounds % 10 === 0) await consumersToFollow()
    }
  })()
  running.catch(() => undefined) // told by finish
  return {
    get rounds() {
      return rounds
    },
    handled: (round) => handledRound(shop, round),
    async stop() {
      stopping.abort()
      await running
      return rounds
    },
    async finish(others) {
      await this.stop()
      await expectRounds(shop, rounds, others)
    },
  }
}

/** The highest round of which something has taken effect; some partitions may be further behind. */
async function lastHandled(shop: TestShop): Promise<number> {
  const { rows } = await sql<{ round: bigint | null }>`
    select max(sequence) as round from effect where key like 'sku-%'`.execute(shop.database.query)
  return Number(rows[0]?.round ?? 0)
}

/** As {@link Load.handled}, for rounds that were emitted by hand. */
export async function handledRound(shop: TestShop, round: number): Promise<void> {
  const isHandled = async () => {
    // Counted by the database: reading all effects each time took most of the processors' time.
    const { rows } = await sql<{ count: bigint }>`
      select count(*) from effect where sequence = ${round} and key like 'sku-%'`.execute(shop.database.query)
    return Number(rows[0]?.count) >= keys.length
  }
  await eventually(`round ${round} to be handled`, isHandled, patience)
}

/** As {@link Load.finish}. */
export async function expectRounds(shop: TestShop, rounds: number, others: Record<string, number[]> = {}) {
  const all = { ...Object.fromEntries(keys.map((key) => [key, upTo(rounds)])), ...others }
  expect(await atRest(shop, patience.timeoutMs)).toEqual({ effects: all, stored: all })
  expect(await shop.parked()).toEqual([])
}
