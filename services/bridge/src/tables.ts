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
  /** `id` is the source that the message itself names, a blank, and its own id. */
  received: { source: string; id: string; received_at: Generated<Date>; event_id: string | null }
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
  /** Of one that sends: those that receive from the same broker. What they brought it does not hand on. */
  leaves_out: Generated<string[]>
  seen_at: Date
}
