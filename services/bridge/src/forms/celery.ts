import type { Forwarded } from '@shopstream/messaging/forwarding'
import type { BridgeRow } from '../row.ts'
import type { Formed } from '../targets/target.ts'
import { cloudEventOf } from './cloudevents.ts'

/**
 * Celery's task protocol 2 (docs.celeryq.dev, "Message Protocol"): headers say which task, the body is its arguments. The task's
 * id is the event's, so that a worker can tell a repeated one by `self.request.id`. It gets the event, as CloudEvents have
 * it in JSON, as its one argument.
 */
export function celeryTask(one: Forwarded, { tasks }: BridgeRow): Formed {
  const { id, type, key, traceparent } = one.event
  const embed = { callbacks: null, errbacks: null, chain: null, chord: null }
  return {
    contentType: 'application/json',
    body: JSON.stringify([[cloudEventOf(one)], {}, embed]),
    task: {
      lang: 'py',
      task: tasks?.[type] ?? `shopstream.${type}`,
      id,
      root_id: id,
      parent_id: null,
      group: null,
      shadow: null,
      eta: null,
      expires: null,
      retries: 0,
      timelimit: [null, null],
      argsrepr: `(<${type} of ${key}>,)`, // logs show it: no payload
      kwargsrepr: '{}',
      origin: 'shopstream-bridge',
      ignore_result: true,
      ...(traceparent && { traceparent }),
    },
  }
}
