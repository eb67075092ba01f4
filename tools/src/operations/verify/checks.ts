import { type EventName, topics } from '@shopstream/events'
import { compactedTopics } from '@shopstream/messaging'
import type { ServiceWiring } from '../../schemas/wiring.ts'
import { keyInWords, shopWith } from '../printing.ts'
import type { Owner } from '../reach.ts'
import { shop } from '../words.ts'
import { aggregates, contradicts, replicas, rowsSql } from './holdings.ts'
import type { RecordRef } from './writings.ts'

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
  /** SQL: how many rows are looked at. */
  looked(database: Owner): string
  /** SQL: a row for each discrepancy, with at least `subject`, by which they are sorted. */
  sql(database: Owner): string
  message(found: Found): string
  /** The records that are at fault, of which is told who wrote them, where and when. */
  about?(found: Found): RecordRef[]
  /** Commands that show it. */
  commands(found: Found): string[]
}

/** The check that says what the others could not see. */
export const unreadableRecords = 'unreadable-records'

/** How long after its deadline an order may still be pending: the sweeper looks every 2 s, and takes 100 at a time. */
const overdueSeconds = 60
/** How long after its time a parked message may still be waiting for its attempt. */
const untriedSeconds = 300

/** The mail that each event asks for. */
export const mailKinds = {
  UserRegistered: 'welcome',
  OrderConfirmed: 'confirmed',
  OrderRejected: 'rejected',
  OrderShipped: 'shipped',
  OrderCancelled: 'cancelled',
}
const mailTopics = ['shop.user.v1', 'shop.order.v1']

/** The steps of an order and of its reservation, by the events that take them: each step is taken once, if ever. */
const steps = [
  ['OrderPlaced'],
  ['OrderConfirmed', 'OrderRejected'],
  ['OrderShipped', 'OrderCancelled'],
  ['OrderDelivered'],
  ['StockReserved', 'StockRejected'],
  ['StockReleased', 'StockSold'],
] satisfies EventName[][]

/** The states of a reservation that fit each status of its order, once inventory has handled all of the order's events. */
const fittingStates = `case o.status
    when 'pending' then array['reserved', 'rejected'] when 'confirmed' then array['reserved']
    when 'rejected' then array['rejected'] when 'shipped' then array['sold'] when 'delivered' then array['sold']
    when 'cancelled' then array['released', 'rejected'] end`

/** SQL of what cannot be read of a topic, in words; null where all can. */
const unreadOf = (topic: string) => `(
    select string_agg(g.topic || '/' || g.partition || '@' || g.first, ', ' order by g.partition, g.first)
    from gap as g where g.topic = ${topic} and not g.open)`

/** While a transaction hides the end of a partition, nobody knows what its topic does not have. */
const allSeen = (topic: string) => `not exists (select 1 from gap as g where g.topic = ${topic} and g.open)`

/** The place can be read, so that what is not found there is not there. */
const isRead = (row: string) => `not exists (
    select 1 from gap as g
    where g.topic = ${row}.topic and g.partition = ${row}.partition and ${row}."offset" between g.first and g.last)`

const unlessUnread = ({ unread }: Found) =>
  unread === null ? '' : `, unless it stands in what cannot be read there: ${unread}`

const text = (value: string) => `'${value.replaceAll("'", "''")}'`
const list = (values: readonly string[]) => `array[${values.map(text).join(', ')}]::text[]`
const events = (names: readonly string[]) => `f.topic = any(${list(names)})`

/** The commands that show an aggregate, by the topic of its events. */
function show(topic: unknown, key: unknown): string[] {
  const kind = explained[String(topic)]
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
const showKey = ({ topic, key }: Found) => show(topic, key)

/** The event that was found, or another one of its key. */
const event = ({ topic, key, ...found }: Found, sequence = found.sequence) => ({ topic, key, sequence }) as RecordRef
/** What stands where it was found. */
const placed = ({ topic, partition, offset }: Found) => ({ topic, partition, offset }) as RecordRef

/** A message that an operator or a retry still has to settle, or has settled otherwise: its effects are not due. */
const excused = (topic: string, key: string) =>
  `exists (select 1 from parked_message as m where m.topic = ${topic} and m.key = ${key} and m.state <> 'handled')`

/** Joins a fact with where this database's group stood: what lies before `done` has been handled or parked. */
const handled = `join position as p on p.topic = f.topic and p.partition = f.partition and f."offset" < p.done`

/** SQL: what was archived of this database under a key, as anybody may have written it. */
const archivedAs = (key: string) => `archived as gone
    where gone.key = case when ${key} ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then ${key}::uuid end`

/** When a UUIDv7 was made; for other ids a time that is always recent enough to be judged. */
const timeOfId = (id: string) => `case when substr(${id}::text, 15, 1) = '7'
    then to_timestamp(('x' || lpad(substr(replace(${id}::text, '-', ''), 1, 12), 16, '0'))::bit(64)::bigint / 1000.0)
    else 'infinity' end`

/** A message's key or type, as anybody may have written it. */
const named = (value: unknown) => keyInWords(value === null ? null : String(value))

const union = (parts: readonly string[]) => parts.join('\n  union all\n  ')

/** The checks, for services that consume what `wiring` says. */
export function checksFor(wiring: readonly ServiceWiring[]): Check[] {
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

  const owners: Owner[] = ['user', 'order', 'inventory', 'notification']
  const consumers = owners.filter((owner) => typesOf(owner).length > 0)
  const atOwners = Object.fromEntries(owners.map((owner) => [owner, ownTopics(owner)]))
  const atConsumers = (topicsOf: (database: Owner) => string[]) =>
    Object.fromEntries(consumers.map((owner) => [owner, topicsOf(owner)]))
  const factsOf = (names: (database: Owner) => readonly string[]) => (database: Owner) =>
    `select count(*) from fact as f where ${events(names(database))}`
  const ofEvent = ({ topic, key, sequence }: Found) => `event ${sequence} of ${named(key)} in ${topic}`

  /** Orders of which inventory had handled every event before its moment; `o`, with the last of their events. */
  const settledOrders = `
    settled as (
      select o.* from order_seen as o
      left join (
        select f.key, max(f.sequence) as sequence, bool_and(f."offset" < p.done) as handled
        from fact as f join position as p on p.topic = f.topic and p.partition = f.partition
        where f.topic = 'shop.order.v1' group by f.key) as e using (key)
      cross join (select since from kept where topic = 'shop.order.v1') as k
      where case when e.key is null then o.changed < k.since else e.handled and e.sequence = o.sequence end
        and not ${excused(`'shop.order.v1'`, 'o.key')}),
    held as (select key, state, lines from aggregate where topic = 'shop.reservation.v1')`
  const besideOrders = { inventory: ['shop.order.v1', 'shop.reservation.v1'] }
  const countOrders = () => 'select count(*) from order_seen'

  return [
    {
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
    },
    {
      name: 'stock-level',
      promise:
        'pieces on hand are the adjustments less what was sold; reserved are those of the open reservations, never more',
      at: { inventory: [] },
      looked: () =>
        'select (select count(*) from stock) + (select count(*) from stock_adjustment) + (select count(*) from reservation)',
      sql: () => `
        with moved as (
          select sku, sum(pieces) filter (where state = 'sold') as sold,
            sum(pieces) filter (where state = 'reserved') as reserved
          from (
            select line->>'sku' as sku, state, (line->>'quantity')::bigint as pieces
            from reservation cross join jsonb_array_elements(lines) as line where state in ('sold', 'reserved')
            union all select key, 'sold', amount from archived_sum where "table" = 'reservation') as lines
          group by 1),
        adjusted as (select sku, sum(delta) as pieces from stock_adjustment group by 1),
        due as (
          select s.sku, s.on_hand, s.reserved, coalesce(a.pieces, 0) - coalesce(m.sold, 0) as due_on_hand,
            coalesce(m.reserved, 0) as due_reserved
          from (select sku from stock union select sku from moved) as all_skus
          left join stock as s using (sku) left join adjusted as a using (sku) left join moved as m using (sku))
        select sku as subject, * from due
        where on_hand is distinct from due_on_hand or reserved is distinct from due_reserved or on_hand < reserved`,
      message: ({ sku, on_hand, reserved, due_on_hand, due_reserved }) =>
        `${sku} has ${on_hand} on hand and ${reserved} reserved; by adjustments, sales and reservations it is ${due_on_hand} and ${due_reserved}`,
      commands: ({ sku }) => show('shop.stock.v1', sku),
    },
    {
      name: 'reservation-without-order',
      promise: 'every reservation belongs to an order',
      at: besideOrders,
      needsOrders: true,
      looked: () => `select count(*) from aggregate where topic = 'shop.reservation.v1'`,
      sql: () => `
        select r.key as subject, r.key, r.state from aggregate as r
        where r.topic = 'shop.reservation.v1' and not exists (select 1 from order_seen as o where o.key = r.key)
          and not exists (select 1 from order_archived as o where o.key = r.key)`,
      message: ({ key, state }) => `there is a reservation (${state}) for order ${key}, and no such order`,
      commands: ({ key }) => show('shop.reservation.v1', key),
    },
    {
      name: 'order-without-reservation',
      promise: 'every order that inventory has heard of has its reservation',
      at: besideOrders,
      needsOrders: true,
      looked: countOrders,
      sql: () => `
        with ${settledOrders}
        select o.key as subject, o.key, o.status from settled as o
        where not exists (select 1 from held as r where r.key = o.key)
          and not exists (select 1 from ${archivedAs('o.key')})`,
      message: ({ key, status }) =>
        `order ${key} (${status}) has no reservation, although inventory has handled its events`,
      commands: ({ key }) => show('shop.order.v1', key),
    },
    {
      name: 'reservation-state',
      promise: "a reservation is what its order's events make of it: reserved, rejected, released or sold",
      at: besideOrders,
      needsOrders: true,
      looked: countOrders,
      sql: () => `
        with ${settledOrders}
        select o.key as subject, o.key, o.status, r.state from settled as o join held as r using (key)
        where not r.state = any(${fittingStates})
        union all -- an order is archived when it is over
        select o.key, o.key, 'archived', r.state from order_archived as o join held as r using (key)
        where r.state = 'reserved' and not ${excused(`'shop.order.v1'`, 'o.key')}`,
      message: ({ key, status, state }) => `order ${key} is ${status}, and its reservation ${state}`,
      commands: ({ key }) => show('shop.order.v1', key),
    },
    {
      name: 'reservation-lines',
      promise: 'a reservation holds, or held, what its order has ordered',
      at: besideOrders,
      needsOrders: true,
      looked: countOrders,
      // A rejected one holds nothing; of one that was restored from its event only the short lines are known.
      sql: () => `
        select o.key as subject, o.key from order_seen as o
        join aggregate as r on r.topic = 'shop.reservation.v1' and r.key = o.key
        where r.state <> 'rejected' and r.lines is distinct from o.lines`,
      message: ({ key }) => `the reservation of order ${key} has other lines than the order`,
      commands: ({ key }) => show('shop.order.v1', key),
    },
    {
      name: 'order-undecided',
      promise: 'an order is decided once its service has handled what inventory said',
      at: { order: ['shop.reservation.v1'] },
      looked: factsOf(() => ['shop.reservation.v1']),
      sql: () => `
        select f.key as subject, f.key, f.type from fact as f ${handled}
        join "order" as o on o.id::text = f.key
        where f.topic = 'shop.reservation.v1' and f.type in ('StockReserved', 'StockRejected') and o.status = 'pending'
          and not ${excused('f.topic', 'f.key')}`,
      message: ({ key, type }) => `order ${key} is still pending, although its service has handled ${type}`,
      commands: ({ key }) => show('shop.order.v1', key),
    },
    {
      name: 'order-overdue',
      promise: `no order is pending ${overdueSeconds} s after its deadline`,
      at: { order: [] },
      looked: () => 'select count(*) from "order"',
      sql: () => `
        select id::text as subject, id::text as key, reservation_deadline as deadline,
          round(extract(epoch from now() - reservation_deadline))::integer as seconds
        from "order" where status = 'pending' and reservation_deadline < now() - interval '${overdueSeconds} seconds'`,
      message: ({ key, seconds }) =>
        `order ${key} is pending ${seconds} s after its deadline; it should have been cancelled: does the order service run, and is the row locked?`,
      commands: ({ key }) => [...show('shop.order.v1', key), shop('status')],
    },
    {
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
    },
    {
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
    },
    {
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
    },
    {
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
    },
    {
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
    },
    {
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
    },
    {
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
    },
    {
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
    },
    {
      name: 'skipped-message',
      promise: 'each message that a group has passed is in its inbox, or parked',
      at: atConsumers(inboxTopics),
      looked: (database) =>
        `select count(*) from fact as f ${handled} where ${events(inboxTopics(database))} and f.type = any(${list(typesOf(database))})`,
      sql: (database) => `
        select distinct on (f.topic, f.partition, f."offset")
          ${text(database)} || ' ' || f.topic || ' ' || f.partition || ' ' || f."offset" as subject,
          ${text(database)} as group, f.topic, f.partition, f."offset", f.key, f.type, f.event_id
        from fact as f ${handled}
        where ${events(inboxTopics(database))} and (f.type is null or f.type = any(${list(typesOf(database))}))
          and (f.event_id is null or not exists (select 1 from inbox as i where i.event_id = f.event_id))
          and not exists (select 1 from inbox as i where i.event_id = f.unreadable_id)
          and not exists (
            select 1 from parked_message as m
            where m.topic = f.topic and m.partition = f.partition and m."offset" = f."offset")
          and not exists ( -- which ${text('unreadable-records')} tells
            select 1 from unreadable_batch as u
            where u.topic = f.topic and u.partition = f.partition and u.stepped_over_at is not null
              and f."offset" between u.first_offset and u.last_offset)`,
      about: (found) => [placed(found)],
      message: ({ group, topic, partition, offset, type, key }) =>
        `group ${group} has passed ${type === null ? 'a message' : named(type)} of ${named(key)} at offset ${offset} of ${topic}, partition ${partition}, and has neither handled nor parked it`,
      commands: ({ topic, key, event_id }) => [
        ...(event_id ? [shop(`explain event ${event_id}`)] : []),
        ...show(topic, key),
      ],
    },
    {
      name: 'vanished-message',
      promise: 'each message that a group has handled is still in its topic, unless retention has deleted it',
      at: atConsumers(inboxTopics),
      looked: (database) => `select count(*) from inbox as f where ${events(inboxTopics(database))}`,
      sql: (database) => `
        select ${text(database)} || ' ' || i.event_id as subject, ${text(database)} as group, i.topic, i.partition, i."offset", i.event_id
        from inbox as i join position as p on p.topic = i.topic and p.partition = i.partition
          and i."offset" >= p.start and i."offset" < p.done
        join kept as k on k.topic = i.topic
        where i.topic = any(${list(inboxTopics(database))}) and (k.since is null or i.received_at > k.since)
          and not exists (select 1 from fact as f where f.topic = i.topic and f.event_id = i.event_id)
          and not exists (select 1 from fact as f where f.topic = i.topic and f.unreadable_id = i.event_id)
          and ${isRead('i')}`,
      message: ({ group, topic, partition, offset, event_id }) =>
        `group ${group} has handled event ${event_id} from offset ${offset} of ${topic}, partition ${partition}, which the topic does not have any more`,
      commands: ({ event_id }) => [shop(`explain event ${event_id}`)],
    },
    {
      name: 'stale-replica',
      promise: 'a replica knows each event of its owner that its group has passed, and says the same',
      at: atConsumers((database) =>
        replicas.filter((replica) => replica.database === database).map(({ topic }) => topic),
      ),
      looked: (database) =>
        `select ${replicas
          .filter((replica) => replica.database === database)
          .map(({ table }) => `(select count(*) from ${table})`)
          .join(' + ')}`,
      sql: (database) =>
        union(
          replicas
            .filter((replica) => replica.database === database)
            .map(
              (replica) => `
        select ${text(`${database} ${replica.table}`)} || ' ' || f.key as subject, ${text(database)} as group,
          ${text(replica.table)} as table, f.topic, f.key, max(f.sequence) as owned, max(t.known) as known
        from fact as f ${handled} left join (${rowsSql(replica)}) as t using (key)
        where f.topic = '${replica.topic}' and f.sequence is not null and f.type = any(${list(typesOf(database))})
          and not ${excused('f.topic', 'f.key')}
        group by f.topic, f.key
        having coalesce(max(t.known), 0) < max(f.sequence) or bool_or(f.sequence = t.known and ${contradicts(replica)})`,
            ),
        ),
      message: ({ group, table, key, owned, known }) =>
        known === null
          ? `table ${table} of ${group} does not have ${named(key)}`
          : BigInt(known as string) < BigInt(owned as string)
            ? `table ${table} of ${group} knows ${named(key)} as of event ${known}; its group has passed event ${owned}`
            : `table ${table} of ${group} says something else of ${named(key)} than event ${known}, which it goes by`,
      commands: showKey,
    },
    {
      name: 'orphaned-parked-message',
      promise: 'a parked message is one of its topic, and one that waits is tried when its time has come',
      at: atConsumers(consumed),
      looked: () => `select count(*) from parked_message where state in ('waiting', 'dead')`,
      sql: (database) => `
        select ${text(database)} || ' ' || m.topic || ' ' || m.partition || ' ' || m."offset" as subject, ${text(database)} as group,
          m.id, m.topic, m.partition, m."offset", m.key, m.state,
          round(extract(epoch from now() - m.next_attempt_at))::integer as seconds, f."offset" is null as missing,
          f."offset" is not null and (f.event_id is distinct from m.event_id or f.key is distinct from m.key) as other
        from parked_message as m
        left join position as p on p.topic = m.topic and p.partition = m.partition and m."offset" >= p.start and m."offset" < p.done
        left join fact as f on p.topic is not null and f.topic = m.topic and f.partition = m.partition and f."offset" = m."offset"
        where m.state in ('waiting', 'dead') and (
          (p.topic is not null and m.bytes is not null and (
            (f."offset" is null and m.topic <> all(${list([...compactedTopics])}))
            or f.event_id is distinct from m.event_id or f.key is distinct from m.key)
            and ${isRead('m')})
          or (m.state = 'waiting' and m.next_attempt_at < now() - interval '${untriedSeconds} seconds'
            and not exists (
              select 1 from parked_message as earlier
              where earlier.blocks and earlier.topic = m.topic and earlier.key = m.key and earlier.id < m.id)))`,
      message: ({ group, id, topic, partition, offset, state, seconds, missing, other }) => {
        const which = `message ${id} parked by ${group} (${state}), from offset ${offset} of ${topic}, partition ${partition},`
        if (other) return `${which} is not the one that the topic has there`
        if (state === 'waiting' && Number(seconds) > untriedSeconds)
          return `${which} was due ${seconds} s ago and is not tried: does ${group} run, and does it consume this event?`
        return missing ? `${which} is not in the topic` : `${which} differs from the one in the topic`
      },
      about: (found) => [placed(found)],
      commands: ({ group, id, topic, key }) => [
        shop(`dead-letters show ${group}/${id}`),
        ...(key === null ? [] : show(topic, key)),
      ],
    },
    {
      name: 'missing-mail',
      promise: 'each event that asks for a mail has its notification',
      at: { notification: mailTopics },
      looked: () =>
        `select count(*) from fact as f ${handled} where ${events(mailTopics)} and f.type = any(${list(Object.keys(mailKinds))})`,
      // A registration that was told again, as another event, has its mail from the first one.
      sql: () => `
        with unanswered as (
          select f.topic, f.key, f.sequence, f.type
          from fact as f ${handled} left join notification as n on n.cause_id = f.event_id
            left join archived as gone on gone.key = f.event_id
          where ${events(mailTopics)} and f.type = any(${list(Object.keys(mailKinds))}) and f.sequence is not null
            and not ${excused('f.topic', 'f.key')}
          group by f.topic, f.key, f.sequence, f.type having count(n.id) = 0 and count(gone.key) = 0)
        select u.topic || ' ' || u.key || ' ' || u.sequence as subject, u.*
        from unanswered as u
        left join notification as n on u.type = 'UserRegistered' and n.kind = 'welcome' and n.user_id::text = u.key
        where n.id is null
          and not exists (select 1 from ${archivedAs('u.key')} and u.type = 'UserRegistered')`,
      message: (found) => `${ofEvent(found)} (${named(found.type)}) has caused no notification`,
      about: (found) => [event(found)],
      commands: showKey,
    },
    {
      name: 'extra-mail',
      promise: 'each notification has the one event that asks for it, and each event one notification',
      at: { notification: mailTopics },
      looked: () => `select count(*) from notification where kind = any(${list(Object.values(mailKinds))})`,
      // Only what was made before the moment: its cause was in the topic before that was read. A join, because "not exists"
      // beside an "or" looks through all facts for each of a million mails.
      sql: () => `
        with asked as (
          select * from (values ${Object.entries(mailKinds)
            .map(([type, kind]) => `(${text(type)}, ${text(kind)}, ${text(topicOfMail(type))})`)
            .join(', ')}) as k (type, kind, topic)),
        mail as (
          select n.*, count(*) over (partition by n.cause_id) + count(gone.key) over (partition by n.cause_id) as times,
            asked.type, asked.topic
          from notification as n join asked using (kind) left join archived as gone on gone.key = n.cause_id where n.created_at <= (select at from moment))
        select distinct m.id::text as subject, m.id, m.kind, m.cause_id, m.times, coalesce(m.order_id, m.user_id)::text as key, m.topic,
          ${unreadOf('m.topic')} as unread
        from mail as m join kept as k on k.topic = m.topic
        left join fact as f
          on f.event_id = m.cause_id and f.topic = m.topic and f.type = m.type and f.key = coalesce(m.order_id, m.user_id)::text
        where m.times > 1
          or (f.event_id is null and ${allSeen('m.topic')} and (k.since is null or ${timeOfId('m.cause_id')} > k.since))`,
      message: ({ id, kind, cause_id, times, ...found }) =>
        Number(times) > 1
          ? `notification ${id} (${kind}) is one of ${times} for event ${cause_id}`
          : `notification ${id} (${kind}) names event ${cause_id} as its cause, and there is no such event that asks for it${unlessUnread(found as Found)}`,
      commands: ({ topic, key, cause_id }) => [shop(`explain event ${cause_id}`), ...show(topic, key)],
    },
    {
      name: 'mailing-recipients',
      promise: 'a mailing has made one mail for each recipient it has counted',
      at: { notification: [] },
      looked: () =>
        'select (select count(*) from mailing) + (select count(*) from notification where mailing_id is not null)',
      sql: () => `
        select m.id::text as subject, m.id, m.recipients, gone.mails + count(n.id) as mails,
          gone.mails + count(distinct n.user_id) as users
        from mailing as m left join notification as n on n.mailing_id = m.id
        cross join lateral (
          select coalesce(sum(amount), 0)::bigint as mails from archived_sum
          where "table" = 'notification' and key = any(array[m.id || ' sent', m.id || ' failed', m.id || ' cancelled'])) as gone
        group by m.id, gone.mails
        having m.recipients <> gone.mails + count(n.id) or count(n.id) <> count(distinct n.user_id)`,
      message: ({ id, recipients, mails, users }) =>
        `mailing ${id} has counted ${recipients} recipients, and has ${mails} mails for ${users} users`,
      commands: () => [shop('status')],
    },
    {
      name: 'unwanted-mailing',
      promise: 'nobody who has opted out of mailings gets one',
      at: { notification: [] },
      looked: () => 'select count(*) from recipient where opted_out_at is not null',
      sql: () => `
        select n.id::text as subject, n.id, n.state, n.user_id, r.opted_out_at as since
        from recipient as r join notification as n on n.user_id = r.user_id
        where n.kind = 'mailing' and r.opted_out_at is not null
          and (n.state = 'queued' or (n.state <> 'cancelled' and coalesce(n.resent_at, n.created_at) > r.opted_out_at))`,
      message: ({ id, state, user_id, since }) =>
        `notification ${id} (${state}) is of a mailing, which user ${user_id} has wanted none of since ${since}`,
      commands: ({ user_id }) => [shop(`explain user ${user_id}`)],
    },
    {
      name: 'unannounced-mail',
      promise:
        'a mail that was sent, or failed, has exactly one event that says so (one more for each time it is sent again)',
      at: { notification: ['shop.notification.v1'] },
      looked: () => 'select count(*) from notification',
      sql: () => `
        with said as (
          select f.key, count(distinct f.sequence) as times from fact as f
          where f.topic = 'shop.notification.v1' group by 1 having count(distinct f.sequence) > 1)
        select n.id::text as subject, n.id, n.state, 0::bigint as times from notification as n
        where n.state in ('sent', 'failed') and n.sequence = 0
        union all
        select n.id::text, n.id, n.state, s.times from said as s join notification as n on n.id::text = s.key
        where s.times > 1 + n.resends`,
      message: ({ id, state, times }) =>
        times === 0n
          ? `notification ${id} is ${state}, and no event has said so`
          : `notification ${id} (${state}) has ${times} events that say what became of it`,
      commands: ({ id }) => show('shop.notification.v1', id),
    },
  ]
}

const topicOfMail = (type: string) => (type === 'UserRegistered' ? 'shop.user.v1' : 'shop.order.v1')
