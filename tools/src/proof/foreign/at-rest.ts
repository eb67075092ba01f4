import { sql } from '@shopstream/database'
import { eventually } from '@shopstream/local-servers'
import { type Group, readGroups } from '../../operations/groups.ts'
import { owners, type Reach } from '../../operations/shop-access.ts'

const limitMs = 180_000

/**
 * Waits until every group has handled all that topics hold and every service has published what it decided. What is
 * parked may stay: messages whose schema nobody knows wait for it. Throws with what was left after three minutes.
 */
export async function waitForRest(reach: Reach): Promise<void> {
  const groups = await readGroups()
  let left: string[] = []
  const isAtRest = async () => {
    left = [...(await lagOf(reach, groups)), ...(await outboxesOf(reach))]
    return left.length === 0
  }
  await eventually('rest', isAtRest, { timeoutMs: limitMs, everyMs: 500 }).catch((error: Error) => {
    throw new Error(`not at rest after ${limitMs / 1_000} s: ${left.join('; ') || error.message}`, { cause: error })
  })
}

async function lagOf({ bus }: Reach, groups: readonly Group[]): Promise<string[]> {
  const perGroup = groups.map(async ({ group, topics }) => {
    const behind = (await bus.positions(group, topics)).filter(({ done, end }) => done < end)
    return behind.map(({ topic, partition, done, end }) => `${group}: ${end - done} messages of ${topic}/${partition}`)
  })
  return (await Promise.all(perGroup)).flat()
}

async function outboxesOf({ databases }: Reach): Promise<string[]> {
  const perOwner = owners.map(async (owner) => {
    const { rows } = await sql<{ count: bigint }>`select count(*) from outbox`.execute(databases[owner].query)
    const count = Number(rows[0]?.count)
    return count > 0 ? [`${owner}: ${count} events in the outbox`] : []
  })
  return (await Promise.all(perOwner)).flat()
}
