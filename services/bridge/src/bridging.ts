import { randomUUID } from 'node:crypto'
import type { Database } from '@shopstream/database'
import { pause } from '@shopstream/messaging'
import type { Logger } from '@shopstream/observability'
import type { Bridge } from './bridges.ts'
import { forgetInstance, noteBridges } from './noting.ts'
import type { RunningBridge, Surroundings } from './running.ts'
import type { Tables } from './tables.ts'

/** How often what operators see of the bridges is written down, in ms. */
const noteMs = 5_000

/** How often what older instances have noted is forgotten where there is no bridge, in ms. */
const noneMs = 60_000

/** Starts all bridges, and notes in the table `bridge` how they are. Never throws for an absent broker. */
export async function startBridges(bridges: readonly Bridge[], around: Surroundings) {
  const running = await Promise.all(
    bridges.map(async (bridge) => {
      const own = { ...around, logger: around.logger.child({ bridge: bridge.name }) }
      // Loaded here: what takes in has a library of its own, and a table without rows needs neither.
      if (bridge.direction === 'send') return (await import('./sending.ts')).startSending(bridge, bridges, own)
      return (await import('./receiving/receive.ts')).startReceiving(bridge, own)
    }),
  )
  const instance = randomUUID()
  const stopping = new AbortController()
  const noting = noteEach(running, instance, around, stopping.signal)
  return {
    async close() {
      stopping.abort()
      await noting
      await forgetInstance(around.database, instance).catch(() => {}) // it is forgotten soon after its last word
      await Promise.all(running.map((one) => one.close()))
    },
  }
}

/** Where the table has no row nothing runs, and operators see none. Returns what ends that. */
export function startNone(database: Database<Tables>, logger: Logger): () => Promise<void> {
  const stopping = new AbortController()
  const forgetting = (async () => {
    while (!stopping.signal.aborted) {
      await noteBridges(database, randomUUID(), []).then(
        (gone) => tellGone(gone, logger),
        (error) => logger.warn({ err: error }, 'bridges that are gone are forgotten later'),
      )
      await pause(noneMs, stopping.signal)
    }
  })()
  return async () => {
    stopping.abort()
    await forgetting
  }
}

async function noteEach(
  running: readonly RunningBridge[],
  instance: string,
  around: Surroundings,
  stop: AbortSignal,
): Promise<void> {
  const { database, meters, logger } = around
  while (!stop.aborted) {
    for (const { bridge, away } of running) meters.away(bridge.name, away()?.since)
    const notes = running.map(({ bridge, leavesOut, away }) => ({ bridge, leavesOut, away: away() }))
    await noteBridges(database, instance, notes).then(
      (gone) => tellGone(gone, logger),
      (error) => logger.warn({ err: error }, 'how the bridges are could not be noted'),
    )
    await pause(noteMs, stop)
  }
}

/** A row may have been taken out by mistake, or have got another name, which makes a new bridge of it. */
function tellGone(gone: readonly string[], logger: Logger): void {
  for (const bridge of gone)
    logger.warn({ bridge }, 'no table has this bridge any more: nothing is handed on or taken in under its name')
}
