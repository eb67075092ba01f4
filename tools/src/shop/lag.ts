import { parseArgs } from 'node:util'
import type { Bus, PartitionPosition } from '@shopstream/messaging'
import { Refusal, UsageError } from '../options.ts'
import { ask } from './asking.ts'
import { type Group, readGroups } from './groups.ts'
import { reachHelp, withReach } from './reach.ts'
import { repeatedly } from './watching.ts'
import { age, good, secondsSince, table, toJson } from './words.ts'

export const usage = `Usage: npm run shop -- lag [--group GROUP] [--all] [--watch] [--json]

What each consumer group has not handled yet, by topic and partition: messages, and the age of the oldest in seconds.

  --group GROUP  of this group alone
  --all          also the partitions without lag
  --watch        again each 2 s, until Ctrl-C
  --json         [{group, topic, partition, position, end, messages, seconds}]

Exit code 0, whatever the lag. ${reachHelp}`

/** What a group has not handled yet of one partition. */
export interface Lag {
  group: string
  topic: string
  partition: number
  /** Offset of the next message to be handled. */
  position: bigint
  /** Offset of the next message to be written. */
  end: bigint
  messages: bigint
  /** Age of the oldest of them; 0 without lag. */
  seconds: number
}

/** The lag of a group in each partition that it consumes. Throws when the broker cannot be asked. */
export async function lagOf(bus: Bus, { group, topics }: Group): Promise<Lag[]> {
  const positions = await bus.positions(group, topics)
  const oldest = await oldestOf(
    bus,
    positions.filter(({ done, end }) => done < end),
  )
  const ordered = positions.toSorted((a, b) => a.topic.localeCompare(b.topic) || a.partition - b.partition)
  return ordered.map(({ topic, partition, done, end }) => {
    const written = oldest.get(`${topic}/${partition}`)
    const seconds = written ? Math.max(0, Math.round(secondsSince(written))) : 0
    return { group, topic, partition, position: done, end, messages: end - done, seconds }
  })
}

/** When the next message to be handled was written, by `topic/partition`. */
async function oldestOf(bus: Bus, positions: PartitionPosition[]): Promise<Map<string, Date>> {
  const oldest = new Map<string, Date>()
  if (positions.length === 0) return oldest
  const stop = new AbortController()
  await bus.read({
    topics: [...new Set(positions.map(({ topic }) => topic))],
    partitions: positions.map(({ topic, partition, done }) => ({ topic, partition, from: done })),
    toEnd: true,
    signal: stop.signal,
    handle([message]) {
      const place = message && `${message.topic}/${message.partition}`
      if (place && message.timestamp && !oldest.has(place)) oldest.set(place, message.timestamp)
      if (oldest.size === positions.length) stop.abort()
    },
  })
  return oldest
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
  const groups = await readGroups()
  const chosen = groups.filter(({ group }) => values.group === undefined || group === values.group)
  if (chosen.length === 0)
    throw new UsageError(`there is no group ${values.group}, only ${groups.map(({ group }) => group).join(', ')}`)
  return withReach(async ({ bus }) => {
    await repeatedly(values.watch === true, async () => {
      const asked = await ask('Kafka', () => Promise.all(chosen.map((group) => lagOf(bus, group))))
      if (asked.reason !== undefined) throw new Refusal(`Kafka ${asked.reason}`)
      const lags = asked.answer.flat()
      const shown = lags.filter(({ messages }) => values.all || messages > 0n)
      return values.json ? toJson(shown, values.watch ? undefined : 2) : textOf(shown)
    })
    return 0
  })
}

function textOf(lags: Lag[]): string {
  if (lags.length === 0) return good('No group has messages to handle.')
  const rows = lags.map(({ group, topic, partition, messages, seconds }) => [
    group,
    `${topic}/${partition}`,
    String(messages),
    messages > 0n ? age(seconds) : '',
  ])
  return table([['group', 'topic/partition', 'messages', 'oldest'], ...rows]).join('\n')
}
