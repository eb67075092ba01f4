/** What a service is built with. What operators use is @shopstream/messaging/operations. */
import { readMigrations } from '@shopstream/database'

export { createAlarm, pause } from './async.ts'
export { kafkaOptions, openKafkaBus } from './broker/kafka/open.ts'
export { type Consumption, on } from './event/consumption.ts'
export type { Message } from './event/envelope.ts'
export type { ReadinessCheck } from './health/readiness.ts'
export { createMessaging, type Messaging, type MessagingOptions } from './messaging.ts'
export { parkedActionRetention } from './operations/archive.ts'
export type { CatchUp, KeyRange, Ownership } from './operations/ownership.ts'
export { type AnyNewEvent, type NewEvent, type Producer, producer } from './outbox/outbox.ts'

/** Tables of the event core: outbox, inbox, parked messages. */
export const messagingMigrations = readMigrations('messaging', import.meta.url)
