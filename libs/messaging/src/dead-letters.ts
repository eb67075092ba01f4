import { type Database, isUnavailable, type RawBuilder, signal, sql, type Transaction } from '@shopstream/database'
import { decode } from '@shopstream/events'
import type { Logger } from '@shopstream/observability'
import type { WireHeaders } from './bus.ts'
import { fromStored, type StoredHeaders } from './envelope.ts'
import { learnMissing } from './learned-schemas.ts'
import { describe, lockKeys, parkedSignal } from './parked.ts'

/** Where a parked message stands. `waiting`: for its next attempt; `behind`: for an earlier one of its key. */
export const letterStates = ['dead', 'waiting', 'behind', 'handled', 'discarded'] as const
export type LetterState = (typeof letterStates)[number]

/** Which parked messages of a service; all conditions hold together. */
export interface LetterFilter {
  ids?: readonly bigint[]
  topic?: string
  type?: string
  key?: string
  /** Part of the error's text, in any case. */
  error?: string
  parkedBefore?: Date
  parkedAfter?: Date
  states?: readonly LetterState[]
}

/** A parked message without its payload. */
export interface Letter {
  id: bigint
  state: LetterState
  topic: string
  partition: number
  offset: bigint
  key: string | null
  /** As its headers say. */
  type: string | null
  eventId: string | null
  /** Since it was parked, or redriven last. */
  attempts: number
  error: string | null
  /** Messages of its key that wait for it. */
  followers: number
  parkedAt: Date
  /** Null: not by itself. */
  nextAttemptAt: Date | null
  redrivenAt: Date | null
  endedAt: Date | null
  /** The id of its writer's schema, while that is missing. */
  waitsForSchema: bigint | null
}

/** All that is known of a parked message. */
export interface LetterDetails extends Letter {
  headers: WireHeaders
  bytes: Buffer | null
  /** What the bytes say, or why they cannot be read. */
  payload: { event: string; schemaId: number; data: unknown } | { unreadable: string }
  /** Every attempt that failed, those before a redrive too. */
  failures: { number: number; at: Date; error: string }[]
  actions: { action: LetterAction; actor: string; reason: string | null; at: Date }[]
}

/** Who decides about parked messages, and why; kept with each of them. */
export interface Decision {
  actor: string
  reason?: string
}

const state = sql<LetterState>`case when state = 'waiting' and next_attempt_at is null then 'behind' else state end`

function matching(filter: LetterFilter): RawBuilder<unknown> {
  const { ids, topic, type, key, error, parkedBefore, parkedAfter, states } = filter
  const conditions = [
    ids && sql`id = any(${ids}::bigint[])`,
    topic !== undefined && sql`topic = ${topic}`,
    type !== undefined && sql`headers->>'ce_type' = ${type}`,
    key !== undefined && sql`key = ${key}`,
    error !== undefined && sql`strpos(lower(error), lower(${error})) > 0`,
    parkedBefore && sql`parked_at < ${parkedBefore}`,
    parkedAfter && sql`parked_at > ${parkedAfter}`,
    states && sql`${state} = any(${states}::text[])`,
    states?.every((one) => one !== 'handled' && one !== 'discarded') && sql`ended_at is null`,
  ]
  return sql.join(
    [sql`true`, ...conditions.filter((condition) => condition !== undefined && condition !== false)],
    sql` and `,
  )
}

/**
 * The parked messages that match, those first that were never redriven, then as they were parked: a redrive that was
 * interrupted goes on where it stopped when it is repeated.
 */
export async function listLetters(
  query: Database<unknown>['query'],
  filter: LetterFilter,
  limit: number | null = null,
): Promise<Letter[]> {
  const { rows } = await sql<Letter>`
    select id, ${state} as state, topic, partition, "offset", key, headers->>'ce_type' as type, event_id as "eventId",
      attempts, error, parked_at as "parkedAt", next_attempt_at as "nextAttemptAt", redriven_at as "redrivenAt",
      ended_at as "endedAt", waits_for_schema as "waitsForSchema",
      (select count(*)::integer from parked_message as follower
       where letter.blocks and follower.blocks and follower.topic = letter.topic and follower.key = letter.key
         and follower.id > letter.id) as followers
    from parked_message as letter
    where ${matching(filter)}
    order by redriven_at nulls first, id
    limit ${limit}`.execute(query)
  return rows
}

/** Everything about one message; undefined when there is none of this id. */
export async function showLetter(
  query: Database<unknown>['query'],
  id: bigint,
  logger: Logger,
): Promise<LetterDetails | undefined> {
  const [letter] = await listLetters(query, { ids: [id] })
  if (!letter) return undefined
  const stored = await sql<{ headers: StoredHeaders; bytes: Buffer | null }>`
    select headers, bytes from parked_message where id = ${id}`.execute(query)
  const failures = await sql<LetterDetails['failures'][number]>`
    select number, at, error from parked_attempt where parked_id = ${id} order by number`.execute(query)
  const actions = await sql<LetterDetails['actions'][number]>`
    select action, actor, reason, at from parked_action where parked_id = ${id} order by id`.execute(query)
  const { headers = {}, bytes = null } = stored.rows[0] ?? {}
  return {
    ...letter,
    headers: fromStored(headers),
    bytes,
    payload: await payloadOf(query, bytes, logger),
    failures: failures.rows,
    actions: actions.rows,
  }
}

async function payloadOf(
  query: Database<unknown>['query'],
  bytes: Buffer | null,
  logger: Logger,
): Promise<LetterDetails['payload']> {
  if (bytes === null) return { unreadable: 'it has no payload' }
  try {
    return decode(bytes)
  } catch (error) {
    if (await learnMissing(query, [error], logger)) return payloadOf(query, bytes, logger)
    return { unreadable: describe(error) ?? 'for no known reason' }
  }
}

/** What people can do to parked messages: from which states, and what it changes. Each keeps the order of its key. */
const actions = {
  /** Tries waiting ones now. Those being tried at the moment are left out. */
  retry: {
    from: ['waiting'],
    change: sql`next_attempt_at = now()`,
  },
  /** Lets dead ones be tried anew, with attempts counted from the beginning; each comes before what follows it. */
  redrive: {
    from: ['dead'],
    change: sql`
      state = 'waiting', attempts = 0, blocks = key is not null, redriven_at = now(),
      next_attempt_at = case when exists (
        select 1 from parked_message as earlier
        where earlier.blocks and earlier.topic = letter.topic and earlier.key = letter.key and earlier.id < letter.id)
      then null else now() end`,
  },
  /** Gives them up for good; what waits behind them goes on. */
  discard: {
    from: ['dead', 'waiting', 'behind'],
    change: sql`
      state = 'discarded', ended_at = now(), blocks = false, next_attempt_at = null, waits_for_schema = null`,
  },
} satisfies Record<string, { from: LetterState[]; change: RawBuilder<unknown> }>

export type LetterAction = keyof typeof actions

/** The states that an action applies to. */
export const statesFor = (action: LetterAction): readonly LetterState[] => actions[action].from

/**
 * Does something to these messages, with who decided it and why, in one transaction. Returns the ids of those that it
 * applied to: others have ended, are in another state, or (for a retry) are being tried at the moment. The service's own
 * retrier does the handling. Throws when a discard has no reason, and what {@link isUnavailable} knows when a message
 * to be discarded is being tried for longer than 5 s.
 */
export async function actOnLetters(
  database: Database<unknown>,
  action: LetterAction,
  ids: readonly bigint[],
  { actor, reason }: Decision,
): Promise<bigint[]> {
  if (action === 'discard' && !reason?.trim()) throw new Error('discarding a message needs a reason')
  for (let attempt = 1; ; attempt++) {
    try {
      return await database.transaction((tx) => act(tx, action, ids, { actor, ...(reason && { reason }) }))
    } catch (error) {
      // Discarding a follower can meet the retrier that ends its head: Postgres lets one of them start over.
      if (attempt === 3 || !isUnavailable(error)) throw error
    }
  }
}

async function act(
  tx: Transaction,
  action: LetterAction,
  ids: readonly bigint[],
  { actor, reason }: Decision,
): Promise<bigint[]> {
  const { from, change } = actions[action]
  const { rows } = await lockLetters(tx, ids, from, action)
  const found = rows.map(({ id }) => id)
  if (found.length === 0) return []
  await lockKeys(tx, rows)
  await sql`
      insert into parked_action (parked_id, action, actor, reason, details)
      select id, ${action}, ${actor}, ${reason ?? null}, jsonb_build_object(
        'topic', topic, 'partition', partition, 'offset', "offset", 'key', key, 'type', headers->>'ce_type',
        'eventId', event_id, 'state', ${state}, 'attempts', attempts, 'error', error)
      from parked_message where id = any(${found}::bigint[]) order by id`.execute(tx)
  await sql`update parked_message as letter set ${change} where id = any(${found}::bigint[])`.execute(tx)
  signal(tx, parkedSignal)
  return found
}

/** Rows before keys, as the retrier does it, and rows in the order of their ids. */
function lockLetters(tx: Transaction, ids: readonly bigint[], from: readonly LetterState[], action: LetterAction) {
  return sql<{ id: bigint; topic: string; key: string | null }>`
    select id, topic, key from parked_message
    where id = any(${ids}::bigint[]) and ${state} = any(${from}::text[])
    order by id for update ${action === 'retry' ? sql`skip locked` : sql``}`.execute(tx)
}
