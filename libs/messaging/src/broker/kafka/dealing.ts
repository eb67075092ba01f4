import type { Place } from '../bus.ts'

export interface GroupMember {
  memberId: string
  topics: readonly string[]
}

/**
 * Assigns partitions in turn, each to a member that wants its topic. In a rolling deployment members of two versions
 * are in one group: if all members got partitions, or only the leader's topics were assigned, nobody would read a new
 * topic's partitions.
 */
export function deal(members: readonly GroupMember[], partitions: readonly Place[]): Map<string, Place[]> {
  const sorted = members.toSorted((one, other) => (one.memberId < other.memberId ? -1 : 1))
  const dealt = new Map(sorted.map(({ memberId }) => [memberId, [] as Place[]]))
  let turn = 0
  for (const place of partitions) {
    const wanting = sorted.filter(({ topics }) => topics.includes(place.topic))
    const member = wanting[turn++ % Math.max(1, wanting.length)]
    if (member) dealt.get(member.memberId)?.push(place)
  }
  return dealt
}
