import { Gauge } from '@shopstream/observability'
import { pause } from '../async.ts'
import { type Bus, lagOf, type PartitionPosition } from '../broker/bus.ts'
import { topicsOf } from '../event/consumption.ts'
import type { ConsumerOptions, RunningConsumer } from './consumer.ts'
import type { Replicas } from './replicas.ts'

const measureMs = 10_000

/** What is known of how far the group has come. */
export interface Progress {
  /** By topic, the age in seconds of the oldest message not handled yet. */
  backlog: Map<string, number>
}

interface Watched {
  progress: Progress
  replicas: Replicas
  backlogLimits: ReadonlyMap<string, number>
}

/** Measures the lag, and sees the replicas filled. */
export async function watchProgress(
  consumer: RunningConsumer,
  { group, bus, consumptions, logger, metrics }: ConsumerOptions,
  { progress, replicas, backlogLimits }: Watched,
  stop: AbortSignal,
): Promise<void> {
  const lag = new Gauge({
    name: 'shopstream_consumer_lag_messages',
    help: 'Messages of a topic that this group has not handled yet.',
    labelNames: ['topic'],
    registers: [metrics],
  })
  const age = new Gauge({
    name: 'shopstream_consumer_backlog_seconds',
    help: 'Age of the oldest message of a topic that this group has not handled yet.',
    labelNames: ['topic'],
    registers: [metrics],
  })
  const ageLimit = new Gauge({
    name: 'shopstream_consumer_backlog_limit_seconds',
    help: 'The age from which on readiness is degraded, as consumes.ts says.',
    labelNames: ['topic'],
    registers: [metrics],
  })
  const topics = topicsOf([...consumptions.values()])
  for (const [topic, seconds] of backlogLimits) ageLimit.set({ topic }, seconds)
  let agesDue = performance.now() + measureMs // by then most of what waits is in hand, which costs the brokers nothing
  while (!stop.aborted) {
    try {
      await replicas.look() // before Kafka is asked: it may be away
      const positions = await bus.positions(group, topics)
      for (const [topic, messages] of lagOf(positions)) lag.set({ topic }, messages)
      await replicas.reached(positions, consumer)
      if (performance.now() >= agesDue) {
        progress.backlog = await agesOf(bus, consumer, positions)
        for (const [topic, seconds] of progress.backlog) age.set({ topic }, seconds)
        agesDue = performance.now() + measureMs
      }
    } catch (error) {
      logger.debug({ err: error }, 'the lag cannot be measured now')
    }
    await pause(replicas.areRead ? measureMs : 100, stop)
  }
}

/** What is in hand tells its own age; brokers are asked for the rest alone. */
async function agesOf(
  bus: Bus,
  consumer: RunningConsumer,
  positions: PartitionPosition[],
): Promise<Map<string, number>> {
  const now = Date.now()
  const ages = await bus.agesOf(positions.filter((position) => !consumer.oldestInHand(position)))
  for (const position of positions) {
    const seconds = (now - (consumer.oldestInHand(position)?.getTime() ?? now)) / 1_000
    ages.set(position.topic, Math.max(ages.get(position.topic) ?? 0, seconds))
  }
  return ages
}
