import type { Forwarded } from '@shopstream/messaging/forwarding'
import type { BridgeRow, FormName } from '../row.ts'
import type { Formed, Sendable } from '../targets/target.ts'
import { celeryTask } from './celery.ts'
import { binaryCloudEvent, cloudEvent } from './cloudevents.ts'
import { asOnKafka } from './kafka.ts'

/** How events can be written. */
const forms = {
  /** One JSON object with the event's attributes and its data. */
  cloudevents: cloudEvent,
  /** The data as JSON; attributes in headers. */
  'cloudevents-binary': binaryCloudEvent,
  /** The bytes of Kafka, which name their schema; attributes in headers. */
  avro: asOnKafka,
  /** A task for Celery's workers, with the event as its one argument. */
  celery: celeryTask,
} as const satisfies Record<FormName, (one: Forwarded, row: BridgeRow) => Formed>

/** An event as its row wants it. */
export function toSendable(one: Forwarded, row: BridgeRow): Sendable {
  const { event } = one
  const { id, type, key, topic } = event
  return { id, type, key, topic, ...forms[row.form ?? 'cloudevents'](one, row) }
}
