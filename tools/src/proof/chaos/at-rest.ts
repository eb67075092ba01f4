import { sql } from '@shopstream/database'
import { topicOf } from '@shopstream/events'
import { eventually, repository } from '@shopstream/testing'
import { type Owner, owners } from '../../operations/shop-access.ts'
import { readWiring, withSchemas } from '../../schemas/wiring.ts'
import type { Arena } from './shop-under-chaos.ts'

const limitMs = 180_000

/** The topics of each consumer group, as the services' tables say. */
export async function consumedTopics(): Promise<Record<Owner, readonly string[]>> {
  const wiring = withSchemas(await readWiring(repository))
  const topics = wiring.map(({ service, consumes }) => [
    service,
    [...new Set(consumes.map(({ event }) => topicOf(event).name))],
  ])
  return Object.fromEntries(topics)
}

/**
 * Waits until nothing is on its way any more. Throws with what still was after three minutes.
 * @param consumed topics by consumer group.
 */
export async function waitForRest(arena: Arena, consumed: Readonly<Record<Owner, readonly string[]>>): Promise<void> {
  let left: string[] = []
  let quiet = 0
  await eventually(
    'rest',
    async () => {
      left = await onTheWay(arena, consumed)
      quiet = left.length === 0 ? quiet + 1 : 0
      return quiet >= 3 // one look may meet an event between two of the places that it looks at
    },
    { timeoutMs: limitMs, everyMs: 500 },
  ).catch((error: Error) => {
    throw new Error(`not at rest after ${limitMs / 1_000} s: ${left.join('; ') || error.message}`, { cause: error })
  })
}

async function onTheWay(arena: Arena, consumed: Readonly<Record<Owner, readonly string[]>>): Promise<string[]> {
  const perOwner = owners.map(async (owner) => [
    ...(await rowsLeft(arena, owner)),
    ...(await lagOf(arena, owner, consumed[owner])),
  ])
  const down = Object.values(arena.shop.services).flatMap(({ name, ready }) => (ready ? [] : [`${name} is not ready`]))
  return [...down, ...(await Promise.all(perOwner)).flat()]
}

/** What waits in a service's tables. */
const waiting: Partial<Record<Owner, Record<string, string>>> = {
  order: { 'pending orders': `select count(*) from "order" where status = 'pending'` },
  notification: {
    'unsent mails': `select count(*) from notification where state in ('queued', 'awaiting-recipient')`,
  },
}
const inEach = {
  'events in the outbox': 'select count(*) from outbox',
  'parked messages': `select count(*) from parked_message where state = 'waiting'`,
}

async function rowsLeft({ reach }: Arena, owner: Owner): Promise<string[]> {
  const counts = Object.entries({ ...inEach, ...waiting[owner] }).map(async ([what, query]) => {
    const { rows } = await sql.raw<{ count: bigint }>(query).execute(reach.databases[owner].query)
    const count = Number(rows[0]?.count)
    return count > 0 ? [`${owner}: ${count} ${what}`] : []
  })
  return (await Promise.all(counts)).flat()
}

async function lagOf({ reach }: Arena, group: Owner, topics: readonly string[]): Promise<string[]> {
  if (topics.length === 0) return []
  const behind = (await reach.bus.positions(group, [...topics])).filter(({ end, done }) => done < end)
  return behind.map(({ topic, partition, end, done }) => `${group}: ${end - done} messages of ${topic}/${partition}`)
}
