import { type Database, type RawBuilder, sql, type Transaction } from '@shopstream/database'
import { bridgeMark, type ParkedRow } from './parked.ts'

/** So many of those that became due last are candidates for the turns that the longest due does not have. */
const newlyDue = 100

/**
 * Which parked messages somebody tries: a service those of these types, or a bridge those under these topics. In a rolling
 * deployment the other version parks events that this one does not know; they are left to it.
 */
export type Scope = { types: readonly string[] } | { topics: readonly string[] }

/** Whose turn it is among the parked messages that are due. */
export interface Turns {
  scope: Scope
  /** So far. */
  count: number
  /** By topic, the last one that it had. */
  lastOf: Map<string, number>
}

export const turnsOf = (scope: Scope): Turns => ({ scope, count: 0, lastOf: new Map() })

/** SQL: of topics that the scope has. */
const isInTopics = ({ scope }: Turns) =>
  'topics' in scope ? sql`topic = any(${scope.topics}::text[])` : sql`strpos(topic, ${bridgeMark}) = 0`

const isOfTypes = ({ scope }: Turns) =>
  'types' in scope ? sql`coalesce(headers->>'ce_type' = any(${scope.types}::text[]), true)` : sql`true`

/**
 * The message to be tried next, locked; undefined when none is due. Every third turn is for the longest due, so that
 * nothing waits for ever. Behind thousands that fail again and again all others would wait for minutes, so the other
 * turns are for one that became due just now: of the topic whose last turn is the longest ago, alternately the last
 * parked and the first parked. Messages that wait for a schema come last: a foreign producer can write any number of
 * them.
 */
export async function nextDue(tx: Transaction, turns: Turns): Promise<ParkedRow | undefined> {
  turns.count += 1
  const third = turns.count % 3
  const row =
    (third > 0 && (await newlyDueOf(tx, turns, third === 1 ? 1 : -1))) ||
    (await longestDue(tx, turns, sql`is null`)) ||
    (await longestDue(tx, turns, sql`is not null`))
  if (row) turns.lastOf.set(row.topic, turns.count)
  return row
}

/** Whether {@link nextDue} is worth asking: of any scope, and of keys that others hold back too. */
export async function isAnyDue({ query }: Database<unknown>): Promise<boolean> {
  const { rows } = await sql`
    select from parked_message where state = 'waiting' and next_attempt_at <= now() limit 1`.execute(query)
  return rows.length > 0
}

const isFirstDue = (turns: Turns) => sql`
  state = 'waiting' and next_attempt_at <= now() and ${isInTopics(turns)} and ${isOfTypes(turns)}
    and not exists (
      select 1 from parked_message as earlier
      where earlier.blocks and earlier.topic = head.topic and earlier.key = head.key and earlier.id < head.id)`

async function longestDue(tx: Transaction, turns: Turns, schema: RawBuilder<unknown>): Promise<ParkedRow | undefined> {
  const { rows } = await sql<ParkedRow>`
    select * from parked_message as head
    where ${isFirstDue(turns)} and waits_for_schema ${schema}
    order by next_attempt_at
    limit 1
    for update skip locked`.execute(tx)
  return rows[0]
}

/** Undefined also where another instance has it: the longest due is tried then. Headers of a hundred could be 400 MiB. */
async function newlyDueOf(tx: Transaction, turns: Turns, direction: 1 | -1): Promise<ParkedRow | undefined> {
  const { rows: candidates } = await sql<{ id: bigint; topic: string }>`
    select id, topic from parked_message
    where state = 'waiting' and next_attempt_at <= now() and waits_for_schema is null and ${isInTopics(turns)}
    order by next_attempt_at desc
    limit ${newlyDue}`.execute(tx)
  const lastTurn = ({ topic }: { topic: string }) => turns.lastOf.get(topic) ?? 0
  const [chosen] = candidates.toSorted(
    (one, other) => lastTurn(one) - lastTurn(other) || direction * Number(other.id - one.id),
  )
  if (!chosen) return undefined
  const { rows } = await sql<ParkedRow>`
    select * from parked_message as head where id = ${chosen.id} and ${isFirstDue(turns)}
    for update skip locked`.execute(tx)
  return rows[0]
}
