import { toJson } from '@shopstream/events/json'
import type { Forwarded } from '@shopstream/messaging/forwarding'
import { CloudEvent, HTTP } from 'cloudevents'
import type { Formed } from './index.ts'

/** What an event says of itself, by the names of CloudEvents 1.0 and of its extensions for sequences, keys and traces. */
export function attributesOf({ event, message: { headers } }: Forwarded) {
  const { id, type, key, sequence, time, traceparent } = event
  return {
    id,
    type,
    source: headers.ce_source?.toString() ?? '/shopstream',
    subject: key,
    time: time.toISOString(),
    sequence: String(sequence),
    partitionkey: key,
    ...(traceparent && { traceparent }),
  }
}

/** As the official package has it. Not validated: each attribute was read from a valid event. */
export const toCloudEvent = (one: Forwarded) =>
  new CloudEvent(
    { ...attributesOf(one), datacontenttype: 'application/json', data: toJson(one.event.type, one.event.data) },
    false,
  )

/** Structured mode. */
export function cloudEvent(one: Forwarded): Formed {
  const { body } = HTTP.structured(toCloudEvent(one))
  return { contentType: 'application/cloudevents+json', body: Buffer.from(body as string) }
}

/** Binary mode. */
export const binaryCloudEvent = (one: Forwarded): Formed => ({
  contentType: 'application/json',
  body: Buffer.from(JSON.stringify(toJson(one.event.type, one.event.data))),
  attributes: { specversion: '1.0', ...attributesOf(one) },
})
