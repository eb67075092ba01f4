import type { Topic } from '@shopstream/events'

/** Header values as they are on the wire; names are case sensitive. */
export type WireHeaders = Record<string, string | Buffer>

/** A message as a broker delivers it. */
export interface IncomingMessage {
  topic: string
  partition: number
  offset: bigint
  key: string | null
  value: Buffer | null
  headers: WireHeaders
  /** When it was written, by the clock of the broker. */
  timestamp?: Date
}

/** How the text of a key begins that was no text, or too long to be an id. */
export const oddKey = '\u001fkey:'

/** Messages of one partition, in order. */
export interface IncomingBatch {
  topic: string
  partition: number
  messages: IncomingMessage[]
  /** Tells the group that this member lives. Throws when the partition is no longer this member's. */
  heartbeat(): Promise<void>
  /** True when the rest of the batch must not be handled: the consumer stops or the partition has moved. */
  isStale(): boolean
  /** Everything up to this message is done; is committed to the group soon after. */
  resolve(message: IncomingMessage): void
  /** What is not resolved when the batch is handled comes again, no sooner than in `ms` milliseconds. */
  holdBack(ms: number): void
}

export interface OutgoingMessage {
  topic: string
  partition: number
  key: string | null
  value: Buffer | null
  headers: WireHeaders
}

/** Where a group stands in one partition: `end` is the offset of the next message to be written, `done` the next to be handled. */
export interface PartitionPosition {
  topic: string
  partition: number
  start: bigint
  end: bigint
  done: bigint
}

/** A place in a topic: the offset of the next message. */
export interface PartitionOffset {
  topic: string
  partition: number
  offset: bigint
}

/** What of which topics to read, outside any consumer group that lasts. */
export interface ReadOptions {
  topics: string[]
  /** Default: from the first message that is kept. A time: from the first one written then or later. */
  from?: Date | 'end'
  /** Only these partitions of the topics; each from an offset, where one is given, else as `from` says. */
  partitions?: readonly { topic: string; partition: number; from?: bigint }[]
  /** Ends once everything that was there when reading began has been handled; else it goes on until `signal`. */
  toEnd?: boolean
  signal?: AbortSignal
  /** Gets messages of one partition, in order. Reading waits for it, and ends with what it throws. */
  handle(messages: IncomingMessage[]): Promise<void> | void
}

/** The broker refuses these messages for good; sending them again is of no use. */
export class MessageRefused extends Error {}

/** A group has members, so its offsets are theirs to set. */
export class GroupHasMembers extends Error {}

/** What messaging needs of a broker. Topic and group names are without the deployment's prefix on this side. */
export interface Bus {
  /**
   * Sends messages in order, each to its partition, and waits until all in-sync replicas have them.
   * Returns the messages that are certainly stored; the others may or may not be.
   * Throws {@link MessageRefused} when the broker will never take one of them, anything else when it cannot now.
   */
  publish(messages: readonly OutgoingMessage[]): Promise<OutgoingMessage[]>
  /** Consumes until closed, whatever happens to broker and network; `handle` must not throw for a message's sake. */
  consume(options: { group: string; topics: string[]; handle(batch: IncomingBatch): Promise<void> }): Consumer
  /** Where `group` stands in all partitions of `topics`. Throws when the broker cannot be asked. */
  positions(group: string, topics: string[]): Promise<PartitionPosition[]>
  /**
   * Age in seconds, within an eighth, of the oldest message of each topic that is not done at these positions; 0 where
   * it is younger than a second, or all is done. Throws when the broker cannot be asked.
   */
  agesOf(positions: readonly PartitionPosition[]): Promise<Map<string, number>>
  /** Reads topics without leaving a trace. Throws when the broker cannot be asked, or stops answering. */
  read(options: ReadOptions): Promise<void>
  /**
   * Lets `group` start over from the beginning of `topics`, from the first message written at `to` or later, or from
   * the offsets given. Never moves it forward. Throws {@link GroupHasMembers} while it has any.
   */
  rewind(group: string, topics: string[], to?: Date | readonly PartitionOffset[]): Promise<void>
  /** How many members `group` has. Throws when the broker cannot be asked. */
  members(group: string): Promise<number>
  /** Creates the topics that are missing, and sets the settings of those that are there. */
  ensureTopics(topics: readonly Topic[]): Promise<string[]>
  /** Throws with the reason when the broker has not answered lately. */
  check(): void
  close(): Promise<void>
}

export interface Consumer {
  /** Finishes the chunk in hand, leaves the group. */
  close(): Promise<void>
}
