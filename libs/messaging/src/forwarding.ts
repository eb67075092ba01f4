/** What a service needs that hands events on to brokers of other kinds, and takes theirs in. */

export type { Bus } from './broker/bus.ts'
export { MessageRefused, NotNow } from './broker/bus.ts'
export type { BlockedPartitions } from './consumer/blocked-partitions.ts'
export { type FailurePolicy, foreignPolicy } from './event/consumption.ts'
export { MalformedMessage } from './event/envelope.ts'
export { createAbsence } from './forwarding/absence.ts'
export type { Forward, Forwarded } from './forwarding/deliver.ts'
export {
  bridgeGroup,
  type Forwarder,
  type ForwardMeters,
  type ForwardOutcome,
  startForwarder,
} from './forwarding/forwarder.ts'
export { inboundName, type Parking, park, parkedBy } from './parked/parked.ts'
export { type ParkedHandling, type Retrier, startRetrier } from './parked/retrier.ts'
