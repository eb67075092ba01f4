import type { Generated } from '@shopstream/database'

/** The tables of the bridge database, as migrations/ makes them. */
export interface Tables {
  bridge: BridgeRow
  received: { source: string; id: string; received_at: Generated<Date> }
  received_key: { topic: string; key: string; sequence: bigint; born_at: Generated<Date>; changed_at: Generated<Date> }
}

/** A bridge as it was seen last, for operators. */
export interface BridgeRow {
  name: string
  direction: 'send' | 'receive'
  /** Of its target. */
  kind: string
  events: string[]
  /** Null: the other side was there. */
  away_since: Date | null
  away_reason: string | null
  seen_at: Date
}
