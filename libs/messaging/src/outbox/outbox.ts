import { type RawBuilder, signal, sql, type Transaction } from '@shopstream/database'
import { type EventName, encode, type NewEventData, newEventId, partitionOf, topicOf } from '@shopstream/events'
import { currentTrace, formatTraceparent, parseTraceparent, startSpan } from '@shopstream/observability'
import type { OutgoingMessage } from '../broker/bus.ts'
import { crashPoint } from '../crash-points.ts'
import { eventAttributes } from '../event/tracing.ts'

/** An event that a decision has produced. */
export interface NewEvent<N extends EventName = EventName> {
  type: N
  /** The aggregate's id. */
  key: string
  /** Gap-free per topic and key from 1; kept on the aggregate's row and raised under its lock. */
  sequence: bigint
  data: NewEventData<N>
  /** The message that led to it, where one did: its id and trace are carried on. */
  causedBy?: { id: string; traceparent?: string }
  /** Trace of its cause, if that is neither a message nor the trace of the running code. */
  traceparent?: string
  /** Its own id, for who notes it in the same transaction; a new one by default. */
  id?: string
  /** The bridge that brought it, which does not hand it on to where it came from. */
  origin?: string
}

/** {@link NewEvent} of any of the named types, with the payload that belongs to the type. */
export type AnyNewEvent<N extends EventName = EventName> = { [K in N]: NewEvent<K> }[N]

/** A service's `produces.ts`. */
export interface Producer<N extends EventName = EventName> {
  readonly service: string
  readonly events: readonly N[]
  /**
   * Writes events to the outbox, in order. Call it after the aggregates' rows are locked, so that the order of one
   * key is the order of commits. Throws `EncodeError` for a payload that its schema does not hold, and an error for an
   * event over 512 KiB or one that is not declared.
   */
  emit(tx: Transaction, events: readonly AnyNewEvent<N>[]): Promise<void>
}

/** Dead letters add headers to an event, so it stays far below what a topic takes. */
const maxEventBytes = 512 * 1024

/** Name of the after-commit signal by which the relay is woken; its payload are the messages that were written. */
export const outboxSignal = 'outbox'

/** SQL: whether a row of `outbox` can be published: neither refused nor behind a refused one, which wait for a person. */
export const publishable = `refused is null and not exists (
  select 1 from outbox held
  where held.refused is not null and held.topic = outbox.topic and held.key = outbox.key and held.id < outbox.id)`

/** The table of events that a service produces. */
export function producer<N extends EventName>(service: string, events: readonly N[]): Producer<N> {
  const declared = new Set<string>(events)
  return {
    service,
    events,
    async emit(tx, newEvents) {
      const undeclared = newEvents.find(({ type }) => !declared.has(type))
      if (undeclared) throw new Error(`produces.ts of ${service} does not declare ${undeclared.type}`)
      await insertOutbox(
        tx,
        newEvents.map((event) => outgoing(service, event as NewEvent)),
        sql`by_the_later_clock(headers)`, // this process's may be behind
      )
    },
  }
}

/** The message that carries an event of `service`, with a new event id unless it has one. Throws as {@link Producer.emit} does. */
export function outgoing(
  service: string,
  { type, key, sequence, data, id = newEventId(), causedBy, origin, traceparent = causedBy?.traceparent }: NewEvent,
): OutgoingMessage {
  const value = encode(type, data)
  if (value.length > maxEventBytes)
    throw new Error(`${type} of ${key} has ${value.length} bytes; the limit is ${maxEventBytes}`)
  const topic = topicOf(type)
  const span = startSpan(`create ${topic.name}`, {
    kind: 'producer',
    parent: parseTraceparent(traceparent) ?? currentTrace(),
    attributes: { ...eventAttributes({ topic: topic.name, id, type }), 'messaging.operation.type': 'create' },
  })
  span.end()
  return {
    topic: topic.name,
    partition: partitionOf(key, topic.partitions),
    key,
    value,
    headers: {
      'content-type': 'application/avro',
      ce_specversion: '1.0',
      ce_id: id,
      ce_type: type,
      ce_source: `/shopstream/${service}`,
      ce_subject: key,
      ce_time: new Date().toISOString(),
      ce_sequence: String(sequence),
      ...(causedBy && { ce_causationid: causedBy.id }),
      ...(origin && { ce_origin: origin }),
      traceparent: formatTraceparent(span.context),
    },
  }
}

/** Writes rows to the outbox in their order and wakes the relay after the commit. */
export async function insertOutbox(
  tx: Transaction,
  rows: readonly (Omit<OutgoingMessage, 'headers'> & { headers: object })[],
  headers: RawBuilder<unknown> = sql`headers`,
): Promise<void> {
  if (rows.length === 0) return
  await sql`
    insert into outbox (topic, partition, key, value, headers)
    select topic, coalesce(partition_of(key, grown.partitions), partition), key, value, ${headers}
    from unnest(
      ${rows.map((row) => row.topic)}::text[], ${rows.map((row) => row.partition)}::integer[],
      ${rows.map((row) => row.key)}::text[], ${rows.map((row) => row.value)}::bytea[],
      ${rows.map((row) => JSON.stringify(row.headers))}::jsonb[]
    ) with ordinality as event (topic, partition, key, value, headers, place)
    left join (select topic, partitions from topic_partitions) as grown using (topic)
    where pg_current_xact_id() is not null -- once, before the first id is given out: see outbox-floor.ts
    order by place`.execute(tx)
  crashPoint('outbox-written')
  signal(tx, outboxSignal, rows)
}
