import type { AssignedPartition, Place } from '../../bus.ts'
import type { BrokerAddress } from '../protocol.ts'

export interface OwnedOptions extends Place {
  /** Without the prefix of the wire. */
  ownTopic: string
  /** What the group has committed; undefined: nothing, and reading begins where the log does. */
  committed: bigint | undefined
  revoked: AbortSignal
  /** Told when there may be something to do again. */
  changed(): void
}

/**
 * A partition that this member owns. Its progress counts until it is given up, which happens after `revoked`: what a
 * handler has done of the chunk in hand is still committed.
 */
export class OwnedPartition implements AssignedPartition {
  readonly topic: string
  readonly partition: number
  readonly revoked: AbortSignal
  readonly wireTopic: string
  /** Where reading goes on; undefined: where the log starts. */
  position: bigint | undefined
  leader: BrokerAddress | undefined
  /** Who has asked for it. */
  asker: object | undefined
  isPaused = false
  /** Nothing is asked for before, by `performance.now()`. */
  restsUntil = 0
  /** When it was given something last, by `performance.now()`. */
  servedAt = 0
  #committed: bigint | undefined
  #isGivenUp = false
  readonly #changed: () => void

  constructor({ topic, partition, ownTopic, committed, revoked, changed }: OwnedOptions) {
    this.topic = ownTopic
    this.wireTopic = topic
    this.partition = partition
    this.revoked = revoked
    this.position = committed
    this.#committed = committed
    this.#changed = changed
  }

  done(next: bigint): void {
    if (this.#isGivenUp || (this.position !== undefined && next <= this.position)) return
    this.position = next
  }

  seek(next: bigint): void {
    if (!this.#isGivenUp) this.position = next
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
    this.#changed()
  }

  /** The log starts here. */
  startAt(offset: bigint): void {
    this.position ??= offset
  }

  /** What is to be committed; undefined: nothing new. */
  get uncommitted(): bigint | undefined {
    return this.position === this.#committed ? undefined : this.position
  }

  isCommitted(offset: bigint): void {
    this.#committed = offset
  }

  giveUp(): void {
    this.#isGivenUp = true
  }
}
