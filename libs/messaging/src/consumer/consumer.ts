import type { Database } from '@shopstream/database'
import { Gauge, type Logger, type Registry } from '@shopstream/observability'
import {
  type AssignedPartition,
  type Bus,
  type Consumer,
  type IncomingBatch,
  type IncomingMessage,
  type Place,
  placeOf,
} from '../broker/bus.ts'
import { crashPoint } from '../crash-points.ts'
import { type Consumption, topicsOf } from '../event/consumption.ts'
import type { ConsumptionMeters } from '../event/meters.ts'
import type { BlockedPartitions } from './blocked-partitions.ts'
import { type Chunks, chunkSize, chunksOf, handleChunk } from './chunks.ts'
import { effectsOf, PartitionLost } from './effects.ts'
import { lanesOf } from './items.ts'
import type { AgainConsumer } from './replicas.ts'
import { standBefore } from './standing-partition.ts'

export interface ConsumerOptions {
  database: Database<unknown>
  bus: Bus
  group: string
  /** The rows of `consumes.ts`, by event. */
  consumptions: ReadonlyMap<string, Consumption>
  logger: Logger
  metrics: Registry
  meters: ConsumptionMeters
  blocked: BlockedPartitions
}

export interface RunningConsumer extends Consumer {
  /** When the first message of this partition that is being handled was written; undefined where none is. */
  oldestInHand(place: Place): Date | undefined
  /** See {@link AgainConsumer}. */
  handleAgain: AgainConsumer['handleAgain']
}

/** What the batches of a consumer share. */
interface Batches extends ConsumerOptions {
  chunks: Chunks
  hasBothLanes: boolean
  inFlight: Gauge
  /** By partition, when the first message that is in hand was written. */
  held: Map<string, Date>
}

/**
 * Consumes the topics of a service's rows: a chunk is one transaction that holds the inbox rows and all effects, and
 * its offsets are done after the commit. Trouble of the database is waited out; a message that fails by itself is
 * parked with its key while the partition moves on. Nothing a handler throws can end the consumer.
 *
 * Urgent chunks go before bulk ones. A client may ask a broker for more only when all that it sent last is handled (KafkaJS), so
 * a bulk partition gives the rest of its batch back after one chunk, to be fetched again: an urgent message that arrives
 * meanwhile waits for the chunks in hand, one of each bulk partition at the most, and not for megabytes.
 */
export function startConsumer(options: ConsumerOptions): RunningConsumer {
  const { bus, group, metrics } = options
  const consumes = [...options.consumptions.values()]
  const batches: Batches = {
    ...options,
    chunks: chunksOf(effectsOf(options)),
    hasBothLanes: new Set(consumes.map(({ policy }) => policy.lane)).size > 1,
    inFlight: createBytesGauge(metrics),
    held: new Map(),
  }
  const handle = (batch: IncomingBatch, partition: AssignedPartition) => handleBatch(batches, batch, partition)
  const consumer = bus.consume({ group, topics: topicsOf(consumes), handle })
  return {
    ...consumer,
    oldestInHand: (place) => batches.held.get(placeOf(place)),
    /** As bulk: urgent chunks go first. */
    async handleAgain(messages, revoked) {
      for (let start = 0; start < messages.length; start += chunkSize)
        await handleChunk(batches.chunks, messages.slice(start, start + chunkSize), 'bulk', { revoked })
    },
  }
}

async function handleBatch(batches: Batches, batch: IncomingBatch, partition: AssignedPartition): Promise<void> {
  const { inFlight, held } = batches
  const bytes = sizeOf(batch)
  inFlight.inc(bytes)
  try {
    if (!(await handleChunks(batches, batch, partition))) return
    if (batch.unreadable) await standBefore(batches, batch.unreadable, partition)
    else partition.done(batch.next) // behind what no consumer sees
  } finally {
    held.delete(placeOf(partition))
    inFlight.dec(bytes)
  }
}

/** False: the rest is fetched again, or is another member's. */
async function handleChunks(batches: Batches, batch: IncomingBatch, partition: AssignedPartition): Promise<boolean> {
  const { chunks, hasBothLanes, blocked, held } = batches
  for (let start = 0; start < batch.messages.length; start += chunkSize) {
    const chunk = batch.messages.slice(start, start + chunkSize)
    const lanes = lanesOf(batches, chunk)
    const lane = lanes.has('urgent') ? 'urgent' : 'bulk'
    if (chunk[0]?.timestamp) held.set(placeOf(partition), chunk[0].timestamp)
    try {
      await handleChunk(chunks, chunk, lane, partition)
    } catch (error) {
      if (error instanceof PartitionLost) return false
      throw error
    }
    crashPoint('chunk-committed')
    const isLast = start + chunkSize >= batch.messages.length
    partition.done((chunk.at(-1) as IncomingMessage).offset + 1n)
    crashPoint('offset-resolved')
    blocked.free(partition)
    if (lane === 'bulk' && lanes.has('bulk') && hasBothLanes && !isLast) return false
  }
  return true
}

/** Bytes of keys, values and headers. */
function sizeOf({ messages }: IncomingBatch): number {
  const ofHeaders = (headers: IncomingMessage['headers']) =>
    Object.entries(headers).reduce((sum, [name, value]) => sum + name.length + (value?.length ?? 0), 0)
  return messages.reduce(
    (sum, { key, value, headers }) => sum + (key?.length ?? 0) + (value?.length ?? 0) + ofHeaders(headers),
    0,
  )
}

function createBytesGauge(registry: Registry): Gauge {
  return new Gauge({
    name: 'shopstream_consumer_bytes_in_flight',
    help: 'Bytes of messages that were fetched and are not handled yet.',
    registers: [registry],
  })
}
