import { readMigrations } from '@shopstream/database'

export {
  type ArchiveFile,
  archive,
  leastDays,
  type Moved,
  parkedActionRetention,
  type Retention,
} from './archive.ts'
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
} from './bus.ts'
export { type Consumption, type FailurePolicy, type Handler, on } from './consumption.ts'
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
} from './dead-letters.ts'
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
} from './envelope.ts'
export { CannotGrow, countOf, type GrowthOptions, type GrowthStep, growTopic } from './growth.ts'
export { inboxWindowDays } from './inbox.ts'
export {
  type KafkaClient,
  type KafkaOptions,
  type KafkaSettings,
  kafkaClientFrom,
  kafkaClients,
  kafkaOptions,
  openKafkaBus,
} from './kafka/open.ts'
export type { ReadinessCheck } from './limits.ts'
export { createMessaging, type Messaging, type MessagingOptions } from './messaging.ts'
export { type AnyNewEvent, type NewEvent, outgoing, type Producer, producer } from './outbox.ts'
export type { CatchUp, KeyRange, Ownership } from './ownership.ts'
export { ensureTopics } from './topics.ts'
export {
  listUnreadable,
  type StepOver,
  stepOver,
  type UnreadableRow,
} from './unreadable.ts'

/** Tables of the event core: outbox, inbox, parked messages. */
export const messagingMigrations = readMigrations('messaging', import.meta.url)
