import type { Generated } from '@shopstream/database'

/** The tables of the bridge database, as migrations/ makes them. */
export interface Tables {
  bridge: BridgeRow
  bridge_instance: {
    bridge: string
    instance: string
    away_since: Date | null
    away_reason: string | null
    seen_at: Generated<Date>
  }
  received: { source: string; id: string; received_at: Generated<Date> }
  received_key: { topic: string; key: string; sequence: bigint; born_at: Generated<Date>; changed_at: Generated<Date> }
}

/** A bridge as the instances of the service see it, for operators. */
export interface BridgeRow {
  name: string
  direction: 'send' | 'receive'
  /** Of its target. */
  kind: string
  events: string[]
  /** Null: the other side is there for each of them. */
  away_since: Date | null
  away_reason: string | null
  seen_at: Date
}
