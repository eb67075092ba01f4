import { type Static, type TObject, Type } from '@shopstream/config'
import { type EventName, topicOf } from '@shopstream/events'
import type { Logger } from '@shopstream/observability'

/** An event in the form that its row asks for. */
export interface Sendable {
  /** The event's id: what a target with deduplication goes by. */
  id: string
  type: EventName
  /** Of the topic; what has one key arrives in its order. */
  key: string
  topic: string
  contentType: string
  body: Buffer
  /** The same, where it is text: a client that takes text copies it once less. */
  text?: string
  /** Attributes of CloudEvents, by their names without a prefix, where they travel beside the body (binary mode). */
  attributes?: Readonly<Record<string, string>>
  /** A task of Celery's: what it puts into headers. */
  task?: Readonly<Record<string, unknown>>
}

/** What a form makes of an event; the rest of a {@link Sendable} is the same for all. */
export type Formed = Pick<Sendable, 'contentType' | 'attributes' | 'task'> & { body: string | Buffer }

/** `shop.order.v1` is of the aggregate `order`. */
const aggregateOf = ({ topic }: Pick<Sendable, 'topic'>): string =>
  topic.slice(topic.indexOf('.') + 1, topic.lastIndexOf('.'))

/** A pattern with what {aggregate}, {event} and {topic} stand for. */
export const namedBy = (pattern: string, { topic, type }: Pick<Sendable, 'topic' | 'type'>): string =>
  pattern.replaceAll('{aggregate}', aggregateOf({ topic })).replaceAll('{event}', type).replaceAll('{topic}', topic)

/** Of each type in each topic once: to put names in place takes longer than all else that a target does with an event. */
export function remembered<T>(work: (of: Pick<Sendable, 'topic' | 'type'>) => T): typeof work {
  const known = new Map<string, T>()
  return (of) => {
    const name = `${of.type} ${of.topic}`
    const made = known.get(name) ?? work(of)
    if (!known.has(name)) known.set(name, made)
    return made
  }
}

/** The option `url` of every target. */
export const urlVariable = (example: string) =>
  Type.String({
    pattern: '^[A-Z][A-Z0-9_]*$',
    description: `the name of the variable that holds the URL, such as ${example}`,
  })

/** The way out to a broker of another kind. */
export interface Outlet {
  /**
   * Sends messages, up to 500, of a key never two at once. One result for each: undefined, it is there and survives a restart of the broker;
   * `MessageRefused`, it is not taken as it is (and tried as often as its row says, then dead); any other error, not now, as a queue is full or missing. Throws when the broker is away. None are sent to
   * see whether it is there.
   */
  send(messages: readonly Sendable[]): Promise<readonly (Error | undefined)[]>
  /** Ids of events that the broker holds, the oldest first, for `verify`. Missing where a broker cannot be asked. */
  held?(): AsyncIterable<string>
  close(): Promise<void>
}

/** What an inlet may have in hand, in bytes, besides one message more: read as events they take several times that. */
export const inHandBytes = 8 * 1_048_576

/** A message of another broker, as it came. */
export interface Received {
  body: Buffer
  contentType?: string
  /** As text; of others than CloudEvents too. */
  headers: Readonly<Record<string, string>>
  /** Why it was not read as a whole: it is parked unread. */
  unfit?: string
}

/** What headers may have together to be read, and kept, in bytes: they are short texts. */
export const maxHeaderBytes = 65_536

/** Of names and texts, in bytes. */
export const headerBytes = ({ headers, contentType = '' }: Received): number =>
  Object.entries(headers).reduce(
    (sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(value),
    Buffer.byteLength(contentType),
  )

/** The way in from a broker of another kind. */
export interface Inlet {
  /**
   * Gives what comes to `take`, in order, some at a time, and acknowledges it once that has returned; at first none, which says
   * that the broker is there. Has no more than {@link inHandBytes} in hand and one message. Throws when it goes away, and is called again then; returns once `stop` is aborted, with nothing
   * in hand.
   */
  receive(take: (messages: readonly Received[]) => Promise<void>, stop: AbortSignal): Promise<void>
  close(): Promise<void>
}

/** What an outlet or inlet is made with. */
export interface Place<Options extends TObject> {
  /** The name of its row. */
  bridge: string
  /** Of the table, by the schema of its target. */
  options: Readonly<Static<Options>>
  /** What the variable holds that `options.url` names; with passwords. */
  url: string
  logger: Logger
}

/** Options before anything is known of them. */
export type Written = Readonly<Record<string, unknown>>

/** A place of a broker that a row claims. */
export interface Claim {
  /** In words that end with its name: `queue orders`. */
  place: string
  /** `reads`: this row alone may; `sends into` and `receives from`: no two rows may do one each. */
  does: 'reads' | 'declares' | 'sends into' | 'receives from'
  /** How it is declared. */
  as?: string
}

/** Of what an option names: `claimOf('stream', …)` is of `stream NAME`. */
export const claimOf =
  (word: string, does: Claim['does']) =>
  (options: Written): Claim[] =>
    typeof options[word] === 'string' ? [{ place: `${word} ${options[word]}`, does }] : []

/** What else of its row a target judges. */
export interface OfRow {
  name: unknown
  form: unknown
  /** Those that there are. */
  events: readonly EventName[]
}

/** What stands in braces and for nothing: it would be sent as it is. */
export function strayNames(options: Written, word: string, known: readonly string[]): string[] {
  const text = options[word]
  const found = typeof text === 'string' ? (text.match(/{[^{}]*}/g) ?? []) : []
  const stray = found.filter((one) => !known.includes(one))
  const shown = stray.map((one) => (/^{\w{1,60}}$/.test(one) ? one : 'something in braces'))
  return shown.map((one) => `${word} has ${one}, which stands for nothing: there are ${known.join(', ')}`)
}

/** Topic and type of each event. */
export const kindsOf = ({ events }: Pick<OfRow, 'events'>) =>
  events.map((type) => ({ type, topic: topicOf(type).name }))

/** A way through a kind of broker: the part of a row that is its own, and what is made of it. */
interface Way<Options extends TObject, Made> {
  /** Has `url`, the name of a variable of the environment. */
  options: Options
  /** What is wrong with options among themselves, or with their row; each may be wrong for itself, which is told apart. */
  problems?(options: Written, row: OfRow): string[]
  /** What it declares, reads or sends into: rows that claim the same have to agree. */
  claims?(options: Written, row: OfRow): Claim[]
  /**
   * Connects when first used, and again whenever it has to. A broker's library is loaded here, so that a service has those of
   * its table alone in memory.
   */
  open(place: Place<Options>): Promise<Made>
}

/** A kind of broker; see docs/bridges.md. */
export interface Target<Out extends TObject = TObject, In extends TObject = TObject> {
  /** Schemes of its URL. */
  protocols: readonly string[]
  /** What a URL means that leaves it out: the port of each scheme, in their order, and the path. */
  usual: { ports: readonly number[]; path: string }
  /** What else is wrong with a URL, in words without a value of it; undefined: nothing. */
  urlProblem?(url: URL): string | undefined
  out?: Way<Out, Outlet>
  in?: Way<In, Inlet>
}

/** A target as the list of targets has it, whatever its options. */
export const target = <Out extends TObject, In extends TObject>(one: Target<Out, In>): Target =>
  one as unknown as Target
