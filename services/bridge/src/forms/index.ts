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
export const toSendable = (one: Forwarded, row: BridgeRow): Sendable =>
  new Formatted(one.event, forms[row.form ?? 'cloudevents'](one, row))

/** Makes bytes of its text for those who ask. */
class Formatted implements Sendable {
  readonly id: string
  readonly type: Sendable['type']
  readonly key: string
  readonly topic: string
  readonly contentType: string
  readonly text?: string
  readonly attributes?: Readonly<Record<string, string>>
  readonly task?: Readonly<Record<string, unknown>>
  #bytes: Buffer | undefined

  constructor({ id, type, key, topic }: Forwarded['event'], { contentType, body, attributes, task }: Formed) {
    this.id = id
    this.type = type
    this.key = key
    this.topic = topic
    this.contentType = contentType
    if (typeof body === 'string') this.text = body
    else this.#bytes = body
    if (attributes) this.attributes = attributes
    if (task) this.task = task
  }

  get body(): Buffer {
    this.#bytes ??= Buffer.from(this.text as string)
    return this.#bytes
  }
}
