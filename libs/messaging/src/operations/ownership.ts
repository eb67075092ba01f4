import type { Transaction } from '@shopstream/database'
import type { Message } from '../event/envelope.ts'
import type { AnyNewEvent, Producer } from '../outbox/outbox.ts'
import type { Retention } from './archive.ts'

/** Which rows of a service's table are to be told again. */
export interface KeyRange {
  /** This key alone. */
  key?: string | undefined
  /** Keys above this one. */
  after?: string | undefined
  limit: number
}

/**
 * A service's `owns.ts`: how its tables and the topics that it owns are brought together again, and what of its tables is
 * moved out once it is old. Operators' commands use it (`republish`, `catch-up`, `archive`); the service itself does not.
 */
export interface Ownership {
  readonly produces: Producer
  /**
   * By compacted topic: locks rows in key order and tells their present state as events of their present sequence, which
   * consumers that know it ignore.
   */
  readonly current: Readonly<Record<string, (tx: Transaction, range: KeyRange) => Promise<AnyNewEvent[]>>>
  /** Begins to bring a database that was restored from a backup up to what its own events in the topics say. */
  catchUp(): CatchUp
  readonly retention: readonly Retention[]
}

/** One catching up, within one transaction, while the service does not run. */
export interface CatchUp {
  /** In the order in which they are read, each whole and from its beginning. Events that the tables know are ignored. */
  readonly topics: readonly {
    readonly topic: string
    /** Returns how many of the events were news to the tables. */
    adopt(tx: Transaction, messages: Message[]): Promise<number>
  }[]
  /** Puts right what follows from all of them; returns in words what cannot be brought back. */
  settle(tx: Transaction): Promise<string[]>
}
