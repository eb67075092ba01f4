import { topics } from '@shopstream/events'
import { compactedTopics, inboundName, unparkedBy } from '@shopstream/messaging/operations'
import type { ServiceWiring } from '../../schemas/wiring.ts'
import { shop } from '../../terminal/format.ts'
import { keyInWords, shopWith } from '../../terminal/printing.ts'
import { type Owner, owners } from '../shop-access.ts'
import { aggregates } from './aggregates.ts'
import type { RecordRef } from './writers.ts'

/** What a check found about one thing; `subject` is the same in every look at the same discrepancy. */
export interface Found {
  subject: string
  [detail: string]: unknown
}

/** An invariant as data: where it is judged, by which SQL over a database and the {@link Ground} in it, and in which words. */
export interface Check {
  /** Stable: named by `--only`, and by the page docs/runbooks/NAME.md. */
  name: string
  /** What it promises, in words. */
  promise: string
  /** The databases it is judged in, each with the topics whose messages it needs there. */
  at: Partial<Record<Owner, readonly string[]>>
  /** Needs the orders beside the reservations. */
  needsOrders?: true
  /** Needs what the brokers of bridges hold. */
  needsHeld?: true
  /** SQL: how many rows are looked at. */
  looked(database: Owner): string
  /** SQL: a row for each discrepancy, with at least `subject`, by which they are sorted. */
  sql(database: Owner): string
  message(found: Found): string
  /** The records at fault; the report tells who wrote them, where and when. */
  about?(found: Found): RecordRef[]
  /** Commands that show it. */
  commands(found: Found): string[]
}

/** SQL of what cannot be read of a topic, in words; null where all can. */
export const unreadOf = (topic: string) => `(
    select string_agg(g.topic || '/' || g.partition || '@' || g.first, ', ' order by g.partition, g.first)
    from gap as g where g.topic = ${topic} and not g.open)`

/** SQL: true unless an open transaction hides the end of a partition; then nobody knows what the topic lacks. */
export const allSeen = (topic: string) => `not exists (select 1 from gap as g where g.topic = ${topic} and g.open)`

export const unlessUnread = ({ unread }: Found) =>
  unread === null ? '' : `, unless it stands in what cannot be read there: ${unread}`

export const text = (value: string) => `'${value.replaceAll("'", "''")}'`

export const list = (values: readonly string[]) => `array[${values.map(text).join(', ')}]::text[]`

export const events = (names: readonly string[]) => `f.topic = any(${list(names)})`

/** The commands that show an aggregate, by the topic of its events, under whatever name a bridge has parked them. */
export function show(name: unknown, key: unknown): string[] {
  const { topic } = unparkedBy(String(name))
  if (topic === inboundName) return [] // what came in and does not fit stands in none
  const kind = explained[topic]
  const commands = [
    kind === undefined ? undefined : shopWith(`explain${kind}`, String(key)),
    shopWith(`tail ${topic} --from beginning --to-end --key`, String(key)),
  ].filter((command) => command !== undefined)
  return commands.length > 0 ? commands : [shop(`tail ${topic} --from beginning --to-end`)] // a key that nobody can type
}

/** How `explain` is told what a topic's keys are. */
const explained: Record<string, string> = {
  'shop.order.v1': '',
  'shop.reservation.v1': '',
  'shop.user.v1': ' user',
  'shop.product.v1': ' product',
  'shop.stock.v1': ' product',
}

export const showKey = ({ topic, key }: Found) => show(topic, key)

/** The event that was found, or another one of its key. */
export const event = ({ topic, key, ...found }: Found, sequence = found.sequence) =>
  ({ topic, key, sequence }) as RecordRef

/** What stands where it was found. */
export const placed = ({ topic, partition, offset }: Found) => ({ topic, partition, offset }) as RecordRef

/** SQL: a message of the key is parked and not settled yet, or was discarded: its effects are not due. */
export const excused = (topic: string, key: string) =>
  `exists (select 1 from parked_message as m where m.topic = ${topic} and m.key = ${key} and m.state <> 'handled')`

/** Joins a fact with where this database's group stood: what lies before `done` has been handled or parked. */
export const handled = `join position as p on p.topic = f.topic and p.partition = f.partition and f."offset" < p.done`

/** SQL: what was archived of this database under a key, as anybody may have written it. */
export const archivedAs = (key: string) => `archived as gone
    where gone.key = case when ${key} ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then ${key}::uuid end`

/** A message's key or type, as anybody may have written it. */
export const named = (value: unknown) => keyInWords(value === null ? null : String(value))

export const union = (parts: readonly string[]) => parts.join('\n  union all\n  ')

export const ofEvent = ({ topic, key, sequence }: Found) => `event ${sequence} of ${named(key)} in ${topic}`

/** What the checks are made for: who consumes and owns what. */
export type Scope = ReturnType<typeof scopeOf>

/** For services that consume what `wiring` says. */
export function scopeOf(wiring: readonly ServiceWiring[]) {
  const typesOf = (database: Owner): string[] =>
    wiring.find(({ service }) => service === database)?.consumes.map(({ event }) => event) ?? []
  const consumed = (database: Owner): string[] => {
    const types = new Set(typesOf(database))
    return topics.filter((topic) => topic.events.some((event) => types.has(event))).map(({ name }) => name)
  }
  const inboxTopics = (database: Owner) => consumed(database).filter((topic) => !compactedTopics.has(topic))
  const ownTopics = (database: Owner) =>
    aggregates.filter((aggregate) => aggregate.database === database).map(({ topic }) => topic)
  const own = (database: Owner) => aggregates.filter((aggregate) => aggregate.database === database)

  const consumers = owners.filter((owner) => typesOf(owner).length > 0)
  const withTopics = owners.filter((owner) => ownTopics(owner).length > 0)
  const atOwners = Object.fromEntries(withTopics.map((owner) => [owner, ownTopics(owner)]))
  const atConsumers = (topicsOf: (database: Owner) => string[]) =>
    Object.fromEntries(consumers.map((owner) => [owner, topicsOf(owner)]))
  const factsOf = (names: (database: Owner) => readonly string[]) => (database: Owner) =>
    `select count(*) from fact as f where ${events(names(database))}`
  return { typesOf, consumed, inboxTopics, ownTopics, own, atOwners, atConsumers, factsOf }
}
