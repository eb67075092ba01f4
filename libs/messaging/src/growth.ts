import { type Database, sql } from '@shopstream/database'
import { partitionOf, type Topic } from '@shopstream/events'
import { pause } from './async.ts'
import type { Bus, IncomingMessage, OutgoingMessage } from './bus.ts'
import { crashPoint } from './crash-points.ts'

/** What has been done of growing a topic. */
export type GrowthStep = 'held' | 'drained' | 'added' | 'moved' | 'grown'

export interface GrowthOptions {
  bus: Bus
  /** Of the service that produces the topic's events. */
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any>
  topic: Topic
  partitions: number
  /** All groups that consume it and for which order counts. */
  groups: readonly string[]
  /** Called after each step. What it throws ends the command there, as a crash would. */
  told?(step: GrowthStep): void
  /** The groups have so long to come to the end, in ms. */
  patienceMs?: number
  signal?: AbortSignal
}

/** It is not done. Nothing is held, unless it says so. */
export class CannotGrow extends Error {}

const lookEveryMs = 100
const defaultPatienceMs = 300_000

/**
 * Gives a topic more partitions without breaking the order of a key: the relay holds the topic's events back in the outbox,
 * every group comes to its end, then the partitions are added and the relay goes on with the new number. A message that is
 * parked goes on holding back later ones of its key, in whichever partition they come. Of a compacted topic the last record
 * of each key that moves is moved with it, as compaction would keep it in its former partition for ever.
 *
 * Each step is noted in the database, and may be repeated: after a crash the same call goes on where it was, and until then
 * the topic's events wait. Throws {@link CannotGrow} when it cannot begin, or when the groups do not come to the end.
 */
export async function growTopic(options: GrowthOptions): Promise<void> {
  const { bus, topic, partitions, told = () => {} } = options
  if (!(await begin(options))) return
  try {
    await untilHeld(options)
    told('held')
    await untilDrained(options)
  } catch (error) {
    const count = await countOf(bus, topic.name).catch(() => partitions)
    if (!(error instanceof CannotGrow)) throw error
    if (count >= partitions)
      throw new CannotGrow(
        `${error.message}; its events are held until this is repeated, as it has its partitions already`,
      )
    await letGo(options)
    throw error
  }
  told('drained')
  await bus.addPartitions(topic.name, partitions)
  crashPoint('growth-added')
  told('added')
  if (topic.cleanup === 'compact') await moveRecords(options)
  told('moved')
  await sql`
    update topic_partitions set former = former || partitions, partitions = growing_to, growing_to = null, held_at = null
    where topic = ${topic.name} and growing_to = ${partitions}`.execute(options.database.query)
  told('grown')
}

/** How many partitions a topic has. */
export async function countOf(bus: Bus, topic: string): Promise<number> {
  return (await bus.positions('growth', [topic])).length
}

/** False when it has this number already. */
async function begin({ bus, database, topic, partitions }: GrowthOptions): Promise<boolean> {
  const count = await countOf(bus, topic.name)
  if (count > partitions) throw new CannotGrow(`${topic.name} has ${count} partitions, and can have no fewer`)
  return database.transaction(async (tx) => {
    await sql`
      insert into topic_partitions (topic, partitions, former) values (${topic.name}, ${topic.partitions}, '{}')
      on conflict do nothing`.execute(tx)
    const { rows } = await sql<{ partitions: number; growing_to: number | null }>`
      select partitions, growing_to from topic_partitions where topic = ${topic.name} for update`.execute(tx)
    const [found] = rows
    if (found?.partitions === partitions) return false
    if (found && found.partitions > partitions)
      throw new CannotGrow(`keys of ${topic.name} are placed by ${found.partitions} partitions already`)
    if (found?.growing_to && found.growing_to !== partitions)
      throw new CannotGrow(`${topic.name} is growing to ${found.growing_to} partitions: that comes first`)
    await sql`
      update topic_partitions set growing_to = ${partitions} where topic = ${topic.name} and growing_to is null`.execute(
      tx,
    )
    return true
  })
}

/** The topic's events go on by the number that it had. */
async function letGo({ database, topic }: GrowthOptions): Promise<void> {
  await sql`
    update topic_partitions set growing_to = null, held_at = null where topic = ${topic.name}`.execute(database.query)
}

/** Until the relay has said that it publishes nothing of the topic; where none leads, none may begin before it has looked. */
async function untilHeld(options: GrowthOptions): Promise<void> {
  const { database, topic } = options
  await until(options, 'no relay of the service says that it holds the topic', async () => {
    const { rows } = await sql`
      select from topic_partitions where topic = ${topic.name} and held_at is not null`.execute(database.query)
    if (rows.length > 0) return true
    return database.transaction(async (tx) => {
      const { rows: free } = await sql<{ taken: boolean }>`
        select pg_try_advisory_xact_lock(hashtext('outbox-relay')) as taken`.execute(tx)
      if (!free[0]?.taken) return false
      await sql`update topic_partitions set held_at = now() where topic = ${topic.name}`.execute(tx)
      return true
    })
  })
}

async function untilDrained(options: GrowthOptions): Promise<void> {
  const { bus, topic, groups } = options
  for (const group of groups)
    await until(options, `${group} has not come to the end of ${topic.name}`, async () =>
      (await bus.positions(group, [topic.name])).every(({ done, end }) => done >= end),
    )
}

async function until(
  { patienceMs = defaultPatienceMs, signal }: GrowthOptions,
  problem: string,
  isSo: () => Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + patienceMs
  while (!(await isSo())) {
    if (signal?.aborted) throw new CannotGrow(`interrupted: ${problem}`)
    if (performance.now() > deadline) throw new CannotGrow(`${problem} within ${Math.round(patienceMs / 1_000)} s`)
    await pause(lookEveryMs, signal)
  }
}

/** So many records at once are moved. */
const moveBatch = 500

/**
 * The last record of each key that has another partition by the new number goes there, as it is, and a tombstone behind it in
 * the former one: else that would keep an old state for ever, and the data of somebody who has been erased since.
 */
async function moveRecords({ bus, topic, partitions }: GrowthOptions): Promise<void> {
  const former = await countOf(bus, topic.name)
  for (let partition = 0; partition < former; partition++) {
    const last = new Map<string, IncomingMessage>()
    await bus.read({
      topics: [topic.name],
      partitions: [{ topic: topic.name, partition }],
      toEnd: true,
      handle(messages) {
        for (const message of messages)
          if (message.key !== null && partitionOf(message.key, partitions) !== partition) last.set(message.key, message)
      },
    })
    const moving = [...last.values()].filter(({ value }) => value !== null)
    for (let at = 0; at < moving.length; at += moveBatch) {
      const batch = moving.slice(at, at + moveBatch)
      await publishAll(
        bus,
        batch.map((one) => ({ ...outgoingOf(one), partition: partitionOf(String(one.key), partitions) })),
      )
      crashPoint('growth-copied')
      await publishAll(
        bus,
        batch.map((one) => ({ ...outgoingOf(one), value: null, headers: {} })),
      )
    }
  }
}

const outgoingOf = ({ topic, partition, key, value, headers }: IncomingMessage): OutgoingMessage => ({
  topic,
  partition,
  key,
  value,
  headers,
})

const publishLimitMs = 60_000

/** Brokers refuse for a while what is for a partition that was just made. */
async function publishAll(bus: Bus, messages: readonly OutgoingMessage[]): Promise<void> {
  const deadline = performance.now() + publishLimitMs
  for (let pending = messages; pending.length > 0; ) {
    const failed = (await bus.publish(pending)).filter(({ error }) => error)
    pending = failed.map(({ message }) => message)
    if (pending.length > 0 && performance.now() > deadline) throw failed[0]?.error
    if (pending.length > 0) await pause(200)
  }
}
