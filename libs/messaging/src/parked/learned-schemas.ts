import { type Database, sql, type Transaction } from '@shopstream/database'
import { learnSchema } from '@shopstream/events'
import type { Logger } from '@shopstream/observability'
import type { Message } from '../event/envelope.ts'
import { missingSchema } from './parked.ts'

/**
 * Keeps what `shop.schema.v1` tells, so that events of a newer producer can be read. Returns the ids that are new.
 * Throws when an id was told before with another schema: messages by it can mean either.
 */
export async function keepSchemas(
  tx: Transaction,
  messages: Message<'SchemaRegistered', 'schemaId' | 'subject' | 'schema'>[],
): Promise<number[]> {
  const schemas = messages.map(({ data }) => data)
  const { rows } = await sql<{ schemaId: number }>`
    insert into learned_schema (schema_id, subject, schema)
    select * from unnest(
      ${schemas.map(({ schemaId }) => schemaId)}::integer[], ${schemas.map(({ subject }) => subject)}::text[],
      ${schemas.map(({ schema }) => schema)}::text[])
    on conflict (schema_id) do nothing
    returning schema_id "schemaId"`.execute(tx)
  const clashes = await sql<{ schemaId: number; subject: string }>`
    select kept.schema_id "schemaId", kept.subject
    from learned_schema as kept join unnest(
      ${schemas.map(({ schemaId }) => schemaId)}::integer[], ${schemas.map(({ schema }) => schema)}::text[]
    ) as told (schema_id, schema) using (schema_id)
    where kept.schema <> told.schema`.execute(tx)
  const [clash] = clashes.rows
  if (clash) {
    throw new Error(
      `schema ${clash.schemaId} was ${clash.subject} before, and another one now: two versions were registered under one id; a local shop forgets the first by \`npm run reset\``,
    )
  }
  return rows.map(({ schemaId }) => schemaId)
}

/**
 * Learns the missing schemas of writers, if they have arrived; true when there was one, so that reading again may help.
 * `problems` are the errors that reading threw.
 */
export async function learnMissing(
  query: Database<unknown>['query'] | Transaction,
  problems: readonly unknown[],
  logger: Logger,
): Promise<boolean> {
  const missing = new Set(problems.flatMap((problem) => missingSchema(problem) ?? []))
  if (missing.size === 0) return false
  const { rows } = await sql<{ schemaId: number; subject: string; schema: string }>`
    select schema_id "schemaId", subject, schema from learned_schema
    where schema_id = any(${[...missing]}::integer[])`.execute(query)
  let learned = 0
  for (const row of rows) {
    try {
      learnSchema(row)
      learned += 1
    } catch (error) {
      logger.error({ err: error, schemaId: row.schemaId }, 'a schema of a newer writer cannot be read by this version')
    }
  }
  return learned > 0
}
