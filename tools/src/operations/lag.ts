import { parseArgs } from 'node:util'
import { type Bus, bridgeGroup, type PartitionPosition } from '@shopstream/messaging/operations'
import { age, good, shop, table, toJson } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { repeatedly } from '../terminal/repeat.ts'
import { ask } from './answers.ts'
import { type BridgeNote, bridgeService, groupOfBridge, readBridgeNotes, serviceOf } from './bridges.ts'
import { readGroups } from './groups.ts'
import { type Reach, reachHelp, withReach } from './shop-access.ts'
import { allMet, type Met, placeInWords } from './unreadable-stretches.ts'

export const usage = `Usage: npm run shop -- lag [--group GROUP] [--all] [--watch] [--json]

What each consumer group, also that of each bridge, has not handled yet, by topic and partition: messages, and the age of the oldest in seconds; up to
the end of the log, so that nothing is left out which cannot be seen yet. What a partition waits for is told beside it: a
transaction that a producer has left open hides all that comes behind it, and what cannot be read stops its partition.

  --group GROUP  of this group alone
  --all          also the partitions without lag
  --watch        again each 2 s, until Ctrl-C
  --json         [{group, topic, partition, position, end, messages, seconds, hidden, hiddenSeconds, standsBefore}]; hidden
                 are those of the messages that wait behind an open transaction, standsBefore is the place of what cannot be read

Exit code 0, whatever the lag.

${reachHelp}`

/** What somebody has not handled yet of one partition. Counts go by offsets: the markers of transactions count as well. */
export interface Standing {
  topic: string
  partition: number
  /** Offset of the next message to be handled. */
  position: bigint
  /** Offset of the next message to be written. */
  end: bigint
  messages: bigint
  /** Age of the oldest of them; 0 without lag. */
  seconds: number
  /** Those of them that nobody can read until a transaction has ended. */
  hidden: bigint
  /** For how long that has been so; 0 where none is hidden. */
  hiddenSeconds: number
}

export interface Lag extends Standing {
  group: string
}

/** The lag of a group in each partition that it consumes. Throws when the broker cannot be asked. */
export async function lagOf(bus: Bus, { group, topics }: { group: string; topics: string[] }): Promise<Lag[]> {
  return (await standingOf(bus, group, topics)).map((one) => ({ group, ...one }))
}

/** The lag of a group, or of one that has read nothing, whom no broker is asked about. */
export async function standingOf(bus: Bus, group: string | undefined, topics: string[]): Promise<Standing[]> {
  const positions = await bus.positions(group, topics)
  const ordered = positions.toSorted((a, b) => a.topic.localeCompare(b.topic) || a.partition - b.partition)
  return Promise.all(ordered.map((position) => partitionLag(bus, position)))
}

async function partitionLag(bus: Bus, position: PartitionPosition): Promise<Standing> {
  const { topic, partition, done, end } = position
  // biome-ignore lint/complexity/useMathMinMax: Math takes no bigint
  const stableEnd = position.stableEnd < done ? done : position.stableEnd
  const seconds = await ageOf(bus, position)
  const hiddenSeconds = stableEnd === done ? seconds : await ageOf(bus, { ...position, done: stableEnd })
  const isOpen = hiddenSeconds >= openSeconds
  return {
    topic,
    partition,
    position: done,
    end,
    messages: end - done,
    seconds,
    hidden: isOpen ? end - stableEnd : 0n,
    hiddenSeconds: isOpen ? hiddenSeconds : 0,
  }
}

/** The two ends are asked for one after the other: a younger message may have been written in between. */
const openSeconds = 1

/** How long ago the message was written that comes next, in whole seconds; 0 where there is none. */
async function ageOf(bus: Bus, position: PartitionPosition): Promise<number> {
  if (position.done >= position.end) return 0
  return Math.round((await bus.agesOf([position])).get(position.topic) ?? 0)
}

export async function lag(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      group: { type: 'string' },
      all: { type: 'boolean' },
      watch: { type: 'boolean' },
      json: { type: 'boolean' },
    },
  })
  const ofServices = await readGroups()
  return withReach(async (reach) => {
    const bridges = await bridgesOf(reach)
    const groups = [...ofServices, ...bridges.flatMap((note) => groupOfBridge(note) ?? [])]
    const chosen = groups.filter(({ group }) => values.group === undefined || group === values.group)
    const receiving = receivingOf(values.group, bridges)
    if (receiving !== undefined)
      throw new UsageError(
        `bridge ${receiving} receives: it has no group, and no lag. What waits for it is with its broker; ${shop('status')} says how it is`,
      )
    if (chosen.length === 0)
      throw new UsageError(`there is no group ${values.group}, only ${groups.map(({ group }) => group).join(', ')}`)
    await repeatedly(values.watch === true, async () => {
      const [asked, { met }] = await Promise.all([
        ask('Kafka', () => Promise.all(chosen.map((group) => lagOf(reach.bus, group)))),
        allMet(reach),
      ])
      if (asked.reason !== undefined) throw new Refusal(`Kafka ${asked.reason}`)
      const lags = asked.answer.flat().map((one) => ({ ...one, standsBefore: standsBefore(met, one) }))
      const told = lags.filter(({ messages }) => values.all || messages > 0n)
      return values.json ? toJson(told, values.watch ? undefined : 2) : textOf(told)
    })
    return 0
  })
}

/** Says on stderr, and returns none, when nobody can be asked which bridges there are. */
async function bridgesOf({ databases }: Reach): Promise<BridgeNote[]> {
  const { answer = [], reason } = await ask('the bridge database', () => readBridgeNotes(databases[bridgeService]))
  if (reason) console.error(`Groups of bridges are left out: the bridge database ${reason}`)
  return answer
}

/** The name of the bridge whose group this would be, if that one receives and so has none. */
export const receivingOf = (group: string | undefined, bridges: readonly Pick<BridgeNote, 'name' | 'direction'>[]) =>
  bridges.find(({ name, direction }) => direction === 'receive' && bridgeGroup(bridgeService, name) === group)?.name

/** The unreadable stretch that a group stands before; null if there is none. */
function standsBefore(met: readonly Met[], { group, topic, partition }: Lag): string | null {
  const found = met.find(
    (one) =>
      one.state === 'stands' && one.service === serviceOf(group) && one.topic === topic && one.partition === partition,
  )
  return found ? placeInWords(found) : null
}

function textOf(lags: (Lag & { standsBefore: string | null })[]): string {
  if (lags.length === 0) return good('No group has messages to handle.')
  const rows = lags.map(({ group, topic, partition, messages, seconds, ...one }) => [
    group,
    `${topic}/${partition}`,
    String(messages),
    messages > 0n ? age(seconds) : '',
    one.hidden > 0n ? `${one.hidden} for ${age(one.hiddenSeconds)}` : '-',
    one.standsBefore ?? '',
  ])
  const head = ['group', 'topic/partition', 'messages', 'oldest', 'behind an open transaction', 'stands before']
  const stops = lags.some((one) => one.standsBefore) ? [`  → ${shop('unreadable list')}`] : []
  return [...table([head, ...rows]), ...stops].join('\n')
}
