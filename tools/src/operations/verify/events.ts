import type { EventName } from '@shopstream/events'
import { compactedTopics } from '@shopstream/messaging/operations'
import { shop } from '../../terminal/format.ts'
import { shopWith } from '../../terminal/printing.ts'
import { owners } from '../shop-access.ts'
import { contradicts, rowsSql } from './aggregates.ts'
import {
  allSeen,
  archivedAs,
  type Check,
  event,
  events,
  named,
  ofEvent,
  type Scope,
  show,
  showKey,
  text,
  union,
  unlessUnread,
  unreadOf,
} from './check.ts'

/** The steps of an order and of its reservation, by the events that take them: each step is taken once, if ever. */
const steps = [
  ['OrderPlaced'],
  ['OrderConfirmed', 'OrderRejected'],
  ['OrderShipped', 'OrderCancelled'],
  ['OrderDelivered'],
  ['StockReserved', 'StockRejected'],
  ['StockReleased', 'StockSold'],
] satisfies EventName[][]

/** The check that says what the others could not see. */
export const unreadableRecords = 'unreadable-records'

export const unreadable = ({ consumed, ownTopics }: Scope): Check => ({
  name: unreadableRecords,
  promise: 'all that topics hold can be read and has been, and no transaction hides the end of one',
  at: Object.fromEntries(owners.map((owner) => [owner, [...new Set([...ownTopics(owner), ...consumed(owner)])]])),
  looked: () => 'select count(*) from position',
  sql: () => `
    select topic || ' ' || partition || ' ' || first as subject, topic, partition, first, open, what
    from gap where told`,
  message: ({ what }) => String(what),
  commands: ({ topic, partition, first, open }) => [
    open ? shop('lag --all') : shop(`unreadable show ${topic}/${partition}@${first}`),
  ],
})

const lostEvent = ({ ownTopics, atOwners }: Scope): Check => ({
  name: 'lost-event',
  promise: 'each event that was decided is in the outbox, or in its topic',
  at: atOwners,
  looked: () => 'select coalesce(sum(sequence), 0)::bigint from aggregate',
  sql: (database) => `
    with low as (
      select topic, key, min(sequence) as sequence from fact as f where ${events(ownTopics(database))} group by 1, 2),
    readable as (select *, ${unreadOf('kept.topic')} as unread from kept),
    expected as (
      select a.topic, a.key, s.sequence, k.unread from aggregate as a join readable as k using (topic)
      left join low using (topic, key)
      cross join lateral generate_series(
        case when k.since is null or a.born > k.since then 1
          when k.compacted then a.sequence
          else coalesce(low.sequence, case when a.changed > k.since then a.sequence else a.sequence + 1 end) end,
        a.sequence) as s (sequence)
      where a.sequence > 0)
    select e.topic || ' ' || e.key || ' ' || e.sequence as subject, e.* from expected as e
    where not exists (select 1 from fact as f where f.topic = e.topic and f.key = e.key and f.sequence = e.sequence)
      and ${allSeen('e.topic')}
      and not exists (select 1 from pending as o where o.topic = e.topic and o.key = e.key and o.sequence = e.sequence)`,
  message: (found) =>
    `${ofEvent(found)} was decided, and is neither in the outbox nor in the topic${unlessUnread(found)}`,
  commands: showKey,
})

const unknownEvent = ({ ownTopics, own, atOwners, factsOf }: Scope): Check => ({
  name: 'unknown-event',
  promise: 'each event in a topic is known to the service that owns its key',
  at: atOwners,
  looked: factsOf(ownTopics),
  sql: (database) =>
    union(
      own(database).map(
        ({ topic, table, key, sequence }) => `
    select distinct f.topic || ' ' || f.key || ' ' || f.sequence as subject, f.topic, f.key, f.sequence, f.type, t.known
    from fact as f left join (select ${key} as key, ${sequence} as known from ${table}) as t using (key)
    where f.topic = '${topic}' and f.sequence is not null and f.type <> 'UserErased'
      and (t.known is null or f.sequence > t.known) and not (t.known is null and f.listed)
      and not exists (select 1 from ${archivedAs('f.key')} and gone.sequence >= f.sequence)`,
      ),
    ),
  message: (found) =>
    `${ofEvent(found)} (${named(found.type)}) is unknown to its owner, which ${found.known === null ? 'has no such key' : `has come to ${found.known}`}`,
  about: (found) => [event(found)],
  commands: showKey,
})

const reorderedKey = ({ ownTopics, atOwners, factsOf }: Scope): Check => ({
  name: 'reordered-key',
  promise: 'the events of a key stand in its partition in the order of their sequence',
  at: atOwners,
  looked: factsOf(ownTopics),
  sql: (database) => `
    with placed as (
      -- of a topic that was grown a key has had several partitions, and its order is that within each
      select f.*, case when partition = any (array(
          select partition_of(f.key, number) from unnest(grown.former || grown.partitions) as number))
        then partition else -1 end as lane, grown.topic is not null as grown
      from fact as f left join topic_partitions as grown using (topic)
      where ${events(ownTopics(database))} and sequence is not null),
    first as (
      select topic, key, sequence, lane, grown and lane < 0 as strayed, min("offset") as "offset", min(partition) as partition
      from placed group by 1, 2, 3, 4, 5),
    follow as (
      select *, lag("offset") over of_key as "offset_before", lag(partition) over of_key as partition_before,
        lag(sequence) over of_key as sequence_before
      from first window of_key as (partition by topic, key, lane order by sequence))
    select topic || ' ' || key || ' ' || sequence as subject, * from follow
    where strayed or partition <> partition_before or "offset" < "offset_before"`,
  message: (found) =>
    found.strayed
      ? `${ofEvent(found)} stands in partition ${found.partition}, where its key has never been placed`
      : found.partition === found.partition_before
        ? `${ofEvent(found)} stands before event ${found.sequence_before}: offsets ${found.offset} and ${found.offset_before} of partition ${found.partition}`
        : `${ofEvent(found)} stands in partition ${found.partition}, event ${found.sequence_before} in ${found.partition_before}`,
  about: (found) => [event(found)],
  commands: showKey,
})

const repeatedStep = ({ ownTopics, factsOf }: Scope): Check => ({
  name: 'repeated-step',
  promise: 'each step of an order and of its reservation is taken once: placed, decided, ended, delivered',
  at: { order: ['shop.order.v1'], inventory: ['shop.reservation.v1'] },
  looked: factsOf(ownTopics),
  sql: (database) => `
    with step as (
      select * from (values ${steps.flatMap((types, n) => types.map((type) => `(${text(type)}, ${n})`)).join(', ')})
        as s (type, number))
    select f.topic || ' ' || f.key || ' ' || s.number as subject, f.topic, f.key,
      min(f.sequence) as sequence, max(f.sequence) as again
    from fact as f join step as s using (type)
    where ${events(ownTopics(database))} and f.sequence is not null
    group by f.topic, f.key, s.number having min(f.sequence) <> max(f.sequence)`,
  message: (found) => `${ofEvent(found)} takes a step that event ${found.again} takes once more`,
  about: (found) => [event(found), event(found, found.again)],
  commands: showKey,
})

const conflictingEvents = ({ ownTopics, atOwners, factsOf }: Scope): Check => ({
  name: 'conflicting-events',
  promise: 'no two events have the same sequence of the same key',
  at: atOwners,
  looked: factsOf(ownTopics),
  // A compacted topic may be told the same state again, as another message: republished, or by another version.
  sql: (database) => `
    select topic || ' ' || key || ' ' || sequence as subject, topic, key, sequence,
      min(event_id::text) as one, max(event_id::text) as other
    from fact as f join kept using (topic)
    where ${events(ownTopics(database))} and sequence is not null
    group by topic, key, sequence, compacted
    having min(event_id::text) <> max(event_id::text) and (not compacted or min(says::text) <> max(says::text))`,
  message: (found) => `${ofEvent(found)} is there as two events, ${found.one} and ${found.other}`,
  about: (found) => [event(found)],
  commands: showKey,
})

const changedEvent = ({ ownTopics, atOwners, factsOf }: Scope): Check => ({
  name: 'changed-event',
  promise: 'an event has the same bytes wherever it stands in its topic',
  at: atOwners,
  looked: factsOf(ownTopics),
  sql: (database) => `
    select event_id::text as subject, event_id, min(topic) as topic, min(key) as key, min(sequence) as sequence
    from fact as f where ${events(ownTopics(database))} and event_id is not null
    group by event_id
    having min(bytes::text) <> max(bytes::text) or min(key) <> max(key) or min(sequence) <> max(sequence) or min(type) <> max(type)`,
  message: (found) => `${ofEvent(found)}, id ${found.event_id}, is there with different contents`,
  about: ({ event_id }) => [{ eventId: String(event_id) }],
  commands: ({ topic, key, event_id }) => [shop(`explain event ${event_id}`), ...show(topic, key)],
})

const eventContent = ({ ownTopics, own, atOwners, factsOf }: Scope): Check => ({
  name: 'event-content',
  promise: "an event says what its owner's row says",
  at: atOwners,
  looked: factsOf(ownTopics),
  sql: (database) =>
    union(
      own(database).map(
        (aggregate) => `
    select f.topic || ' ' || f.key || ' ' || f.sequence as subject, f.topic, f.key, f.sequence, f.type,
      not ${contradicts(aggregate)} as of_state
    from fact as f join (${rowsSql(aggregate, { last_types: aggregate.lastTypes })}) as t using (key)
    where f.topic = '${aggregate.topic}'
      and (${contradicts(aggregate)} or (f.sequence = t.known and not f.type = any(t.last_types)))`,
      ),
    ),
  message: (found) =>
    found.of_state
      ? `${ofEvent(found)} is a ${named(found.type)}, and the row of its owner is in another state`
      : `${ofEvent(found)} (${named(found.type)}) says something else than the row of its owner`,
  about: (found) => [event(found)],
  commands: showKey,
})

const outdatedRecord = ({ ownTopics, atOwners }: Scope): Check => ({
  name: 'outdated-record',
  promise: 'the last record of a key in a compacted topic is its last event',
  at: atOwners,
  looked: (database) =>
    `select count(*) from fact as f where ${events(ownTopics(database).filter((name) => compactedTopics.has(name)))}`,
  sql: (database) => `
    select topic || ' ' || key as subject, topic, key, max(sequence) as newest,
      (array_agg(sequence order by "offset" desc))[1] as last
    from (
      select topic, partition, "offset", key, sequence from fact
      union all select topic, partition, "offset", key, null from tombstone) as f
      left join topic_partitions as grown using (topic)
    where ${events(ownTopics(database).filter((name) => compactedTopics.has(name)))} and key is not null
      and ${allSeen('f.topic')}
      and partition = coalesce(partition_of(f.key, grown.partitions), partition) -- a former one has a tombstone
    group by topic, key
    having (array_agg(sequence order by "offset" desc))[1] is distinct from max(sequence)`,
  message: ({ topic, key, newest, last }) =>
    last === null
      ? `behind event ${newest} of ${named(key)}, ${topic} has a record that is no event: compaction will keep nothing of it`
      : `the last record of ${named(key)} in ${topic} is event ${last}, which event ${newest} has replaced: compaction will keep the wrong one`,
  about: (found) => [event(found, found.last)],
  commands: ({ topic, key }) => [
    ...show(topic, key),
    shopWith(`republish ${topic} --key`, String(key)) ?? shop(`republish ${topic} --all`),
  ],
})

/** Topics hold what their owners have decided: each event, once, in order and unchanged. */
export const eventChecks = (scope: Scope): Check[] => [
  lostEvent(scope),
  unknownEvent(scope),
  reorderedKey(scope),
  repeatedStep(scope),
  conflictingEvents(scope),
  changedEvent(scope),
  eventContent(scope),
  outdatedRecord(scope),
]
