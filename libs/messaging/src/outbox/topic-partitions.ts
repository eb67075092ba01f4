import type { Session } from '@shopstream/database'

/** How long the relay goes by what it knows of grown topics, in ms. */
const lookEveryMs = 500

/** What the relay knows of topics that have been grown, or are. */
export interface Placing {
  /**
   * Call it while nothing is under way. Returns the topics that must not be published, which it also tells the growing
   * command, and the numbers of partitions that place the keys of grown topics.
   */
  look(): Promise<{ held: string[]; numbers: ReadonlyMap<string, number> }>
}

interface Grown {
  topic: string
  partitions: number
  isHeld: boolean
}

export function createPlacing(session: Session): Placing {
  let known: { held: string[]; numbers: ReadonlyMap<string, number> } = { held: [], numbers: new Map() }
  let lookAt = Number.NEGATIVE_INFINITY
  return {
    async look() {
      if (performance.now() < lookAt) return known
      const rows = await session.query<Grown>(
        `with told as (update topic_partitions set held_at = now() where growing_to is not null and held_at is null)
         select topic, partitions, growing_to is not null as "isHeld" from topic_partitions`,
      )
      lookAt = performance.now() + lookEveryMs
      known = {
        held: rows.filter(({ isHeld }) => isHeld).map(({ topic }) => topic),
        numbers: new Map(rows.map(({ topic, partitions }) => [topic, partitions])),
      }
      return known
    },
  }
}
