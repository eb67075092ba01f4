import { protocolErrors, protocolErrorsCodesById } from '@platformatic/kafka'

/** Kafka's name of an error's number. */
export const nameOf = (code: number): string =>
  (protocolErrorsCodesById as Record<number, string>)[code] ?? `error ${code}`

const aboutError = (code: number) => protocolErrors[nameOf(code) as keyof typeof protocolErrors]

/** Numbers of the errors that something is done about. */
export const errors = {
  none: 0,
  offsetOutOfRange: 1,
  unknownTopicOrPartition: 3,
  leaderNotAvailable: 5,
  notLeader: 6,
  requestTimedOut: 7,
  messageTooLarge: 10,
  coordinatorLoading: 14,
  coordinatorNotAvailable: 15,
  notCoordinator: 16,
  recordListTooLarge: 18,
  notEnoughReplicas: 19,
  illegalGeneration: 22,
  unknownMember: 25,
  rebalanceInProgress: 27,
  topicAuthorizationFailed: 29,
  invalidTimestamp: 32,
  topicExists: 36,
  policyViolation: 44,
  invalidProducerEpoch: 47,
  invalidProducerIdMapping: 49,
  concurrentTransactions: 51,
  groupIdNotFound: 69,
  memberIdRequired: 79,
  invalidRecord: 87,
  producerFenced: 90,
} as const

/** A broker has answered that it does not do what it was asked for. */
export class BrokerError extends Error {
  readonly code: number

  constructor(what: string, code: number, detail?: string | null) {
    super(`${what}: ${nameOf(code)} (${detail || aboutError(code)?.message})`)
    this.code = code
  }

  /** Whether it is what brokers say while they start or move partitions. */
  get isPassing(): boolean {
    return aboutError(this.code)?.canRetry === true
  }
}

/** The broker that leads a partition by what is known answers that it does not, or not yet. */
export class LeaderMoved extends BrokerError {}

/** No broker can be reached, or none answers in time. */
export class Unreachable extends Error {}

/** Throws {@link BrokerError} unless the number stands for no error. */
export function throwIfError(what: string, code: number, detail?: string | null): void {
  if (code !== errors.none) throw new BrokerError(what, code, detail)
}
