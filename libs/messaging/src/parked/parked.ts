import { createHash } from 'node:crypto'
import { isNativeError } from 'node:util/types'
import { type Database, type RawBuilder, signal, sql, type Transaction } from '@shopstream/database'
import { DecodeError, deadLetterTopic, partitionOf } from '@shopstream/events'
import type { IncomingMessage, OutgoingMessage } from '../broker/bus.ts'
import { crashPoint } from '../crash-points.ts'
import type { FailurePolicy } from '../event/consumption.ts'
import { eventIdOf, MalformedMessage, type StoredHeaders, toStored } from '../event/envelope.ts'
import { insertOutbox } from '../outbox/outbox.ts'

/** Name of the after-commit signal by which the retrier is woken. */
export const parkedSignal = 'parked'

/** `waiting` and `dead` rows are live; `handled` and `discarded` ones are history. */
export type ParkedState = 'waiting' | 'dead' | 'handled' | 'discarded'

/** A message that goes to the parking lot, and why. */
export interface Parking {
  message: IncomingMessage
  policy: FailurePolicy
  /** Undefined: it only waits behind an earlier one of its key. */
  error: unknown
}

/** A row of `parked_message`. */
export interface ParkedRow {
  id: bigint
  topic: string
  partition: number
  offset: bigint
  /** Where it was in a topic that was made anew since; `offset` is its negated id then. */
  former_offset: bigint | null
  key: string | null
  bytes: Buffer | null
  headers: StoredHeaders
  state: ParkedState
  /** Since it was parked, or redriven. */
  attempts: number
  error: string | null
  waits_for_schema: bigint | null
}

/** Not in any name of a topic, see {@link parkedBy}. */
export const bridgeMark = '@'

/**
 * The topic under which a bridge parks what it cannot pass on: each of a service's bridges fails, and goes on, by itself,
 * and the same message may be parked by several.
 */
export const parkedBy = (bridge: string, topic: string) => `${topic}${bridgeMark}${bridge}`

/** What {@link parkedBy} has put together; without a bridge for what a service has parked for itself. */
export function unparkedBy(name: string): { topic: string; bridge?: string } {
  const [topic = '', bridge] = name.split(bridgeMark)
  return bridge === undefined ? { topic } : { topic, bridge }
}

/** Stands for a topic where a bridge parks what came in to it: its source has none. */
export const inboundName = 'inbound'

/** Identifies a key within its topic. */
export const keyOf = ({ topic, key }: { topic: string; key: string | null }) => `${topic}\n${key}`

/** Whether a message is parked that blocks its key, in any of these topics. */
export async function blocksAny(query: Database<unknown>['query'], topics: readonly string[]): Promise<boolean> {
  const { rows } = await sql<{ any: boolean }>`
    select exists (select from parked_message where blocks and topic = any(${topics}::text[])) as any`.execute(query)
  return rows[0]?.any === true
}

/** Which of these messages' keys are blocked by a parked message; as {@link keyOf} gives them. */
export async function blockedKeys(
  tx: Transaction | Database<unknown>['query'],
  messages: readonly Pick<IncomingMessage, 'topic' | 'key'>[],
): Promise<Set<string>> {
  if (messages.length === 0) return new Set()
  const { rows } = await sql<{ topic: string; key: string }>`
    select topic, key
    from (select distinct topic, key from unnest(
      ${messages.map(({ topic }) => topic)}::text[], ${messages.map(({ key }) => key)}::text[]) as one (topic, key)) as wanted
    where exists (
      select 1 from parked_message as earlier
      where earlier.blocks and earlier.topic = wanted.topic and earlier.key = wanted.key)`.execute(tx)
  return new Set(rows.map(keyOf))
}

/**
 * Writes messages to the parking lot, in their order. One that is malformed is dead at once. One that is there already
 * is left alone, unless it ended as handled: then it has come again and failed, and waits anew. Comes last in a
 * transaction: it takes the keys of what blocks others, which handlers must not wait for.
 */
export async function park(tx: Transaction, group: string, parkings: readonly Parking[]): Promise<void> {
  if (parkings.length === 0) return
  const entries = parkings.map(toEntry)
  // What blocks nobody has no follower that could miss its end.
  await lockKeys(
    tx,
    entries.filter(({ blocks }) => blocks).map(({ message }) => message),
  )
  const rows = await insertParked(tx, entries)
  if (rows.length < entries.length) rows.push(...(await parkWhereOthersWere(tx, entries, rows)))
  crashPoint('parked-written')
  const dead = rows.filter(({ state }) => state === 'dead')
  await copyToDeadLetters(tx, group, dead)
  if (dead.length < rows.length) signal(tx, parkedSignal)
}

/** A message on its way into the parking lot. */
interface Entry extends Fate {
  message: IncomingMessage
  error: unknown
  attempts: number
}

function toEntry({ message, policy, error }: Parking): Entry {
  const attempts = error === undefined ? 0 : 1
  const fate = fateOf(error, attempts, policy)
  return { message, error, attempts, ...fate, blocks: fate.blocks && message.key !== null }
}

/** Returns the rows of those that were not there, and of those that had ended as handled. */
async function insertParked(tx: Transaction, entries: readonly Entry[]): Promise<ParkedRow[]> {
  const { rows } = await sql<ParkedRow>`
    with event as (
      select * from unnest(
        ${entries.map(({ message }) => eventIdOf(message.headers) ?? null)}::uuid[],
        ${entries.map(({ message }) => message.topic)}::text[],
        ${entries.map(({ message }) => message.partition)}::integer[],
        ${entries.map(({ message }) => message.offset)}::bigint[],
        ${entries.map(({ message }) => message.key)}::text[],
        ${entries.map(({ message }) => message.value)}::bytea[],
        ${entries.map(({ message }) => JSON.stringify(toStored(message.headers)))}::jsonb[],
        ${entries.map(({ state }) => state)}::text[],
        ${entries.map(({ blocks }) => blocks)}::boolean[],
        ${entries.map(({ attempts }) => attempts)}::integer[],
        ${entries.map(({ error }) => describe(error))}::text[],
        ${entries.map(({ error, attempts }) => (attempts > 0 ? describeFully(error) : null))}::text[],
        ${entries.map(({ error }) => missingSchema(error) ?? null)}::bigint[],
        ${entries.map(({ pauseMs }) => pauseMs)}::double precision[]
      ) with ordinality as event
        (event_id, topic, partition, "offset", key, bytes, headers, state, blocks, attempts, error, failure, waits_for_schema, pause_ms, place)
    ), parked as (
      insert into parked_message
        (event_id, topic, partition, "offset", key, bytes, headers, state, blocks, attempts, error, waits_for_schema, next_attempt_at)
      select event_id, topic, partition, "offset", key, bytes, headers, state, blocks, attempts, error, waits_for_schema,
        case when state = 'dead'
          or bool_or(blocks) over (partition by topic, key order by place rows between unbounded preceding and 1 preceding)
          or exists (
            select 1 from parked_message as earlier
            where earlier.blocks and earlier.topic = event.topic and earlier.key = event.key)
        then null else now() + make_interval(secs => pause_ms / 1000) end
      from event
      where not exists ( -- a conflict would wait for the attempt that may be under way
        select 1 from parked_message as live
        where live.topic = event.topic and live.partition = event.partition and live."offset" = event."offset" and live.ended_at is null)
      order by place
      on conflict (topic, partition, "offset") do update set
        headers = excluded.headers,
        state = excluded.state, blocks = excluded.blocks, attempts = excluded.attempts, error = excluded.error,
        waits_for_schema = excluded.waits_for_schema, parked_at = now(), ended_at = null, redriven_at = null,
        next_attempt_at = case when excluded.state = 'waiting' then now() end -- its place in the key is an old one, maybe the first
      where parked_message.state = 'handled' and ${isSame(sql.table('parked_message'), sql.table('excluded'))}
      returning *
    ), attempted as (
      insert into parked_attempt (parked_id, number, error)
      select id, coalesce((select max(number) from parked_attempt where parked_id = id), 0) + 1, failure
      from parked join event using (topic, partition, "offset") where failure is not null
    )
    select * from parked order by id`.execute(tx)
  return rows
}

/** Whether two rows are of the same message: a topic that was made anew has another one at the same offset. */
const isSame = (one: RawBuilder<unknown>, other: RawBuilder<unknown>) =>
  sql`(${one}.event_id, ${one}.key, ${one}.bytes) is not distinct from (${other}.event_id, ${other}.key, ${other}.bytes)`

/**
 * Parks messages at offsets that other messages hold: those are from before the topic was recreated, and keep
 * everything but their offset; see `former_offset`. Throws when any other message was not parked: it would be lost.
 */
async function parkWhereOthersWere(
  tx: Transaction,
  entries: readonly Entry[],
  inserted: readonly ParkedRow[],
): Promise<ParkedRow[]> {
  const places = new Set(inserted.map(offsetPlaceOf))
  const left = entries.filter(({ message }) => !places.has(offsetPlaceOf(message)))
  const { rows: known } = await sql<ParkedRow & { same: boolean }>`
    select held.*, ${isSame(sql.table('held'), sql.table('event'))} as same
    from unnest(
      ${left.map(({ message }) => eventIdOf(message.headers) ?? null)}::uuid[],
      ${left.map(({ message }) => message.topic)}::text[],
      ${left.map(({ message }) => message.partition)}::integer[],
      ${left.map(({ message }) => message.offset)}::bigint[],
      ${left.map(({ message }) => message.key)}::text[],
      ${left.map(({ message }) => message.value)}::bytea[]
    ) as event (event_id, topic, partition, "offset", key, bytes)
    join parked_message as held using (topic, partition, "offset")`.execute(tx)
  if (known.length !== left.length)
    throw new Error(`of ${left.length} messages to park, ${left.length - known.length} were not`)
  const others = known.filter(({ same }) => !same)
  if (others.length === 0) return []
  await sql`
    update parked_message set former_offset = "offset", "offset" = -id
    where id = any(${others.map(({ id }) => id)}::bigint[])`.execute(tx)
  const taken = new Set(others.map(offsetPlaceOf))
  const rows = await insertParked(
    tx,
    left.filter(({ message }) => taken.has(offsetPlaceOf(message))),
  )
  if (rows.length !== others.length)
    throw new Error(`of ${others.length} messages to park where others were, ${others.length - rows.length} were not`)
  return rows
}

/** Where a message was when it was parked. */
export const offsetOf = ({ offset, former_offset }: ParkedRow): string => String(former_offset ?? offset)

const offsetPlaceOf = ({ topic, partition, offset }: Pick<IncomingMessage, 'topic' | 'partition' | 'offset'>) =>
  `${topic}/${partition}@${offset}`

/** Locks these keys until the transaction ends: a message parked behind another must not miss that one's end. */
export async function lockKeys(
  tx: Transaction,
  keys: readonly Pick<IncomingMessage, 'topic' | 'key'>[],
): Promise<void> {
  if (keys.length === 0) return
  await sql`select parked_lock(${keys.map(({ topic }) => topic)}::text[], ${keys.map(({ key }) => key)}::text[])`.execute(
    tx,
  )
}

/** Keeps what an attempt failed with, as the next number of its message. */
export async function recordAttempt(tx: Transaction, id: bigint, error: unknown): Promise<void> {
  await sql`
    insert into parked_attempt (parked_id, number, error)
    select ${id}::bigint, coalesce(max(number), 0) + 1, ${describeFully(error)}
    from parked_attempt where parked_id = ${id}`.execute(tx)
}

/** Messages that wait for one of these schemas are due at once. */
export async function hastenWaiting(tx: Transaction, schemaIds: readonly number[]): Promise<void> {
  if (schemaIds.length === 0) return
  await sql`
    update parked_message set next_attempt_at = now()
    where waits_for_schema = any(${schemaIds}::bigint[]) and state = 'waiting' and next_attempt_at is not null`.execute(
    tx,
  )
  signal(tx, parkedSignal)
}

/** What becomes of a message. */
export interface Fate {
  state: 'waiting' | 'dead'
  blocks: boolean
  pauseMs: number
}

/** The id of the writer's schema, where nothing but that is missing. */
export const missingSchema = (error: unknown): bigint | undefined =>
  error instanceof DecodeError && error.reason === 'unknown-schema' && error.schemaId !== undefined
    ? BigInt(error.schemaId)
    : undefined

/**
 * What becomes of a message after `attempts` failed attempts (0: it has not been tried, it waits behind another).
 * @param random from 0 to 1, for the jitter.
 */
export function fateOf(error: unknown, attempts: number, policy: FailurePolicy, random = Math.random()): Fate {
  if (attempts === 0) return { state: 'waiting', blocks: true, pauseMs: 0 }
  // A newer producer's schema arrives with this service's next version: that takes as long as it takes.
  const lasts = missingSchema(error) !== undefined
  if (error instanceof MalformedMessage || (attempts >= policy.attempts && !lasts)) {
    return { state: 'dead', blocks: policy.whenDead === 'block', pauseMs: 0 }
  }
  const backoff = lasts ? { ...policy, ...schemaBackoff } : policy
  return { state: 'waiting', blocks: true, pauseMs: backoffOf(attempts, backoff, random) }
}

/**
 * Storing a schema wakes what waits for it ({@link hastenWaiting}); this is for a message that missed that. A producer
 * on another registry can write 50,000 such messages in one batch, each with a key of its own.
 */
const schemaBackoff = { backoffMs: 60_000, maxBackoffMs: 3_600_000 }

/** The pause in ms after `attempts` failed attempts. */
function backoffOf(attempts: number, policy: FailurePolicy, random = Math.random()): number {
  const backoff = Math.min(policy.maxBackoffMs, policy.backoffMs * 2 ** Math.min(attempts - 1, 30))
  return backoff * (1 + policy.jitter * (2 * random - 1))
}

/** What text columns and jsonb take: bounded, without NUL and without halves of characters. */
const storable = (text: string, length: number) => text.slice(0, length).replaceAll('\0', '\ufffd').toWellFormed()

/** An error in a line. */
export function describe(error: unknown): string | null {
  if (error === undefined) return null
  return storable(isNativeError(error) ? `${error.name}: ${error.message}` : `thrown: ${String(error)}`, 2_000)
}

const stackLines = 8

/** An error with where it came from, but for values that it may carry along. */
function describeFully(error: unknown): string {
  const lines = isNativeError(error) ? (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line)) : []
  return storable([describe(error), ...lines.slice(0, stackLines)].join('\n'), 4_000)
}

/** What a copy may have, in bytes; together far below what the dead-letter topic takes (2 MiB). */
const copyLimits = { value: 1_048_576, header: 8_192, headers: 131_072 }

/**
 * The part of a message that goes into its copy. A foreign message can be larger than the topic takes, which refuses it
 * for good: its copy gives its hash, and where the whole one is (its id in `parked_message` of the group's database).
 */
function fitting({ id, bytes, headers }: ParkedRow): Pick<OutgoingMessage, 'value'> & { headers: object } {
  const isTooLarge = bytes !== null && bytes.length > copyLimits.value
  let left = copyLimits.headers
  const kept = Object.entries(headers).filter(([name, held]) => {
    const size = Buffer.byteLength(name) + Buffer.byteLength(JSON.stringify(held))
    if (size > copyLimits.header || size > left) return false
    left -= size
    return true
  })
  const leftOut = Object.keys(headers).length - kept.length
  return {
    value: isTooLarge ? null : bytes,
    headers: {
      ...Object.fromEntries(kept),
      dlq_id: String(id),
      ...(isTooLarge && {
        dlq_value_bytes: String(bytes.length),
        dlq_value_sha256: createHash('sha256').update(bytes).digest('hex'),
      }),
      ...(leftOut > 0 && { dlq_headers_left_out: String(leftOut) }),
    },
  }
}

/** Copies of the original bytes go to the group's dead-letter topic, so that other tools can see them; see {@link fitting}. */
export async function copyToDeadLetters(tx: Transaction, group: string, rows: readonly ParkedRow[]): Promise<void> {
  const topic = deadLetterTopic(group)
  const copies = rows.map((row) => {
    const { value, headers } = fitting(row)
    return {
      topic: topic.name,
      partition: row.key === null ? 0 : partitionOf(row.key, topic.partitions),
      key: row.key,
      value,
      headers: {
        ...headers,
        dlq_group: group,
        dlq_topic: row.topic,
        dlq_partition: String(row.partition),
        dlq_offset: offsetOf(row),
        dlq_attempts: String(row.attempts),
        dlq_error: row.error ?? '',
      },
    }
  })
  await insertOutbox(tx, copies)
  if (rows.length > 0) crashPoint('dead-letter-written')
}
