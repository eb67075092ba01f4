import type { Place } from '../bus.ts'

export interface GroupMember {
  memberId: string
  topics: readonly string[]
}

/**
 * Deals partitions out in turn, each to one of the members that want its topic. In a rolling deployment members of two
 * versions are in one group: dealt out to all, or by what the leader alone knows, a new topic's partitions would be nobody's.
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
