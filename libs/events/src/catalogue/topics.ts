import type { EventName } from '../generated/events.ts'

/** A Kafka topic as it is created at deployment. */
export interface Topic {
  readonly name: string
  /** What its messages are keyed by, in words. */
  readonly key: string
  readonly events: readonly EventName[]
  readonly partitions: number
  /** `compact` keeps the last message of each key for ever, `delete` keeps every message for `retentionMs`. */
  readonly cleanup: 'compact' | 'delete'
  /** Milliseconds; -1 on compacted topics, which are not cut by age. */
  readonly retentionMs: number
  /** What the broker is told beyond the number of partitions, under Kafka's own names. */
  readonly settings: Readonly<Record<string, string>>
}

const day = 24 * 60 * 60 * 1000
const partitions = 6

/** How long a consumer may be away and still see every event. */
const retentionMs = 7 * day
/** Nobody redrives a message a quarter after it was given up. */
const deadLetterRetentionMs = 90 * day
/** An event at the limit of 1 MiB, with the headers that tell why it was given up. */
const deadLetterBytes = 2 * 1024 * 1024

/**
 * The broker stamps what it stores. By the writer's clock, one that is more than an hour ahead has every event refused
 * (Kafka 4: INVALID_TIMESTAMP), and reading from a time skips or repeats what was written by clocks that disagree.
 */
const stamped = { 'message.timestamp.type': 'LogAppendTime' }

const compacted = (name: string, key: string, events: readonly EventName[]): Topic => ({
  name,
  key,
  events,
  partitions,
  cleanup: 'compact',
  retentionMs: -1,
  // A message is left alone for as long as deleted ones are kept elsewhere, so that nobody misses a UserRegistered
  // because a UserProfileChanged followed.
  settings: { 'cleanup.policy': 'compact', 'min.compaction.lag.ms': String(retentionMs), ...stamped },
})

const kept = (name: string, key: string, events: readonly EventName[], forMs = retentionMs): Topic => ({
  name,
  key,
  events,
  partitions,
  cleanup: 'delete',
  retentionMs: forMs,
  settings: { 'cleanup.policy': 'delete', 'retention.ms': String(forMs), ...stamped },
})

/** Every topic of the shop; the dead-letter topics of its consumer groups are {@link deadLetterTopic}. */
export const topics: readonly Topic[] = [
  compacted('shop.user.v1', 'user id', ['UserRegistered', 'UserProfileChanged', 'UserErased']),
  compacted('shop.signing-key.v1', 'key id', ['SigningKeyPublished', 'SigningKeyRetired']),
  compacted('shop.product.v1', 'sku', ['ProductListed', 'ProductChanged', 'ProductRetired']),
  kept('shop.stock.v1', 'sku', ['StockLevelChanged']),
  kept('shop.reservation.v1', 'order id', ['StockReserved', 'StockRejected', 'StockReleased', 'StockSold']),
  kept('shop.order.v1', 'order id', [
    'OrderPlaced',
    'OrderConfirmed',
    'OrderRejected',
    'OrderShipped',
    'OrderDelivered',
    'OrderCancelled',
  ]),
  kept('shop.notification.v1', 'notification id', ['NotificationSent', 'NotificationFailed']),
  kept('shop.loyalty.v1', 'user id', ['PointsAwarded']),
  compacted('shop.schema.v1', 'schema id', ['SchemaRegistered']),
]

const topicsByEvent = new Map(topics.flatMap((topic) => topic.events.map((event) => [event, topic])))

/** The topic that an event travels in. */
export function topicOf(event: EventName): Topic {
  const topic = topicsByEvent.get(event)
  if (!topic) throw new Error(`${event} is in no topic of the catalogue; give it one in topics.ts`)
  return topic
}

/** Where the messages go that consumer group `group` gave up on: original bytes and headers, of events of any kind. */
export function deadLetterTopic(group: string): Topic {
  const topic = kept(`shop.${group}.dlq`, 'key of the original message', [], deadLetterRetentionMs)
  return { ...topic, settings: { ...topic.settings, 'max.message.bytes': String(deadLetterBytes) } }
}
