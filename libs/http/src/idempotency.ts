import { createHash } from 'node:crypto'
import { isNativeError } from 'node:util/types'
import { type Database, gather, sql, type Transaction } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import { errors } from './errors.ts'
import type { IdempotentRequest, Reply } from './routes.ts'

/** Answers are kept this long; older ones count as absent. */
const keptFor = sql.raw("interval '24 hours'")
const cleanEveryMs = 60_000
/** Rows of one delete: it must not hold locks or fill the log for long. */
const cleanBatch = 500

interface KeptAnswer {
  hash: Buffer
  status: number
  headers: Record<string, string>
  body: unknown
}

/** SHA-256 over what makes requests the same: method, path, and the body whatever the order of its fields. */
export function hashRequest(method: string, url: string, body: unknown): Buffer {
  return createHash('sha256')
    .update(`${method} ${url}\n${canonical(body)}`)
    .digest()
}

function canonical(body: unknown): string | undefined {
  return JSON.stringify(body, (_, value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  )
}

/**
 * Runs `work` within `tx` unless the same request was answered before; keeps the answer in the same transaction.
 * The key is inserted first: a concurrent request with the same key waits on it until this transaction ends.
 */
export async function answerOnce(
  tx: Transaction,
  request: IdempotentRequest,
  work: (tx: Transaction) => Promise<Reply>,
): Promise<Reply> {
  const [own] = await claim(tx, [request]).catch((error) => {
    throw isLockTimeout(error) ? errors['request-in-progress']() : error
  })
  if (!own) return replay(tx, request)
  const reply = await work(tx)
  await keep(tx, [{ request, reply }])
  return reply
}

/**
 * Claims keys, and returns the requests that have theirs now; for the other keys an answer is kept. No two requests may
 * have the same key. `waitMs` limits the wait for a key that another transaction holds, and every other lock wait in
 * this transaction.
 */
export async function claim<R extends IdempotentRequest>(
  tx: Transaction,
  requests: readonly R[],
  waitMs?: number,
): Promise<R[]> {
  if (requests.length === 0) return []
  const { rows } = await sql<{ user_id: string; key: string }>`
    with request as materialized (
      select *, set_config('lock_timeout', coalesce(${waitMs}::text, current_setting('lock_timeout')), true)
      from unnest(
        ${requests.map(({ userId }) => userId)}::uuid[], ${requests.map(({ key }) => key)}::text[],
        ${requests.map(({ hash }) => hash)}::bytea[]) as request (user_id, key, hash))
    insert into idempotency_key as kept (user_id, key, request_hash)
    select user_id, key, hash from request order by user_id, key
    on conflict (user_id, key) do update
      set request_hash = excluded.request_hash, status = null, headers = null, body = null, created_at = now()
      where kept.created_at < now() - ${keptFor}
    returning user_id, key`.execute(tx)
  const claimed = new Set(rows.map(({ user_id: userId, key }) => nameOf({ userId, key })))
  return requests.filter((request) => claimed.has(nameOf(request)))
}

/** Identifies a key among those of all users. */
export const nameOf = ({ userId, key }: Pick<IdempotentRequest, 'userId' | 'key'>) => `${userId.toLowerCase()} ${key}`

/** Gives keys back that were claimed in this transaction: their requests had no effect. */
export async function release(tx: Transaction, requests: readonly IdempotentRequest[]): Promise<void> {
  if (requests.length === 0) return
  await sql`
    delete from idempotency_key where (user_id, key) in (
      select * from unnest(${requests.map(({ userId }) => userId)}::uuid[], ${requests.map(({ key }) => key)}::text[]))
  `.execute(tx)
}

export const isLockTimeout = (error: unknown): boolean =>
  isNativeError(error) && 'code' in error && error.code === '55P03'

/**
 * The answer that is kept for a request, if there is one. Throws `idempotency-key-reused` (422).
 * @public as part of the module, which requests are given whole
 */
export async function keptAnswer(
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  on: Transaction | Database<any>['query'],
  { userId, key, hash }: IdempotentRequest,
): Promise<Reply | undefined> {
  const { rows } = await sql<KeptAnswer>`
    select request_hash "hash", status, headers, body from idempotency_key
    where user_id = ${userId} and key = ${key} and status is not null and created_at >= now() - ${keptFor}
  `.execute(on)
  const [kept] = rows
  if (!kept) return undefined
  if (!kept.hash.equals(hash)) throw errors['idempotency-key-reused']()
  return { status: kept.status, headers: kept.headers, body: kept.body, replayed: true }
}

async function replay(tx: Transaction, request: IdempotentRequest): Promise<Reply> {
  const kept = await keptAnswer(tx, request)
  // Gone again between two statements: it was cleaned up, or its user was erased.
  if (!kept) throw errors['request-in-progress']()
  return kept
}

/** A request with its answer. */
export interface Answered {
  request: IdempotentRequest
  reply: Reply
}

/** Keeps answers for requests; also replaces earlier ones. `on` is a transaction or the database's `query`. */
export async function keep(
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  on: Transaction | Database<any>['query'],
  answered: readonly Answered[],
): Promise<void> {
  if (answered.length === 0) return
  await sql`
    update idempotency_key as kept set status = answer.status, headers = answer.headers, body = answer.body
    from unnest(
      ${answered.map(({ request }) => request.userId)}::uuid[], ${answered.map(({ request }) => request.key)}::text[],
      ${answered.map(({ request }) => request.hash)}::bytea[], ${answered.map(({ reply }) => reply.status)}::integer[],
      ${answered.map(({ reply }) => JSON.stringify(reply.headers ?? {}))}::jsonb[],
      ${answered.map(({ reply }) => JSON.stringify(reply.body ?? null))}::jsonb[]
    ) as answer (user_id, key, hash, status, headers, body)
    where kept.user_id = answer.user_id and kept.key = answer.key and kept.request_hash = answer.hash
  `.execute(on)
}

/** Keeps answers of their own transaction: those that come while some are being kept go together. */
// biome-ignore lint/suspicious/noExplicitAny: any service's database
export const keeper = (database: Database<any>): ((answered: Answered) => Promise<void>) =>
  gather(100, async (all) => [await keep(database.query, all)])

/** Deletes old answers every minute until the returned function is called. */
// biome-ignore lint/suspicious/noExplicitAny: any service's database
export function cleanRegularly(database: Database<any>, logger: Logger): () => Promise<void> {
  let cleaning: Promise<void> = Promise.resolve()
  const timer = setInterval(() => {
    cleaning = cleaning
      .then(() => clean(database))
      .catch((error) => logger.warn({ err: error }, 'old idempotency keys are deleted later'))
  }, cleanEveryMs)
  timer.unref()
  return () => {
    clearInterval(timer)
    return cleaning
  }
}

/** Deletes answers that are too old, in small steps; returns when none is left. */
// biome-ignore lint/suspicious/noExplicitAny: any service's database
export async function clean(database: Database<any>): Promise<void> {
  for (let deleted = cleanBatch; deleted === cleanBatch; ) {
    const result = await sql`
      delete from idempotency_key where (user_id, key) in (
        select user_id, key from idempotency_key where created_at < now() - ${keptFor}
        order by created_at limit ${cleanBatch} for update skip locked)
    `.execute(database.query)
    deleted = Number(result.numAffectedRows ?? 0)
  }
}
