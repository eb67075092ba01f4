import type { ForwardMeters } from '@shopstream/messaging/forwarding'
import { Counter, Gauge, type Registry } from '@shopstream/observability'
import type { Bridge } from './bridges.ts'

/** What came in, by what became of it. */
export interface ReceivedCounts {
  taken: number
  repeated: number
  dead: number
}

/** What is measured of bridges. */
export interface BridgeMeters {
  sending(bridge: string): ForwardMeters
  receiving(bridge: string): { count(counts: ReceivedCounts): void }
  /** Since when the broker is away; undefined: it is there. */
  away(bridge: string, since: Date | undefined): void
}

export function createBridgeMeters(registry: Registry, bridges: readonly Bridge[]): BridgeMeters {
  const registers = [registry]
  const sent = new Counter({
    name: 'shopstream_bridge_sent_total',
    help: 'Events that a bridge has handled, by what became of them: forwarded, skipped (they came from its broker), parked, or dead.',
    labelNames: ['bridge', 'type', 'outcome'],
    registers,
  })
  const received = new Counter({
    name: 'shopstream_bridge_received_total',
    help: 'Messages that came in by a bridge: taken, repeated (dropped, as they had come before), or dead.',
    labelNames: ['bridge', 'outcome'],
    registers,
  })
  const lag = new Gauge({
    name: 'shopstream_bridge_lag_messages',
    help: 'Messages of a topic that a bridge has not handled yet.',
    labelNames: ['bridge', 'topic'],
    registers,
  })
  const age = new Gauge({
    name: 'shopstream_bridge_backlog_seconds',
    help: 'Age of the oldest message of a topic that a bridge has not handled yet.',
    labelNames: ['bridge', 'topic'],
    registers,
  })
  const away = new Gauge({
    name: 'shopstream_bridge_away_seconds',
    help: "For how long a bridge's broker has been away, or has taken nothing; 0 while it is there.",
    labelNames: ['bridge'],
    registers,
  })
  for (const { name: bridge, direction, events } of bridges) {
    away.set({ bridge }, 0)
    if (direction === 'receive')
      for (const outcome of ['taken', 'repeated', 'dead']) received.inc({ bridge, outcome }, 0)
    else
      for (const type of events)
        for (const outcome of ['forwarded', 'skipped', 'parked', 'dead']) sent.inc({ bridge, type, outcome }, 0)
  }
  return {
    sending: (bridge) => ({
      count: (type, outcome, events) => sent.inc({ bridge, type, outcome }, events),
      behind(topic, messages, seconds) {
        lag.set({ bridge, topic }, messages)
        age.set({ bridge, topic }, seconds ?? 0)
      },
    }),
    receiving: (bridge) => ({
      count(counts) {
        for (const [outcome, messages] of Object.entries(counts)) received.inc({ bridge, outcome }, messages)
      },
    }),
    away: (bridge, since) => away.set({ bridge }, since ? (Date.now() - since.getTime()) / 1_000 : 0),
  }
}
