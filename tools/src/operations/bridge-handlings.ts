import { sql } from '@shopstream/database'
import { type PartitionPosition, unparkedBy } from '@shopstream/messaging/operations'
import { bad, clock, plural } from '../terminal/format.ts'
import { shown } from '../terminal/printing.ts'
import { type Asked, ask } from './answers.ts'
import { type BridgeNote, bridgeService, groupOfBridge, readBridgeNotes } from './bridges.ts'
import type { ReadEvent } from './read-event.ts'
import type { Reach } from './shop-access.ts'
import { isUuid } from './uuids.ts'

/** What became of an event in a bridge that is to hand it on. */
export interface BridgeHandling {
  bridge: string
  /** Of its broker. */
  kind: string
  /**
   * `passed`: its broker has confirmed it. `left-out`: it is from that broker. `lagging`: not read, or not taken yet. Others: it
   * is, or was, parked; `gone`: by a bridge that no process has any more.
   */
  state: 'passed' | 'left-out' | 'gone' | 'lagging' | 'waiting' | 'dead' | 'handled' | 'discarded' | 'unknown'
  /** Messages before it in the partition that are not handed on. */
  before?: bigint
  /** The parked message. */
  id?: bigint
  /** By which bridge it came in. */
  origin?: string
  error?: string | null
  awaySince?: Date
  reason?: string
}

interface ParkedRow {
  id: bigint
  topic: string
  partition: number
  offset: bigint
  state: 'waiting' | 'dead' | 'handled' | 'discarded'
  error: string | null
}

/** What bridges have done with events, each by itself; and why they cannot be asked, if so. */
export async function bridgeHandlings(
  { databases, bus }: Pick<Reach, 'databases' | 'bus'>,
  events: readonly ReadEvent[],
) {
  const ids = events.flatMap(({ id }) => (id !== undefined && isUuid(id.toLowerCase()) ? [id] : []))
  const { answer, reason } = await ask('the bridge database', async () => ({
    notes: await readBridgeNotes(databases[bridgeService]),
    parked: (
      await sql<ParkedRow>`
        select id, topic, partition, coalesce(former_offset, "offset") "offset", state, error from parked_message
        where strpos(topic, '@') > 0 and event_id = any(${ids}::uuid[])`.execute(databases[bridgeService].query)
    ).rows,
  }))
  const types = new Set<string | undefined>(events.map(({ type }) => type))
  const concerned = (answer?.notes ?? []).filter((note) => note.events.some((event) => types.has(event)))
  const positions = new Map<string, Asked<PartitionPosition[]>>()
  for (const note of concerned) {
    const group = groupOfBridge(note)
    if (group) positions.set(note.name, await ask('Kafka', () => bus.positions(group.group, group.topics)))
  }
  return {
    reason: reason && `the bridge database ${reason}`,
    of: (event: ReadEvent): BridgeHandling[] => [
      ...concerned.flatMap((note) => {
        const asked = positions.get(note.name)
        if (!asked || !note.events.some((name) => name === event.type)) return []
        return { bridge: note.name, kind: note.kind, ...handlingOf(note, event, answer?.parked ?? [], asked) }
      }),
      ...goneHandlings(answer?.notes ?? [], event, answer?.parked ?? []),
    ],
  }
}

type Place = Pick<ReadEvent, 'topic' | 'partition' | 'offset'>

const isAt = (event: Place, { topic, partition, offset }: Place) =>
  topic === event.topic && partition === event.partition && offset === event.offset

/** Pure. What waits for a bridge that is in no table any more. */
export function goneHandlings(
  notes: readonly Pick<BridgeNote, 'name'>[],
  event: Place,
  parked: readonly ParkedRow[],
): BridgeHandling[] {
  return parked.flatMap(({ id, state, ...row }) => {
    const { topic, bridge } = unparkedBy(row.topic)
    const isOpen = state === 'waiting' || state === 'dead'
    if (bridge === undefined || !isOpen || !isAt(event, { ...row, topic })) return []
    return notes.some(({ name }) => name === bridge) ? [] : { bridge, kind: 'in no table', state: 'gone', id }
  })
}

/** Pure. */
export function handlingOf(
  { name, awaySince, leavesOut }: Pick<BridgeNote, 'name' | 'awaySince' | 'leavesOut'>,
  event: Place & Pick<ReadEvent, 'headers'>,
  parked: readonly ParkedRow[],
  { answer: positions, reason }: Asked<PartitionPosition[]>,
): Omit<BridgeHandling, 'bridge' | 'kind'> {
  const origin = event.headers.ce_origin
  const leftOut = origin && leavesOut.includes(origin) ? ({ state: 'left-out', origin } as const) : undefined
  const row = parked.find((one) => {
    const { topic, bridge } = unparkedBy(one.topic)
    return bridge === name && isAt(event, { ...one, topic })
  })
  if (row?.state === 'handled' && leftOut) return leftOut
  if (row) return { state: row.state, id: row.id, error: row.error }
  const position = positions?.find((one) => one.topic === event.topic && one.partition === event.partition)
  if (!position) return { state: 'unknown', reason: reason ?? 'Kafka does not say where its group stands' }
  if (position.done > event.offset) return leftOut ?? { state: 'passed' }
  return { state: 'lagging', before: event.offset - position.done, ...(awaySince && { awaySince }) }
}

/** In words, a line for each bridge. */
export function bridgeHandlingLine(handling: BridgeHandling, now: Date): string {
  const { bridge, kind, state, before, id, origin, error, awaySince, reason } = handling
  const ref = `${bridgeService}/${id}`
  const away = awaySince ? `; its broker is away since ${clock(awaySince, now)}` : ''
  const words: Record<BridgeHandling['state'], string> = {
    passed: 'has passed it',
    'left-out': `does not hand it on: it came from that broker, by bridge ${shown(origin ?? '')}`,
    gone: bad(`has parked it as ${ref}, and no process has this bridge any more: put its row back, or discard it`),
    lagging: bad(`has not passed it: ${before ? `${plural(before, 'message')} before it` : 'it is the next'}${away}`),
    waiting: bad(`has parked it as ${ref}, and tries it again${error ? `: ${shown(error)}` : ''}`),
    dead: bad(`has given up on it, ${ref}: ${shown(error ?? '')}`),
    handled: `handed it on, parked before as ${ref}`,
    discarded: bad(`does not hand it on: ${ref} was discarded`),
    unknown: bad(reason ?? 'cannot be asked'),
  }
  return `              → bridge ${bridge} (${kind}) ${words[state]}`
}
