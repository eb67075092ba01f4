import { type Database, isUnavailable, type RawBuilder, signal, sql, type Transaction } from '@shopstream/database'
import type { WireHeaders } from '../broker/bus.ts'
import { compactedTopics, fromStored, type StoredHeaders } from '../event/envelope.ts'
import { isForgotten } from '../inbox/inbox.ts'
import { bridgeMark, lockKeys, parkedSignal } from './parked.ts'

/** Where a parked message stands. `waiting`: for its next attempt; `behind`: for an earlier one of its key. */
export const letterStates = ['dead', 'waiting', 'behind', 'handled', 'discarded'] as const
export type LetterState = (typeof letterStates)[number]

/** Which parked messages of a service; all conditions hold together. */
export interface LetterFilter {
  ids?: readonly bigint[]
  /** Also what a bridge has parked of it. */
  topic?: string
  bridge?: string
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
  /** The dead message of its key that it waits for, until a person decides about that one. */
  behindDead: bigint | null
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
  /** The original payload, as it came. */
  bytes: Buffer | null
  /** Every attempt that failed, those before a redrive too. */
  failures: { number: number; at: Date; error: string }[]
  actions: { action: LetterAction; actor: string; reason: string | null; at: Date }[]
}

/** Who decides about parked messages, and why; kept with each of them. */
export interface DecidedBy {
  actor: string
  reason?: string
}

const state = sql<LetterState>`case when state = 'waiting' and next_attempt_at is null then 'behind' else state end`

function matching(filter: LetterFilter): RawBuilder<unknown> {
  const { ids, topic, bridge, type, key, error, parkedBefore, parkedAfter, states } = filter
  const conditions = [
    ids && sql`id = any(${ids}::bigint[])`,
    topic !== undefined && sql`${topic} in (topic, split_part(topic, ${bridgeMark}, 1))`,
    bridge !== undefined && sql`split_part(topic, ${bridgeMark}, 2) = ${bridge}`,
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
 * The parked messages that match: first those that were never redriven, each part in the order of parking. So a redrive
 * that was interrupted goes on where it stopped when it is repeated.
 */
export async function listLetters(
  query: Database<unknown>['query'],
  filter: LetterFilter,
  limit: number | null = null,
): Promise<Letter[]> {
  const { rows } = await sql<Letter>`
    select id, ${state} as state, topic, partition, coalesce(former_offset, "offset") as "offset", key, headers->>'ce_type' as type, event_id as "eventId",
      attempts, error, parked_at as "parkedAt", next_attempt_at as "nextAttemptAt", redriven_at as "redrivenAt",
      ended_at as "endedAt", waits_for_schema as "waitsForSchema",
      (select count(*)::integer from parked_message as follower
       where letter.blocks and follower.blocks and follower.topic = letter.topic and follower.key = letter.key
         and follower.id > letter.id) as followers,
      (select id
       from (
         select id, state from parked_message as earlier
         where earlier.blocks and earlier.topic = letter.topic and earlier.key = letter.key and earlier.id < letter.id
         order by id limit 1) as head
       where letter.state = 'waiting' and head.state = 'dead') as "behindDead"
    from parked_message as letter
    where ${matching(filter)}
    order by redriven_at nulls first, id
    limit ${limit}`.execute(query)
  return rows
}

/** Everything about one message; undefined when there is none of this id. */
export async function showLetter(query: Database<unknown>['query'], id: bigint): Promise<LetterDetails | undefined> {
  const [letter] = await listLetters(query, { ids: [id] })
  if (!letter) return undefined
  const stored = await sql<{ headers: StoredHeaders; bytes: Buffer | null }>`
    select headers, bytes from parked_message where id = ${id}`.execute(query)
  const failures = await sql<LetterDetails['failures'][number]>`
    select number, at, error from parked_attempt where parked_id = ${id} order by number`.execute(query)
  const actions = await sql<LetterDetails['actions'][number]>`
    select action, actor, reason, at from parked_action where parked_id = ${id} order by id`.execute(query)
  const { headers = {}, bytes = null } = stored.rows[0] ?? {}
  return { ...letter, headers: fromStored(headers), bytes, failures: failures.rows, actions: actions.rows }
}

/**
 * Whether its event may have taken effect before: when it came, it was older than the inbox remembers. If it is
 * redriven, it may take effect a second time.
 */
export const mayHaveTakenEffect = ({ topic, eventId, parkedAt }: Letter): boolean =>
  eventId !== null && !compactedTopics.has(topic) && isForgotten(eventId, parkedAt.getTime())

/** What would become of a key if its messages among the chosen ones were retried, redriven or discarded. */
export interface KeyPlan {
  topic: string
  key: string | null
  /** The chosen ones, in the order in which they would be handled. */
  ids: bigint[]
  /** How many others of the key would go on behind them. */
  followers: number
  /** The first dead message of the key that was not chosen: what comes after it goes on waiting, chosen or not. */
  stopsAt: bigint | null
}

/** Plans for these messages, key by key as their first ones are given. Changes nothing. */
export async function planFor(query: Database<unknown>['query'], ids: readonly bigint[]): Promise<KeyPlan[]> {
  const { rows } = await sql<Omit<KeyPlan, 'ids'> & { ids: string[] }>`
    with chosen as (
      select topic, key, array_agg(id order by id) as ids, min(place) as place
      from parked_message join unnest(${ids}::bigint[]) with ordinality as given (id, place) using (id)
      group by topic, key
    )
    select topic, key, ids, stop.id as "stopsAt",
      (select count(*)::integer from parked_message as follower
       where follower.blocks and follower.topic = chosen.topic and follower.key = chosen.key
         and follower.id > chosen.ids[1] and follower.id <> all(chosen.ids)
         and (stop.id is null or follower.id < stop.id)) as followers
    from chosen left join lateral (
      select id from parked_message as dead
      where dead.blocks and dead.state = 'dead' and dead.topic = chosen.topic and dead.key = chosen.key
        and dead.id <> all(chosen.ids)
      order by id limit 1) as stop on true
    order by place`.execute(query)
  return rows.map((row) => ({ ...row, ids: row.ids.map(BigInt) })) // pg leaves arrays of bigint as text
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
  { actor, reason }: DecidedBy,
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
  { actor, reason }: DecidedBy,
): Promise<bigint[]> {
  const { from, change } = actions[action]
  const { rows } = await lockLetters(tx, ids, from, action)
  const found = rows.map(({ id }) => id)
  if (found.length === 0) return []
  await lockKeys(tx, rows)
  await sql`
      insert into parked_action (parked_id, action, actor, reason, details)
      select id, ${action}, ${actor}, ${reason ?? null}, jsonb_build_object(
        'topic', topic, 'partition', partition, 'offset', coalesce(former_offset, "offset"), 'key', key, 'type', headers->>'ce_type',
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
