import type { EventName } from '@shopstream/events'

/** How events can be written; forms/index.ts does it. */
export const formNames = ['cloudevents', 'cloudevents-binary', 'avro', 'celery'] as const
export type FormName = (typeof formNames)[number]

/** A row of the table: events that go out to a broker, or that come in from one. */
export interface BridgeRow {
  /** Small letters, digits and hyphens; also part of its consumer group and of what it parks. */
  name: string
  send?: EventName[]
  /** How events are written; default `cloudevents`. */
  form?: FormName
  /** For the form `celery`: the names of tasks by event; default `shopstream.EVENT`. */
  tasks?: Record<string, string>
  /** The broker, with what it needs: one entry. */
  to?: Record<string, object>
  receive?: EventName[]
  /** The application that the events are from; default the name of the row. Rows of one source may bring the same keys. */
  source?: string
  /** What the keys of this source begin with, where several sources bring events of one topic. */
  keyPrefix?: string
  from?: Record<string, object>
  /** Bytes of a body from which on it is refused without asking the broker. */
  maxBytes?: number
  /** How often a refused message is tried before it is dead; default 8. */
  attempts?: number
}

/** Who a row's events are from. */
export const sourceOf = ({ name, source = name }: Pick<BridgeRow, 'name' | 'source'>) => source
