/** What operators' commands, benchmarks and tests use besides: the broker's port, stored messages, dead letters, growth, archives. */
export { withTimeLimit } from './async.ts'
export {
  type Bus,
  GroupHasMembers,
  type IncomingMessage,
  type OutgoingMessage,
  oddKey,
  type PartitionOffset,
  type PartitionPosition,
  type Place,
  placeOf,
  type ReadOptions,
  type Unreadable,
} from './broker/bus.ts'
export type { Acl, AclAdmin } from './broker/kafka/acls.ts'
export { identityOf, type KafkaIdentity } from './broker/kafka/identity.ts'
export { type KafkaClient, kafkaClientFrom, kafkaClients, openAcls } from './broker/kafka/open.ts'
export { listUnreadable, stepOver, type UnreadableRow } from './consumer/unreadable.ts'
export {
  compactedTopics,
  eventIdOf,
  fromStored,
  MalformedMessage,
  readMessage,
  type StoredHeaders,
  typeOf,
  unreadableIdOf,
} from './event/envelope.ts'
export { bridgeGroup } from './forwarding/forwarder.ts'
export { inboxWindowDays } from './inbox/inbox.ts'
export { type ArchiveFile, archive, leastDays, type Retention } from './operations/archive.ts'
export { CannotGrow, countOf, type GrowthStep, growTopic } from './operations/growth.ts'
export { ensureTopics } from './operations/topics.ts'
export { outgoing } from './outbox/outbox.ts'
export {
  actOnLetters,
  type DecidedBy,
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
export { inboundName, unparkedBy } from './parked/parked.ts'
