import { type Database, sql } from '@shopstream/database'
import { partitionOf, type Topic } from '@shopstream/events'
import { pause } from '../async.ts'
import {
  type Bus,
  type IncomingMessage,
  type OutgoingMessage,
  oddKey,
  placeOf,
  type Unreadable,
} from '../broker/bus.ts'
import { isSteppedOver } from '../consumer/unreadable.ts'
import { crashPoint } from '../crash-points.ts'

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
  /** Databases of these groups, by name, if known: they hold the decisions to step over unreadable stretches. */
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  databases?: Readonly<Partial<Record<string, Database<any>>>>
  /** Called after each step. What it throws ends the command there, as a crash would. */
  told?(step: GrowthStep): void
  /** The groups have so long to come to the end, in ms. */
  patienceMs?: number
  signal?: AbortSignal
}

/** The topic is not grown. No events are held, unless it says so. */
export class CannotGrow extends Error {}

const lookEveryMs = 100
const defaultPatienceMs = 300_000

/**
 * Gives a topic more partitions without breaking the order of a key: the relay holds the topic's events back in the outbox,
 * every group comes to its end, then the partitions are added and the relay goes on with the new number. A message that is
 * parked goes on holding back later ones of its key, in whichever partition they come. Of a compacted topic the last record
 * of each key that moves is moved with it, as compaction would keep it in its former partition for ever.
 *
 * Each step is noted in the database, and may be repeated: after a crash the same call goes on where it was, and until
 * then the topic's events wait. Throws {@link CannotGrow} when it cannot begin, or when the groups do not come to the
 * end. An unreadable stretch without a decision is such a reason, found before anything is changed; one that all groups
 * have stepped over stays where it is.
 */
export async function growTopic(options: GrowthOptions): Promise<void> {
  const { bus, topic, partitions, told = () => {} } = options
  if ((await placedBy(options)) !== partitions) await orLetGo(options, () => refuseUndecided(options))
  if (!(await begin(options))) return
  await orLetGo(options, async () => {
    await untilHeld(options)
    told('held')
    await untilDrained(options)
  })
  told('drained')
  await bus.addPartitions(topic.name, partitions)
  crashPoint('growth-added')
  told('added')
  if (topic.cleanup === 'compact') await orLetGo(options, () => moveRecords(options))
  told('moved')
  await sql`
    update topic_partitions set former = former || partitions, partitions = growing_to, growing_to = null, held_at = null
    where topic = ${topic.name} and growing_to = ${partitions}`.execute(options.database.query)
  told('grown')
}

/** How many partitions a topic has. */
export async function countOf(bus: Bus, topic: string): Promise<number> {
  return (await bus.positions(undefined, [topic])).length
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

/** The number of partitions that the topic's keys are placed by. */
async function placedBy({ database, topic }: GrowthOptions): Promise<number> {
  const { rows } = await sql<{ partitions: number }>`
    select partitions from topic_partitions where topic = ${topic.name}`.execute(database.query)
  return rows[0]?.partitions ?? topic.partitions
}

/** If `work` throws CannotGrow, the topic's events go on by its former number, unless it has its partitions already. */
async function orLetGo(options: GrowthOptions, work: () => Promise<void>): Promise<void> {
  const { bus, database, topic, partitions } = options
  try {
    await work()
  } catch (error) {
    if (!(error instanceof CannotGrow)) throw error
    const count = await countOf(bus, topic.name).catch(() => partitions)
    if (count < partitions)
      await sql`
        update topic_partitions set growing_to = null, held_at = null
        where topic = ${topic.name} and growing_to = ${partitions}`.execute(database.query)
    const { rows: held } = await sql`
      select from topic_partitions where topic = ${topic.name} and growing_to = ${partitions}`.execute(database.query)
    if (held.length === 0) throw error
    throw new CannotGrow(
      `${error.message}; its events are held until this is repeated, as it has its partitions already`,
    )
  }
}

/**
 * Throws for an unreadable stretch that a group would never pass, or that holds states which may have to move. In a
 * topic that keeps no states, only messages that groups have not handled yet are looked at.
 */
async function refuseUndecided(options: GrowthOptions): Promise<void> {
  const { bus, topic, groups } = options
  const positions = (await Promise.all(groups.map((group) => bus.positions(group, [topic.name])))).flat()
  const partitions = [...Map.groupBy(positions, placeOf).values()].flatMap(([first, ...others]) =>
    first ? [others.reduce((least, one) => (one.done < least.done ? one : least), first)] : [],
  )
  await bus.read({
    topics: [topic.name],
    ...(topic.cleanup !== 'compact' && { partitions: partitions.map(({ done, ...one }) => ({ ...one, from: done })) }),
    toEnd: true,
    handle() {},
    unreadable: (found) => mustBeDecided(options, found),
  })
}

/** Throws unless each group has passed it, or may step over it by decision. */
async function mustBeDecided({ bus, topic, groups, databases = {} }: GrowthOptions, found: Unreadable): Promise<void> {
  const { partition, firstOffset, lastOffset, reason } = found
  const undecided: string[] = []
  for (const group of groups) {
    const database = databases[group]
    if (database && (await isSteppedOver(database.query, found))) continue
    const position = (await bus.positions(group, [topic.name])).find((one) => one.partition === partition)
    const hasPassed = position !== undefined && position.done > lastOffset
    // A group with a higher limit has read it: states in it would stay behind unseen.
    if (!hasPassed || (database && topic.cleanup === 'compact')) undecided.push(group)
  }
  if (undecided.length === 0) return
  const place = `${topic.name}/${partition}`
  throw new CannotGrow(
    `${place} cannot be read at offsets ${firstOffset} to ${lastOffset} (${reason}), and nobody has decided for ${undecided.join(', ')} that this may be stepped over: npm run shop -- unreadable step-over ${place}@${firstOffset} --reason '...'`,
  )
}

/**
 * Waits until the relay has said that it holds the topic. If no relay leads, says so itself, under the relay's lock.
 */
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

/** Records that are moved at once. */
const moveBatch = 500

/**
 * Copies the last record of each key whose partition changes to the new one, as it is, and then writes a tombstone to
 * the former one. That would otherwise keep an old state for ever, even the data of a user who was erased since. A
 * record where we would not place its key, or whose key is not text, is another producer's and stays.
 */
async function moveRecords(options: GrowthOptions): Promise<void> {
  const { bus, topic, partitions } = options
  const former = await placedBy(options)
  for (let partition = 0; partition < former; partition++) {
    const moves = (key: string) =>
      !key.startsWith(oddKey) && partitionOf(key, former) === partition && partitionOf(key, partitions) !== partition
    const last = new Map<string, IncomingMessage & { key: string }>()
    await bus.read({
      topics: [topic.name],
      partitions: [{ topic: topic.name, partition }],
      toEnd: true,
      handle(messages) {
        for (const { key, ...message } of messages) if (key !== null && moves(key)) last.set(key, { ...message, key })
      },
      unreadable: (found) => mustBeDecided(options, found),
    })
    const moving = [...last.values()].filter(({ value }) => value !== null)
    for (let at = 0; at < moving.length; at += moveBatch) {
      const batch = moving.slice(at, at + moveBatch)
      await publishAll(
        bus,
        batch.map((one) => ({ ...outgoingOf(one), partition: partitionOf(one.key, partitions) })),
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

/** Repeats what fails: brokers refuse records for a new partition at first. */
async function publishAll(bus: Bus, messages: readonly OutgoingMessage[]): Promise<void> {
  const deadline = performance.now() + publishLimitMs
  for (let pending = messages; pending.length > 0; ) {
    const failed = (await bus.publish(pending)).filter(({ error }) => error)
    pending = failed.map(({ message }) => message)
    if (pending.length > 0 && performance.now() > deadline) throw failed[0]?.error
    if (pending.length > 0) await pause(200)
  }
}
