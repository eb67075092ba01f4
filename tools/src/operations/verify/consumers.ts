import { compactedTopics, inboundName, unparkedBy } from '@shopstream/messaging/operations'
import { shop } from '../../terminal/format.ts'
import { contradicts, replicas, rowsSql } from './aggregates.ts'
import {
  type Check,
  events,
  excused,
  handled,
  list,
  named,
  placed,
  type Scope,
  show,
  showKey,
  text,
  union,
} from './check.ts'

/** How long after its time a parked message may still be waiting for its attempt. */
const untriedSeconds = 300

/** SQL: the place can be read, so a record that is not found there does not exist. */
const isRead = (row: string) => `not exists (
    select 1 from gap as g
    where g.topic = ${row}.topic and g.partition = ${row}.partition and ${row}."offset" between g.first and g.last)`

const skippedMessage = ({ typesOf, inboxTopics, atConsumers }: Scope): Check => ({
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
})

const vanishedMessage = ({ inboxTopics, atConsumers }: Scope): Check => ({
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
})

const staleReplica = ({ typesOf, atConsumers }: Scope): Check => ({
  name: 'stale-replica',
  promise: 'a replica knows each event of its owner that its group has passed, and says the same',
  at: atConsumers((database) => replicas.filter((replica) => replica.database === database).map(({ topic }) => topic)),
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
})

const orphanedParkedMessage = ({ consumed, atConsumers }: Scope): Check => ({
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
  message: ({ group, id, topic: name, partition, offset, state, seconds, missing, other }) => {
    const { topic, bridge } = unparkedBy(String(name))
    const place =
      topic === inboundName
        ? `number ${offset} of what came in,`
        : `from offset ${offset} of ${topic}, partition ${partition},`
    const which = `message ${id} parked by ${bridge === undefined ? group : `bridge ${bridge}`} (${state}), ${place}`
    if (other) return `${which} is not the one that the topic has there`
    if (state === 'waiting' && Number(seconds) > untriedSeconds)
      return `${which} was due ${seconds} s ago and is not tried: does ${group} run, and ${bridge === undefined ? 'does it consume this event' : 'has it still this bridge'}?`
    return missing ? `${which} is not in the topic` : `${which} differs from the one in the topic`
  },
  about: (found) => [placed(found)],
  commands: ({ group, id, topic, key }) => [
    shop(`dead-letters show ${group}/${id}`),
    ...(key === null ? [] : show(topic, key)),
  ],
})

/** Each group has handled or parked what it has passed, and its replicas say what their owners say. */
export const consumerChecks = (scope: Scope): Check[] => [
  skippedMessage(scope),
  vanishedMessage(scope),
  staleReplica(scope),
  orphanedParkedMessage(scope),
]
