import { type Bus, GroupHasMembers, type PartitionOffset, placeOf } from '../bus.ts'
import type { BusOptions } from './options.ts'
import type { Log } from './partition-log.ts'

/** What a client knows of consumer groups; names as on the wire. */
export interface GroupAccess {
  log: Log
  /** Offsets committed by a group; none, or a negative one, where it has committed nothing. */
  committed(group: string, topics: readonly string[]): Promise<PartitionOffset[]>
  members(group: string): Promise<number>
  /** Commits for a group that has no members. */
  commit(group: string, offsets: readonly PartitionOffset[]): Promise<void>
}

/** Everything of {@link Bus} that only looks, and moving a group back. */
export function readingOf(
  { log, committed, members, commit }: GroupAccess,
  { wireName, ownName }: Pick<BusOptions, 'wireName' | 'ownName'>,
): Pick<Bus, 'positions' | 'agesOf' | 'read' | 'rewind' | 'members'> {
  const positions: Bus['positions'] = async (group, topics) => {
    const wireTopics = topics.map(wireName)
    const offsets = group === undefined ? [] : await committed(wireName(group), wireTopics) // before the ends, which only grow
    const done = new Map(offsets.map((one) => [placeOf(one), one.offset]))
    return (await log.bounds(wireTopics)).map((bounds) => {
      const offset = done.get(placeOf(bounds)) ?? -1n
      const isKept = offset >= bounds.start && offset <= bounds.end // not so after a topic was made anew
      return { ...bounds, topic: ownName(bounds.topic), done: isKept ? offset : bounds.start }
    })
  }

  return {
    positions,
    members: (group) => members(wireName(group)),
    async agesOf(all) {
      const perTopic = [...Map.groupBy(all, ({ topic }) => topic)].map(async ([topic, ofTopic]) => {
        const behind = ofTopic.filter(({ done, end }) => done < end)
        const ages = await Promise.all(
          behind.map(({ partition, done }) => log.ageAt({ topic: wireName(topic), partition, offset: done })),
        )
        return [topic, Math.max(0, ...ages)] as const
      })
      return new Map(await Promise.all(perTopic))
    },
    read: ({ topics, partitions, handle, unreadable, ...rest }) =>
      log.read({
        ...rest,
        topics: topics.map(wireName),
        ...(partitions && { partitions: partitions.map((one) => ({ ...one, topic: wireName(one.topic) })) }),
        handle: (messages) => handle(messages.map((message) => ({ ...message, topic: ownName(message.topic) }))),
        ...(unreadable && { unreadable: (found) => unreadable({ ...found, topic: ownName(found.topic) }) }),
      }),
    async rewind(group, topics, to) {
      const count = await members(wireName(group))
      if (count > 0) throw new GroupHasMembers(`group ${group} has ${count} member${count === 1 ? '' : 's'}`)
      const given = to instanceof Date ? undefined : to && new Map(to.map((place) => [placeOf(place), place.offset]))
      const byTopic = Map.groupBy(await positions(group, topics), ({ topic }) => topic)
      const wanted = [...byTopic].map(async ([topic, ofTopic]) => {
        const starts = to instanceof Date ? await log.offsetsAt(wireName(topic), to) : undefined
        return ofTopic.map(({ partition, start, done }) => {
          const from = starts?.get(partition) ?? (given ? (given.get(placeOf({ topic, partition })) ?? done) : start)
          // biome-ignore lint/complexity/useMathMinMax: Math takes no bigint
          const kept = from < start ? start : from
          // biome-ignore lint/complexity/useMathMinMax: Math takes no bigint
          return { topic: wireName(topic), partition, offset: kept > done ? done : kept }
        })
      })
      await commit(wireName(group), (await Promise.all(wanted)).flat())
    },
  }
}
