import { type Database, sql } from '@shopstream/database'
import { type Consumption, topicsOf } from '../event/consumption.ts'

/** One thing that a process depends on. */
export interface ReadinessCheck {
  name: string
  /** Throws with the reason when it is not there. */
  check(): void | Promise<void>
  /** True: without it the process is degraded, but can do its work. */
  optional?: boolean
}

export interface ParkedLimits {
  /** Messages that wait or are dead. */
  count: number
  /** Age of the oldest of them. */
  ageSeconds: number
}

/** Throws when more messages are parked than that, or older ones. */
export async function checkParked(database: Database<unknown>, { count, ageSeconds }: ParkedLimits): Promise<void> {
  const { rows } = await sql<{ parked: number; dead: number; age: number }>`
    select count(*)::integer as parked, count(*) filter (where state = 'dead')::integer as dead,
      coalesce(extract(epoch from now() - min(parked_at)), 0)::float8 as age
    from parked_message where ended_at is null`.execute(database.query)
  const [found] = rows
  if (!found || (found.parked <= count && found.age <= ageSeconds)) return
  throw new Error(
    `${found.parked} messages are parked, ${found.dead} of them dead, the oldest for ${Math.round(found.age)} s; the limits are ${count} and ${ageSeconds} s. See: npm run shop -- dead-letters list`,
  )
}

/** A clock that is further off than this, in s, is wrong: machines that are synchronised differ by milliseconds. */
const clockLimitSeconds = 60

/** How far this process's clock is ahead of its database's, in s (behind it when negative), as far as that can be told. */
export async function clockOffset(database: Database<unknown>): Promise<number> {
  const before = Date.now()
  const { rows } = await sql<{ at: number }>`
    select (extract(epoch from clock_timestamp()) * 1000)::float8 as at`.execute(database.query)
  const at = rows[0]?.at ?? before
  return offsetOf(at, before, Date.now()) / 1_000
}

/** 0 where the other clock was read between the two times. */
const offsetOf = (at: number, before: number, after: number) =>
  at < before ? before - at : at > after ? after - at : 0

/** Throws when the clock of this process, or its database's, is wrong. */
export async function checkClock(database: Database<unknown>): Promise<void> {
  const seconds = Math.round(await clockOffset(database))
  if (Math.abs(seconds) <= clockLimitSeconds) return
  throw new Error(
    `this process's clock is ${Math.abs(seconds)} s ${seconds > 0 ? 'ahead of' : 'behind'} its database's: one of the two is wrong`,
  )
}

/** By topic, the lowest limit of the rows that need it. */
export function backlogLimitsOf(consumes: readonly Consumption[]): Map<string, number> {
  const pairs = consumes.flatMap((row) =>
    topicsOf([row]).map((topic) => ({ topic, seconds: row.policy.backlogSeconds })),
  )
  return new Map(
    [...Map.groupBy(pairs, ({ topic }) => topic)].map(([topic, ofTopic]) => [
      topic,
      Math.min(...ofTopic.map(({ seconds }) => seconds)),
    ]),
  )
}

/** Throws when a topic's oldest message that is not handled is older than its limit; times in seconds. */
export function checkBacklog(ages: ReadonlyMap<string, number>, limits: ReadonlyMap<string, number>): void {
  const late = [...ages].flatMap(([topic, seconds]) => {
    const limit = limits.get(topic) ?? Number.POSITIVE_INFINITY
    return seconds > limit ? [`${topic} waits for ${Math.round(seconds)} s, the limit is ${limit} s`] : []
  })
  if (late.length > 0) throw new Error(late.join('; '))
}
