import { randomUUID } from 'node:crypto'
import { pause } from '@shopstream/messaging'
import type { Bridge } from './bridges.ts'
import { forgetInstance, noteBridges } from './noting.ts'
import { startReceiving } from './receiving/receive.ts'
import type { RunningBridge, Surroundings } from './running.ts'
import { startSending } from './sending.ts'

/** How often what operators see of the bridges is written down, in ms. */
const noteMs = 5_000

/** Starts all bridges, and notes in the table `bridge` how they are. Never throws for an absent broker. */
export function startBridges(bridges: readonly Bridge[], around: Surroundings) {
  const running = bridges.map((bridge) => {
    const own = { ...around, logger: around.logger.child({ bridge: bridge.name }) }
    return bridge.direction === 'send' ? startSending(bridge, bridges, own) : startReceiving(bridge, own)
  })
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

async function noteEach(
  running: readonly RunningBridge[],
  instance: string,
  around: Surroundings,
  stop: AbortSignal,
): Promise<void> {
  const { database, meters, logger } = around
  while (!stop.aborted) {
    for (const { bridge, away } of running) meters.away(bridge.name, away()?.since)
    const notes = running.map(({ bridge, away }) => ({ bridge, away: away() }))
    await noteBridges(database, instance, notes).catch((error) =>
      logger.warn({ err: error }, 'how the bridges are could not be noted'),
    )
    await pause(noteMs, stop)
  }
}
