import { type Database, sql } from '@shopstream/database'
import { type EventName, topicOf, topics } from '@shopstream/events'
import { bridgeGroup, inboundName, unparkedBy } from '@shopstream/messaging/operations'
import { UsageError } from '../terminal/options.ts'
import type { Owner } from './shop-access.ts'

/** The service that runs bridges, and whose database parks what they cannot hand on. */
export const bridgeService: Owner = 'bridge'

/** A bridge as its service has noted it last. */
export interface BridgeNote {
  name: string
  direction: 'send' | 'receive'
  /** Of its broker. */
  kind: string
  events: EventName[]
  /** Of one that sends: those that receive from the same broker. What they brought it does not hand on. */
  leavesOut: string[]
  /** Null: the broker is there, or was when this was noted. */
  awaySince: Date | null
  awayReason: string | null
  /** For how long its process has noted nothing; it does so each 5 s. */
  unseenSeconds: number
}

/** The bridges of a deployment, in the order of their names; none where it has no such table. */
export async function readBridgeNotes({ query }: Database<unknown>): Promise<BridgeNote[]> {
  const { rows } = await sql<BridgeNote>`
    select name, direction, kind, events,
      array(select jsonb_array_elements_text(coalesce(to_jsonb(bridge) -> 'leaves_out', '[]'))) "leavesOut", -- older ones have none
      away_since "awaySince", away_reason "awayReason",
      extract(epoch from now() - seen_at)::float8 "unseenSeconds"
    from bridge order by name`.execute(query)
  return rows
}

/** The service of a group, which has its name or is of one of its bridges. */
export const serviceOf = (group: string) => (group.startsWith(bridgeGroup(bridgeService, '')) ? bridgeService : group)

/** What one that sends consumes by a group of its own; undefined for one that receives. */
export function groupOfBridge({ name, direction, events }: Pick<BridgeNote, 'name' | 'direction' | 'events'>) {
  if (direction !== 'send') return undefined
  return { group: bridgeGroup(bridgeService, name), topics: [...new Set(events.map((event) => topicOf(event).name))] }
}

/** A topic whose messages are parked, also by bridges. Throws a UsageError for one that there is not. */
export function parkedTopic(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const names = [...topics.map(({ name }) => name), inboundName]
  if (names.includes(unparkedBy(text).topic)) return text
  throw new UsageError(`There is no topic ${text}: there are ${names.join(', ')}`)
}
