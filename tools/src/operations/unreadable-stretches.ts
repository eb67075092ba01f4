import { sql } from '@shopstream/database'
import {
  listUnreadable,
  type PartitionPosition,
  type Unreadable,
  type UnreadableRow,
} from '@shopstream/messaging/operations'
import { clock, shop } from '../terminal/format.ts'
import { shown } from '../terminal/printing.ts'
import { ask } from './answers.ts'
import { type Owner, owners, type Reach } from './shop-access.ts'

/** Stretches of partitions that cannot be read: what the services' databases know of them, and how commands put it. */

/**
 * Where a service stands with what it has met. `stands`: its partition waits there. `not met`: it has not looked at it for
 * a minute, so it is away. `passed`: it was read after all, by a new version or with a higher limit. `forgotten`: retention
 * has taken it.
 */
export type MetState = 'stands' | 'not met' | 'stepped over' | 'passed' | 'forgotten'

/** What a service has met in a topic and could not read. */
export interface Met extends UnreadableRow {
  service: Owner
  /** By which people call it. */
  ref: string
  state: MetState
}

/** A consumer looks every 2 s; a rebalance takes longer. */
const standsForMs = 60_000

/** What all services have met, and which of their databases cannot be asked. */
export async function allMet({ databases, bus }: Pick<Reach, 'databases' | 'bus'>) {
  const perService = await Promise.all(
    owners.map(async (service) => {
      const { answer, reason } = await ask(`the ${service} database`, () => rowsOf(databases[service].query))
      if (!answer) return { met: [], notAsked: [`the ${service} database ${reason}`] }
      const open = answer.rows.filter(({ steppedOverAt }) => steppedOverAt === null)
      const topics = [...new Set(open.map(({ topic }) => topic))]
      const positions = await ask('Kafka', async () => (topics.length > 0 ? bus.positions(service, topics) : []))
      const met = answer.rows.map((row): Met => {
        const state = stateOf(row, answer.now, positions.answer ?? [])
        return { ...row, service, ref: `${service}/${row.id}`, state }
      })
      return { met, notAsked: [] }
    }),
  )
  return { met: perService.flatMap(({ met }) => met), notAsked: perService.flatMap(({ notAsked }) => notAsked) }
}

async function rowsOf(query: Reach['databases'][Owner]['query']) {
  const rows = await listUnreadable(query)
  const clockRow = await sql<{ now: Date }>`select now()`.execute(query)
  return { rows, now: clockRow.rows[0]?.now ?? new Date() }
}

/** Pure: without positions, as Kafka may be away, only times tell. */
export function stateOf(
  { topic, partition, lastOffset, lastMetAt, steppedOverAt }: UnreadableRow,
  now: Date,
  positions: readonly PartitionPosition[],
): MetState {
  if (steppedOverAt) return 'stepped over'
  const position = positions.find((one) => one.topic === topic && one.partition === partition)
  if (position && position.start > lastOffset) return 'forgotten'
  if (position && position.done > lastOffset) return 'passed'
  return now.getTime() - lastMetAt.getTime() <= standsForMs ? 'stands' : 'not met'
}

export type StretchPlace = Pick<Unreadable, 'topic' | 'partition' | 'firstOffset' | 'lastOffset'>

/** As people write it, and `unreadable` takes it. */
export const placeInWords = ({ topic, partition, firstOffset, lastOffset }: StretchPlace): string =>
  `${topic}/${partition}@${firstOffset}${lastOffset > firstOffset ? `-${lastOffset}` : ''}`

/** Of which a command that steps over it needs no more. */
export const showCommand = ({ topic, partition, firstOffset }: StretchPlace): string =>
  shop(`unreadable show ${topic}/${partition}@${firstOffset}`)

/** Identifies a stretch of a partition by its end: a group that began in its middle has another start. */
export const endOf = ({ topic, partition, lastOffset }: StretchPlace): string => `${topic}/${partition}@${lastOffset}`

/** Rows about one stretch, together. */
export interface Stretch extends StretchPlace {
  reason: string
  /** Since it was met first. */
  since: Date
  met: Met[]
}

export function stretchesOf(met: readonly Met[]): Stretch[] {
  return [...Map.groupBy(met, endOf).values()].map((ofStretch) => {
    const [first] = ofStretch as [Met]
    const { topic, partition, lastOffset, reason } = first
    const firstOffset = ofStretch.reduce(
      // biome-ignore lint/complexity/useMathMinMax: Math takes no bigint
      (low, one) => (one.firstOffset < low ? one.firstOffset : low),
      first.firstOffset,
    )
    const since = new Date(Math.min(...ofStretch.map(({ metAt }) => metAt.getTime())))
    return { topic, partition, firstOffset, lastOffset, reason, since, met: ofStretch }
  })
}

/** Who has stepped over it, and why, in words; undefined where nobody has. */
export function decisionInWords(
  { steppedOverAt, actor, steppedOverFor }: UnreadableRow,
  now?: Date,
): string | undefined {
  if (!steppedOverAt) return undefined
  return `stepped over ${clock(steppedOverAt, now)} by ${shown(actor ?? '?')}: ${shown(steppedOverFor ?? '?')}`
}

/** What a command could not read and has gone on behind. */
export const unreadInWords = (found: StretchPlace & Pick<Unreadable, 'reason'>): string =>
  `${placeInWords(found)} cannot be read: ${shown(found.reason)}`
