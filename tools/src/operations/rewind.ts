import { parseArgs } from 'node:util'
import { type Database, sql } from '@shopstream/database'
import {
  compactedTopics,
  GroupHasMembers,
  type PartitionOffset,
  type PartitionPosition,
} from '@shopstream/messaging/operations'
import { bad, good, parseTime, plural, shop, table, timeHelp } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { ask, reasonOf } from './answers.ts'
import { bridgeService, groupOfBridge, readBridgeNotes, serviceOf } from './bridges.ts'
import { type Group, readGroups } from './groups.ts'
import { type Owner, type Reach, reachHelp, withReach } from './shop-access.ts'
import { allMet, decisionInWords, placeInWords, showCommand, stretchesOf } from './unreadable-stretches.ts'

export const usage = `Usage: npm run shop -- rewind GROUP --to TIME|beginning|inbox

Lets a consumer group, which is a service or bridge-NAME, read its topics again. For after its database was restored from a backup: see
docs/runbooks/restore-a-database.md, and ${shop('catch-up SERVICE')}, which does this and more. What took effect already
is dropped by the service's inbox, or by sequence on compacted topics; the group is never moved forward. A bridge hands on again
what its broker has had: readers there know it by its id.

  --to TIME       from what was written at that time or later: choose one well before the backup was made
  --to beginning  everything that the topics keep
  --to inbox      where the service's database left off, as its inbox tells; the safest after a restore; bridges have none

The service must be stopped: a group that has members is refused. ${timeHelp}
Exit code 0, or 1 when it is refused.

${reachHelp}`

export async function rewind(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { to: { type: 'string' } } })
  const [name, ...more] = positionals
  if (name === undefined || more.length > 0) throw new UsageError('rewind takes one group.')
  if (values.to === undefined) throw new UsageError(`--to says from where.`)
  const time = values.to === 'beginning' || values.to === 'inbox' ? undefined : parseTime(values.to)
  const groups = await readGroups()
  const ofService = groups.find((one) => one.group === name)
  if (!ofService && serviceOf(name) === name)
    throw new UsageError(
      `${name}? There are ${groups.map((one) => one.group).join(', ')}, and bridge-NAME for each bridge.`,
    )
  if (!ofService && values.to === 'inbox')
    throw new UsageError(`${name} has no inbox: --to takes a time, or beginning.`)
  return withReach(async (reach) => {
    const to = ofService && values.to === 'inbox' ? await leftOff(reach, ofService) : time
    print(await rewindGroup(reach, ofService ?? (await groupOfBridgeNamed(reach, name)), to))
    return 0
  })
}

/** Throws a Refusal for a bridge that does not send, or is not there. */
async function groupOfBridgeNamed({ databases }: Reach, group: string) {
  const asked = await ask('it', () => readBridgeNotes(databases[bridgeService]))
  if (asked.reason !== undefined) throw new Refusal(`The bridge database, which knows ${group}, ${asked.reason}.`)
  const known = asked.answer.flatMap((note) => groupOfBridge(note) ?? [])
  const found = known.find((one) => one.group === group)
  if (found) return found
  const names = known.map((one) => one.group).join(', ')
  throw new Refusal(
    `There is no bridge that consumes as ${group}${names && `; there are ${names}`}. Its service has to have run with it lately.`,
  )
}

/** Rewinds, and says how much will be read again. Throws a Refusal while the group has members. */
export async function rewindGroup(
  reach: Reach,
  { group, topics }: { group: string; topics: string[] },
  to?: Date | PartitionOffset[],
): Promise<string> {
  const { bus } = reach
  const service = serviceOf(group) as Owner
  const repeated = service === group ? 'what took effect already is dropped' : 'its broker gets again what it has had'
  try {
    const before = await bus.positions(group, topics)
    await bus.rewind(group, topics, to)
    const after = await bus.positions(group, topics)
    const done = new Map(before.map((position) => [`${position.topic}/${position.partition}`, position.done]))
    const counts = [...Map.groupBy(after, ({ topic }) => topic)].map(([topic, ofTopic]) => {
      const again = ofTopic.reduce(
        (sum, { partition, done: now }) => sum + ((done.get(`${topic}/${partition}`) ?? now) - now),
        0n,
      )
      return { topic, again }
    })
    const total = counts.reduce((sum, { again }) => sum + again, 0n)
    return [
      ...table(counts.map(({ topic, again }) => [topic, plural(again, 'message')])),
      good(`${group} reads up to ${plural(total, 'message')} again once it starts; ${repeated}.`),
      ...(await standsAgain(reach, service, after)),
    ].join('\n')
  } catch (error) {
    if (!(error instanceof GroupHasMembers)) throw new Refusal(`${group} cannot be rewound: ${reasonOf(error)}`)
    throw new Refusal(
      `${error.message}: stop the ${service} service, every instance; one that was killed is forgotten after 6 s. Nothing was changed.`,
    )
  }
}

/** Unreadable stretches ahead of a group that others have met. Its own database has no decision, as it may be older. */
async function standsAgain(reach: Reach, group: Owner, positions: readonly PartitionPosition[]): Promise<string[]> {
  const { met } = await allMet(reach)
  const ahead = stretchesOf(met).filter(
    (stretch) =>
      positions.some(
        ({ topic, partition, start, done }) =>
          topic === stretch.topic &&
          partition === stretch.partition &&
          start <= stretch.lastOffset &&
          done <= stretch.lastOffset,
      ) && !stretch.met.some(({ service, steppedOverAt }) => service === group && steppedOverAt),
  )
  return ahead.map((stretch) => {
    const decided = stretch.met.map((one) => decisionInWords(one)).find((words) => words !== undefined)
    return bad(
      `  It will stand before ${placeInWords(stretch)}, which cannot be read${decided ? ` (others: ${decided})` : ''}: ${showCommand(stretch)}`,
    )
  })
}

/**
 * Where a service's database left off: behind the last offset of each partition in its inbox. Rows are written in the
 * order of their partition, so all earlier messages are in there. Messages after it may be invisible to consumers, such
 * as markers of transactions or compacted records: the group passes those again. Compacted topics have no inbox and are
 * read from the beginning.
 */
export async function leftOff({ databases, bus }: Reach, { group, topics }: Group): Promise<PartitionOffset[]> {
  const last = await lastOffsets(databases[group])
  const positions = await bus.positions(group, topics)
  return positions.map(({ topic, partition, start }) => ({
    topic,
    partition,
    offset: compactedTopics.has(topic) ? start : (last.get(`${topic}/${partition}`) ?? start - 1n) + 1n,
  }))
}

async function lastOffsets({ query }: Database<unknown>): Promise<Map<string, bigint>> {
  const { rows } = await sql<{ topic: string; partition: number; last: bigint }>`
    select topic, partition, max("offset") as last from inbox group by topic, partition`.execute(query)
  return new Map(rows.map(({ topic, partition, last }) => [`${topic}/${partition}`, last]))
}
