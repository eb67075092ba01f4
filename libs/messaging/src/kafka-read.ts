import { randomUUID } from 'node:crypto'
import type { Admin, Consumer, EachBatchPayload, Kafka } from 'kafkajs'
import { pause, withTimeLimit } from './async.ts'
import type { IncomingMessage, PartitionPosition, ReadOptions } from './bus.ts'
import { saidByBroker } from './kafka-clients.ts'

/** How often, and with which pause in ms, a broker is asked that has just started and still loads its groups. */
const loading = { attempts: 50, pauseMs: 200 }

interface Range {
  topic: string
  partition: number
  from: bigint
  /** Offset of the next message to be written when reading began. */
  end: bigint
}

export interface ReadPlace {
  kafka: Kafka
  admin: Admin
  wireName: (name: string) => string
  toMessages: (payload: EachBatchPayload) => IncomingMessage[]
}

const keyOf = ({ topic, partition }: { topic: string; partition: number }) => `${topic}/${partition}`

/** See `Bus.read`. KafkaJS reads as a member of a group only, so this makes one of its own and removes it afterwards. */
export async function read(place: ReadPlace, options: ReadOptions): Promise<void> {
  const { admin, wireName } = place
  const found = await rangesOf(admin, options.topics.map(wireName), options.from)
  const ranges = options.partitions ? chosen(found, options.partitions, wireName) : found
  const others = found.filter((range) => !ranges.some((one) => keyOf(one) === keyOf(range)))
  const open = new Set(options.toEnd ? ranges.filter(({ from, end }) => from < end).map(keyOf) : [])
  if (options.signal?.aborted || (options.toEnd && open.size === 0)) return
  for (let attempt = 1; ; attempt++) {
    try {
      return await readAsMember({ ranges, others, open }, place, options)
    } catch (error) {
      if (!isLoading(error) || attempt === loading.attempts) throw error
      await pause(loading.pauseMs, options.signal)
      if (options.signal?.aborted) return
    }
  }
}

/** Told when a member joins: it has read nothing then. */
const isLoading = (error: unknown) => saidByBroker(error)?.type === 'GROUP_LOAD_IN_PROGRESS'

/** What is read, what else the group is given, and which of the first has not been read to its end. */
interface Reading {
  ranges: Range[]
  others: Range[]
  open: Set<string>
}

async function readAsMember(reading: Reading, place: ReadPlace, options: ReadOptions): Promise<void> {
  const { kafka, admin, wireName } = place
  const groupId = wireName(`reader-${randomUUID()}`)
  const consumer = kafka.consumer({
    groupId,
    sessionTimeout: 30_000, // `handle` may be slow, and nobody waits for this member's partitions
    maxWaitTimeInMs: 100,
    // Everything fetched is decoded before the first of it is handled: by KafkaJS's defaults 10 MiB, some 30,000 messages.
    maxBytesPerPartition: 524_288,
    maxBytes: 1_048_576,
    allowAutoTopicCreation: false,
    retry: { initialRetryTime: 200, maxRetryTime: 3_000, retries: 5, restartOnFailure: async () => false },
  })
  try {
    await readUntilDone(consumer, reading, place, options)
  } finally {
    await withTimeLimit(consumer.disconnect(), 3_000, 'leaving the reading group').catch(() => undefined)
    await admin.deleteGroups([groupId]).catch(() => undefined) // an empty group expires by itself
  }
}

/** Those of the ranges that were asked for, from where it was asked for. */
function chosen(ranges: Range[], partitions: NonNullable<ReadOptions['partitions']>, wireName: ReadPlace['wireName']) {
  const byKey = new Map(partitions.map((wanted) => [keyOf({ ...wanted, topic: wireName(wanted.topic) }), wanted]))
  return ranges.flatMap((range) => {
    const wanted = byKey.get(keyOf(range))
    return wanted ? [{ ...range, from: wanted.from ?? range.from }] : []
  })
}

async function readUntilDone(
  consumer: Consumer,
  { ranges, others, open }: Reading,
  { toMessages }: ReadPlace,
  { signal, toEnd, handle }: ReadOptions,
): Promise<void> {
  const byKey = new Map(ranges.map((range) => [keyOf(range), range]))
  const done = Promise.withResolvers<void>()
  done.promise.catch(() => {}) // it may fail before anybody waits
  const stopped = () => done.resolve()
  signal?.addEventListener('abort', stopped, { once: true })
  consumer.on(consumer.events.CRASH, ({ payload }) => done.reject(payload.error))
  // Also told of batches that hold nothing but control records, which no handler sees.
  consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
    const range = byKey.get(keyOf(payload))
    if (range && BigInt(payload.lastOffset) + 1n >= range.end) open.delete(keyOf(payload))
    if (toEnd && open.size === 0) done.resolve()
  })
  try {
    await consumer.connect()
    await consumer.subscribe({ topics: [...new Set(ranges.map(({ topic }) => topic))], fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      partitionsConsumedConcurrently: 1,
      eachBatch: async (payload) => {
        const range = byKey.get(keyOf(payload.batch))
        const wanted = toMessages(payload).filter(
          ({ offset }) => range && offset >= range.from && !(toEnd && offset >= range.end),
        )
        try {
          if (wanted.length > 0 && !signal?.aborted) await handle(wanted)
        } catch (error) {
          done.reject(error)
        }
      },
    })
    await Promise.race([done.promise, undefined]) // throws what it crashed with while joining, which `run` does not
    for (const { topic, partition, from } of ranges) consumer.seek({ topic, partition, offset: String(from) })
    // A group's only member is given all partitions of its topics.
    if (others.length > 0) consumer.pause(others.map(({ topic, partition }) => ({ topic, partitions: [partition] })))
    await done.promise
  } finally {
    signal?.removeEventListener('abort', stopped)
  }
}

async function rangesOf(admin: Admin, topics: string[], from: ReadOptions['from']): Promise<Range[]> {
  const perTopic = topics.map(async (topic) => {
    const [ends, starts] = await Promise.all([
      admin.fetchTopicOffsets(topic),
      from instanceof Date ? offsetsAt(admin, topic, from) : undefined,
    ])
    return ends.map(({ partition, low, high }) => {
      const first = from === 'end' ? BigInt(high) : (starts?.get(partition) ?? BigInt(low))
      return { topic, partition, from: first, end: BigInt(high) }
    })
  })
  return (await Promise.all(perTopic)).flat()
}

/** See `Bus.agesOf`, of one topic; the broker finds offsets by time, so the time is found by halving. */
export async function ageOfBacklog(
  admin: Admin,
  topic: string,
  positions: readonly PartitionPosition[],
): Promise<number> {
  const behind = positions.filter(({ done, end }) => done < end)
  if (behind.length === 0) return 0
  const now = Date.now()
  const hasOlder = async (seconds: number) => {
    const firstYounger = await offsetsAt(admin, topic, new Date(now - seconds * 1_000))
    return behind.some(({ partition, done }) => done < (firstYounger.get(partition) ?? 0n))
  }
  let older = 0
  let limit = 1
  while (limit < oldestSeconds && (await hasOlder(limit))) {
    older = limit
    limit *= 2
  }
  while (limit - older > Math.max(1, older / 8)) {
    const middle = (older + limit) / 2
    if (await hasOlder(middle)) older = middle
    else limit = middle
  }
  return older
}

/** A year; no topic that deletes keeps messages for so long. */
const oldestSeconds = 31_536_000

/** By partition, the offset of the first message written at `time` or later; the end where there is none. */
export async function offsetsAt(admin: Admin, topic: string, time: Date): Promise<Map<number, bigint>> {
  const found = await admin.fetchTopicOffsetsByTimestamp(topic, time.getTime())
  return new Map(found.map(({ partition, offset }) => [partition, BigInt(offset)]))
}
