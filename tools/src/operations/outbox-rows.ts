import { type Database, sql } from '@shopstream/database'
import type { fromStored } from '@shopstream/messaging/operations'

interface OutboxRow {
  id: bigint
  topic: string
  partition: number
  key: string | null
  value: Buffer | null
  headers: Parameters<typeof fromStored>[0]
  created_at: Date
  refused: string | null
  before: number
}

/** Reads the whole outbox: it is short, or its length is the trouble. */
export async function outboxRows({ query }: Database<unknown>, { key, eventId }: { key?: string; eventId?: string }) {
  const { rows } = await sql<OutboxRow>`
    select id, topic, partition, key, value, headers, created_at, refused,
      (select count(*) from outbox as earlier where earlier.id < own.id)::integer as before
    from outbox as own
    where key = ${key ?? null} or headers->>'ce_id' = ${eventId ?? null}
    order by id`.execute(query)
  return rows
}
