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

/** Prefix of the text kept for a key that is not UTF-8 text without NUL, or too long for an id. */
export const oddKey = '\u001fkey:'

/**
 * A stretch of a partition that cannot be read: no decoder accepts its bytes, or they exceed the limits when unpacked.
 * Messages after it can be read once somebody has decided to step over it.
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
  /** Offset after them, and after records that no consumer sees: control, aborted and compacted ones. */
  next: bigint
  /** The unreadable stretch at `next`, if there is one. It is delivered again until `done` has passed it. */
  unreadable?: Unreadable
}

/** A partition that a consumer owns. After it is revoked, its next owner gets every message that is not `done`. */
export interface AssignedPartition {
  readonly topic: string
  readonly partition: number
  /** Aborted when another member owns the partition, or the consumer closes: do not handle the rest of a batch. */
  readonly revoked: AbortSignal
  /**
   * Marks everything before `next` as done: it is committed to the group soon after, and reading continues there. This
   * also counts for a batch that was in hand when the partition was revoked, until the group has reassigned it.
   */
  done(next: bigint): void
  /** Continues reading at `next`, before or after the done offset; everything before `next` counts as done. */
  seek(next: bigint): void
  /** Nothing more is given until {@link resume}; other partitions go on. */
  pause(): void
  resume(): void
}

export interface ConsumeOptions {
  group: string
  topics: string[]
  /**
   * Gets a partition's messages in order, the next batch after it has returned; partitions run in parallel. It must not
   * throw because of a message. Reading continues after what it has marked as done.
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
  /** Undefined: all in-sync replicas have it. {@link MessageRefused}: the broker never takes it. Else it is unknown. */
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

/** By topic, the messages that the group has not handled yet. */
export const lagOf = (positions: readonly PartitionPosition[]): Map<string, number> =>
  new Map(
    [...Map.groupBy(positions, ({ topic }) => topic)].map(([topic, ofTopic]) => [
      topic,
      Number(ofTopic.reduce((sum, { end, done }) => sum + end - done, 0n)),
    ]),
  )

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

/** What is needed to handle a message is away, or full: trying again later may help, and no attempt counts. */
export class NotNow extends Error {}

/** Another publisher of the same name has begun: nothing more of this one's is taken. */
export class PublisherFenced extends Error {}

/** A group has members, so its offsets are theirs to set. */
export class GroupHasMembers extends Error {}

/** What {@link Bus.ensureTopics} did. */
export interface EnsuredTopics {
  /** Names of topics. */
  made: string[]
  /** Settings by topic that are for longer than declared, in ms, and were left so. */
  longer: { topic: string; settings: Readonly<Record<string, string>> }[]
}

/** What messaging needs of a broker. Topic and group names are without the deployment's prefix on this side. */
export interface Bus {
  /**
   * Sends messages, in order per partition, and waits until all in-sync replicas have them. A partition that accepts
   * nothing delays no other. Returns one delivery per message. Throws when no broker can be asked.
   */
  publish<M extends OutgoingMessage>(messages: readonly M[]): Promise<Delivery<M>[]>
  /**
   * The publisher of a name: once a later one of the same name has sent its first message, whatever an earlier one
   * sends is refused with {@link PublisherFenced}, if the client can do that ({@link fences}).
   * @param until once it is aborted, nothing more is sent, and a publish that is under way throws its reason.
   */
  publisher(name: string, until?: AbortSignal): Publisher
  /** Whether {@link publisher} keeps an earlier one from writing behind a later one. */
  readonly fences: boolean
  /** Consumes until closed, whatever happens to broker and network. */
  consume(options: ConsumeOptions): Consumer
  /** Where `group` stands in all partitions of `topics`; without one, at their starts. Throws when the broker cannot be asked. */
  positions(group: string | undefined, topics: string[]): Promise<PartitionPosition[]>
  /**
   * Age in seconds of each topic's oldest message that is not done at these positions; 0 if all are done. It is read
   * from the head of its batch, so no broker has to unpack anything. Throws when the broker cannot be asked.
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
   * Creates the topics that are missing, and sets the settings of those that are there. One that keeps its messages for longer
   * than it was declared with goes on so: somebody has still to read them. Throws when one has fewer partitions than it was
   * declared with; it may have been given more since.
   */
  ensureTopics(topics: readonly Topic[]): Promise<EnsuredTopics>
  /**
   * Makes sure that a topic has at least `count` partitions, and waits until they have leaders. The writers decide
   * which partition a key belongs to.
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
  /** Throws with the reason when it keeps breaking and being rebuilt although the broker answers. */
  check(): void
  /** Whether the present one has got answers for some seconds; it may fail its check for a while longer. */
  isWorking(): boolean
  /** Finishes the chunk in hand, leaves the group. */
  close(): Promise<void>
}

/** A broker and this do not accept each other, which stays so until a person sees to it; `message` says to what. */
export class NotAdmitted extends Error {}

/** Whether that is behind an error: nobody but a person can do something about it, as has been told. */
export const isNotAdmitted = (error: unknown): boolean => [...behind(error)].some((one) => one instanceof NotAdmitted)

/** An error and all that are behind it; by their looks, as those of Node are of no class of ours in tests. */
export function* behind(error: unknown): Generator<NodeJS.ErrnoException> {
  if (typeof error !== 'object' || error === null || !('message' in error)) return
  const found = error as NodeJS.ErrnoException & { errors?: unknown[] }
  yield found
  yield* behind(found.cause)
  for (const one of found.errors ?? []) yield* behind(one)
}
