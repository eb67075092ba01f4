import type { Logger, Registry } from '@shopstream/observability'
import type { KafkaIdentity } from './identity.ts'
import type { DecodingLimits } from './log-record.ts'
import type { BrokerAddress } from './protocol.ts'

/** What both clients are made from. */
export interface BusOptions {
  brokers: readonly BrokerAddress[]
  clientId: string
  identity: KafkaIdentity
  logger: Logger
  /** Where its consumers tell how they are; commands have none. */
  metrics: Registry | undefined
  limits: DecodingLimits
  /** Names with and without the deployment's prefix. */
  wireName(name: string): string
  ownName(name: string): string
}
