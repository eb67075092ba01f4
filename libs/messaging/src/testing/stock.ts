/**
 * What the test shop tells and does, without anything that starts parts: an instance in a process of its own loads this
 * alone, in half the time.
 */
import { signal, sql, type Transaction } from '@shopstream/database'
import { partitionOf, topicOf } from '@shopstream/events'
import { type Consumption, type FailurePolicy, on } from '../event/consumption.ts'
import type { Message } from '../event/envelope.ts'
import { producer } from '../outbox/outbox.ts'

export const produces = producer('shop', ['StockLevelChanged', 'ProductListed'])

/** The payload with a number by which tests tell events apart. */
export const stockEvent = (sku: string, sequence: bigint) => ({
  type: 'StockLevelChanged' as const,
  key: sku,
  sequence,
  data: { sku, onHand: Number(sequence), reserved: 0, available: Number(sequence) },
})

/** Decides on a message before its effect is written: throws to make it fail. */
export type Trouble = (message: Message, tx: Transaction) => void | Promise<void>

/** The row of `consumes.ts`: writes each stock event to `effect`, with the instance (application name) that did it. */
export const writeEffects = (trouble: Trouble, policy: Partial<FailurePolicy> = {}): Consumption =>
  on(
    { StockLevelChanged: ['sku', 'onHand', 'reserved', 'available'] },
    async (tx: Transaction, messages) => {
      for (const message of messages) {
        await trouble(message, tx)
        await sql`insert into effect (event_id, key, sequence) values (${message.id}, ${message.key}, ${message.sequence})`.execute(
          tx,
        )
      }
    },
    { backoffMs: 20, maxBackoffMs: 50, ...policy },
  )

/** Advisory lock that handlers of `gated…` keys take, and thereby wait for. */
export const gate = 4_711

const troubleByKey: Trouble = async ({ id, key, sequence }, tx) => {
  if (key.startsWith('gated')) await sql`select pg_advisory_xact_lock_shared(${gate})`.execute(tx)
  if (key.startsWith('computing')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 7_000) // no event is served meanwhile
  if (key.startsWith('slow')) await sql`select pg_sleep(7)`.execute(tx)
  if (key.startsWith('stopping')) signal(tx, 'stop')
  if (key.startsWith('faulty')) await failByChance(tx, key, sequence)
  if (key.startsWith('echoed')) await produces.emit(tx, [stockEvent(`echo of ${key}`, sequence)])
  if (key.startsWith('dying') && sequence === 2n) throw new Error('never')
  if (key.startsWith('failing') && sequence === 2n) {
    const tried = await sql`select 1 from parked_message where event_id = ${id} and attempts >= 2`.execute(tx)
    if (tried.rows.length === 0) throw new Error('not before the third attempt')
  }
}

/** The test says in a table how likely each event fails, and may change its mind. */
async function failByChance(tx: Transaction, key: string, sequence: bigint): Promise<void> {
  const { rows } = await sql<{ chance: number }>`
    select chance from fault where key = ${key} and sequence = ${sequence}`.execute(tx)
  if (Math.random() < (rows[0]?.chance ?? 0)) throw new Error(`${key} fails at ${sequence}`)
}

/** The row of `consumes.ts` of instances in a process of their own. */
export const toldByKeys = writeEffects(troubleByKey, { attempts: 3 })

const stockTopic = topicOf('StockLevelChanged')

/** Bytes as they come, by whatever producer, to the topic of stock levels. */
export const rawMessage = (
  key: string,
  value: Buffer,
  headers: Record<string, string> = { ce_type: 'StockLevelChanged' },
) => ({
  topic: stockTopic.name,
  partition: partitionOf(key, stockTopic.partitions),
  key,
  value,
  headers,
})
