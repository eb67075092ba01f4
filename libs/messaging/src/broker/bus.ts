import type { Topic } from '@shopstream/events'

/** Header values as they are on the wire; names are case sensitive. Of a repeated one the last counts. */
export type WireHeaders = Record<string, string | Buffer | null>

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
  /** Why it could not be taken apart; `value` is all its bytes then. */
  problem?: string
}

/** How the text of a key begins that was no text, or too long to be an id. */
export const oddKey = '\u001fkey:'

/**
 * A stretch of a partition that cannot be read: bytes that no decoder takes, or more of them than the limits allow when
 * they are unpacked. What comes behind it can be read once somebody has said that it may be stepped over.
 */
export interface Unreadable {
  topic: string
  partition: number
  firstOffset: bigint
  lastOffset: bigint
  reason: string
  /** As they came, packed. */
  bytes: Buffer
}

/** What comes next of a partition. */
export interface IncomingBatch {
  /** In order; may be none. */
  messages: IncomingMessage[]
  /** Offset behind them, and behind what no consumer sees: control records, aborted ones, those that compaction took. */
  next: bigint
  /** What stands at `next`, if that cannot be read. It is given again until `done` has passed it. */
  unreadable?: Unreadable
}

/** A partition while it is a consumer's. Once it has been revoked, what is not `done` comes to whoever gets it next. */
export interface AssignedPartition {
  readonly topic: string
  readonly partition: number
  /** Aborted when the partition is another member's, or the consumer closes: what is left of a batch must not be handled. */
  readonly revoked: AbortSignal
  /**
   * Everything before `next` is done: committed to the group soon after, and where reading goes on. Counts for what was in
   * hand when the partition was revoked, too, as long as the group has not given it away.
   */
  done(next: bigint): void
  /** Reading goes on at `next`, be it before or behind what is done; what is before counts as done. */
  seek(next: bigint): void
  /** Nothing more is given until {@link resume}; other partitions go on. */
  pause(): void
  resume(): void
}

export interface ConsumeOptions {
  group: string
  topics: string[]
  /**
   * Gets a partition's messages in order, the next ones when it has returned; partitions side by side. Must not throw for
   * a message's sake. Reading goes on behind what it has told as done.
   */
  handle(batch: IncomingBatch, partition: AssignedPartition): Promise<void>
}

export interface OutgoingMessage {
  topic: string
  partition: number
  key: string | null
  value: Buffer | null
  headers: WireHeaders
}

/** What became of a message that was to be published. */
export interface Delivery<M extends OutgoingMessage = OutgoingMessage> {
  message: M
  /** Undefined: all in-sync replicas have it. Else they may or may not have it, unless it is {@link MessageRefused}. */
  error?: Error
}

/** Where a group stands in one partition. */
export interface PartitionPosition {
  topic: string
  partition: number
  /** Offset of the first message that is kept. */
  start: bigint
  /** Offset of the next message to be written. */
  end: bigint
  /** Up to here messages can be read: less than `end` while a transaction is open. */
  stableEnd: bigint
  /** Offset of the next message to be handled. */
  done: bigint
}

/** A partition of a topic. */
export interface Place {
  topic: string
  partition: number
}

export const placeOf = ({ topic, partition }: Place) => `${topic}/${partition}`

/** A place in a topic: the offset of the next message. */
export interface PartitionOffset extends Place {
  offset: bigint
}

/** What of which topics to read, outside any consumer group that lasts. */
export interface ReadOptions {
  topics: string[]
  /** Default: from the first message that is kept. A time: from the first one written then or later. */
  from?: Date | 'end'
  /** Only these partitions of the topics; each from an offset, where one is given, else as `from` says. */
  partitions?: readonly { topic: string; partition: number; from?: bigint }[]
  /**
   * Ends once everything that could be read when reading began has been handled; else it goes on until `signal`. What an
   * open transaction hides cannot.
   */
  toEnd?: boolean
  signal?: AbortSignal
  /** Gets messages of one partition, in order. Reading waits for it, and ends with what it throws. */
  handle(messages: IncomingMessage[]): Promise<void> | void
  /** Gets what cannot be read, which is stepped over. Default: reading ends with an error that names it. */
  unreadable?(found: Unreadable): Promise<void> | void
}

/** The broker refuses these messages for good; sending them again is of no use. */
export class MessageRefused extends Error {}

/** Another publisher of the same name has begun: nothing more of this one's is taken. */
export class PublisherFenced extends Error {}

/** A group has members, so its offsets are theirs to set. */
export class GroupHasMembers extends Error {}

/** What messaging needs of a broker. Topic and group names are without the deployment's prefix on this side. */
export interface Bus {
  /**
   * Sends messages, those of a partition in order, and waits until all in-sync replicas have them; a partition that takes
   * nothing holds up no other. Tells of each what became of it. Throws when no broker can be asked.
   */
  publish<M extends OutgoingMessage>(messages: readonly M[]): Promise<Delivery<M>[]>
  /**
   * Publishes for as long as nobody else does by this name: what an earlier one sends after the first message of a later
   * one is refused with {@link PublisherFenced}, where the client can do that ({@link fences}).
   * @param until nothing more is sent once it is aborted, be it in the middle of a publish, which throws its reason then.
   */
  publisher(name: string, until?: AbortSignal): Publisher
  /** Whether {@link publisher} keeps an earlier one from writing behind a later one. */
  readonly fences: boolean
  /** Consumes until closed, whatever happens to broker and network. */
  consume(options: ConsumeOptions): Consumer
  /** Where `group` stands in all partitions of `topics`. Throws when the broker cannot be asked. */
  positions(group: string, topics: string[]): Promise<PartitionPosition[]>
  /**
   * Age in seconds of the oldest message of each topic that is not done at these positions; 0 where all is done. By the
   * head of its batch: no broker has to unpack anything. Throws when the broker cannot be asked.
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
  /**
   * Creates the topics that are missing, and sets the settings of those that are there. Throws when one has fewer partitions
   * than it was declared with; it may have been given more since.
   */
  ensureTopics(topics: readonly Topic[]): Promise<string[]>
  /**
   * Sees to it that a topic has so many partitions at least, and waits until they have leaders. Where a key belongs is for
   * whoever writes.
   */
  addPartitions(topic: string, count: number): Promise<void>
  /** Throws with the reason when the broker has not answered lately. */
  check(): void
  close(): Promise<void>
}

export interface Publisher {
  /** See {@link Bus.publish}. Throws {@link PublisherFenced} once it is. */
  publish<M extends OutgoingMessage>(messages: readonly M[]): Promise<Delivery<M>[]>
  close(): Promise<void>
}

export interface Consumer {
  /** Throws with the reason when it is broken and built anew again and again though the broker answers. */
  check(): void
  /** Finishes the chunk in hand, leaves the group. */
  close(): Promise<void>
}
