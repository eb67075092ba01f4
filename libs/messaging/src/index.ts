import { readMigrations } from '@shopstream/database'

export { createAlarm, pause, withTimeLimit } from './async.ts'
export {
  type AssignedPartition,
  type Bus,
  type Delivery,
  GroupHasMembers,
  type IncomingBatch,
  type IncomingMessage,
  type OutgoingMessage,
  oddKey,
  type PartitionOffset,
  type PartitionPosition,
  placeOf,
  type ReadOptions,
  type Unreadable,
  type WireHeaders,
} from './broker/bus.ts'
export {
  type KafkaClient,
  type KafkaOptions,
  type KafkaSettings,
  kafkaClientFrom,
  kafkaClients,
  kafkaOptions,
  openKafkaBus,
} from './broker/kafka/open.ts'
export {
  listUnreadable,
  type StepOver,
  stepOver,
  type UnreadableRow,
} from './consumer/unreadable.ts'
export { type Consumption, type FailurePolicy, type Handler, on } from './event/consumption.ts'
export {
  compactedTopics,
  eventIdOf,
  fromStored,
  MalformedMessage,
  type Message,
  readMessage,
  type StoredHeaders,
  typeOf,
  unreadableIdOf,
} from './event/envelope.ts'
export type { ReadinessCheck } from './health/limits.ts'
export { inboxWindowDays } from './inbox/inbox.ts'
export { createMessaging, type Messaging, type MessagingOptions } from './messaging.ts'
export {
  type ArchiveFile,
  archive,
  leastDays,
  type Moved,
  parkedActionRetention,
  type Retention,
} from './operations/archive.ts'
export { CannotGrow, countOf, type GrowthOptions, type GrowthStep, growTopic } from './operations/growth.ts'
export type { CatchUp, KeyRange, Ownership } from './operations/ownership.ts'
export { ensureTopics } from './operations/topics.ts'
export { type AnyNewEvent, type NewEvent, outgoing, type Producer, producer } from './outbox/outbox.ts'
export {
  actOnLetters,
  type Decision,
  type KeyPlan,
  type Letter,
  type LetterAction,
  type LetterDetails,
  type LetterFilter,
  type LetterState,
  letterStates,
  listLetters,
  mayHaveTakenEffect,
  planFor,
  showLetter,
  statesFor,
} from './parked/dead-letters.ts'

/** Tables of the event core: outbox, inbox, parked messages. */
export const messagingMigrations = readMigrations('messaging', import.meta.url)
