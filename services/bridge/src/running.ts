import type { Database } from '@shopstream/database'
import type { BlockedPartitions, Bus } from '@shopstream/messaging/forwarding'
import type { Logger } from '@shopstream/observability'
import type { Bridge } from './bridges.ts'
import type { BridgeMeters } from './meters.ts'
import type { Tables } from './tables.ts'

/** What bridges run with. */
export interface Surroundings {
  /** By connections that requests cannot take. */
  database: Database<Tables>
  bus: Bus
  blocked: BlockedPartitions
  /** Why nothing more may be taken in: events wait for Kafka. */
  overloaded(): string | undefined
  meters: BridgeMeters
  logger: Logger
}

/** A bridge that runs. One that waits for its broker stops no other. */
export interface RunningBridge {
  readonly bridge: Bridge
  /** Bridges by which what it does not hand on came in: from its own broker. */
  readonly leavesOut: readonly string[]
  /** Since when the broker is away or takes nothing, and why; undefined: it is there. */
  away(): { since: Date; reason: string } | undefined
  /** Finishes what is in hand. */
  close(): Promise<void>
}
