import type { Database } from '@shopstream/database'
import { pause } from '@shopstream/messaging'
import type { Bridge } from './bridges.ts'
import { startReceiving } from './receiving/receive.ts'
import type { RunningBridge, Surroundings } from './running.ts'
import { startSending } from './sending.ts'
import type { Tables } from './tables.ts'

/** How often what operators see of the bridges is written down, in ms. */
const noteMs = 5_000

/** Starts all bridges, and notes in the table `bridge` how they are. Never throws for an absent broker. */
export function startBridges(bridges: readonly Bridge[], around: Surroundings) {
  const running = bridges.map((bridge) => {
    const own = { ...around, logger: around.logger.child({ bridge: bridge.name }) }
    return bridge.direction === 'send' ? startSending(bridge, bridges, own) : startReceiving(bridge, own)
  })
  const stopping = new AbortController()
  const noting = noteEach(running, around, stopping.signal)
  return {
    async close() {
      stopping.abort()
      await noting
      await Promise.all(running.map((one) => one.close()))
    },
  }
}

async function noteEach(running: readonly RunningBridge[], around: Surroundings, stop: AbortSignal): Promise<void> {
  const { database, meters, logger } = around
  while (!stop.aborted) {
    for (const { bridge, away } of running) meters.away(bridge.name, away()?.since)
    await note(database, running).catch((error) =>
      logger.warn({ err: error }, 'how the bridges are could not be noted'),
    )
    await pause(noteMs, stop)
  }
}

/** Bridges that are not in the table any more are forgotten; what they have parked stays. */
async function note({ transaction }: Database<Tables>, running: readonly RunningBridge[]): Promise<void> {
  await transaction(async (tx) => {
    const names = running.map(({ bridge }) => bridge.name)
    await tx
      .deleteFrom('bridge')
      .where('name', 'not in', [...names, ''])
      .execute()
    if (running.length === 0) return
    const rows = running.map(({ bridge: { name, direction, kind, events }, away }) => ({
      name,
      direction,
      kind,
      events: [...events],
      away_since: away()?.since ?? null,
      away_reason: away()?.reason ?? null,
      seen_at: new Date(),
    }))
    await tx
      .insertInto('bridge')
      .values(rows)
      .onConflict((conflict) =>
        conflict.column('name').doUpdateSet((row) => ({
          direction: row.ref('excluded.direction'),
          kind: row.ref('excluded.kind'),
          events: row.ref('excluded.events'),
          away_since: row.ref('excluded.away_since'),
          away_reason: row.ref('excluded.away_reason'),
          seen_at: row.ref('excluded.seen_at'),
        })),
      )
      .execute()
  })
}
