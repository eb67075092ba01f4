import {
  childOf,
  Failure,
  formatTraceparent,
  isTracing,
  parseTraceparent,
  runInTrace,
  startSpan,
} from '@shopstream/observability'
import type { Delivery, OutgoingMessage } from '../broker/bus.ts'
import { eventIdOf, type Message, typeOf } from './envelope.ts'

/** What spans say of an event, by the conventions for messaging. */
export const eventAttributes = ({ topic, id, type }: { topic: string; id: string; type: string }) => ({
  'messaging.system': 'kafka',
  'messaging.destination.name': topic,
  'messaging.message.id': id,
  'cloudevents.event_type': type,
})

/** A span for each message on its way to the broker, within the trace of its event; returns what ends them. */
export function tellSending<M extends OutgoingMessage>(
  messages: readonly M[],
): (deliveries: readonly Delivery<M>[]) => void {
  if (!isTracing()) return () => {}
  const spans = new Map(
    messages.map((message) => [
      message,
      startSpan(`send ${message.topic}`, {
        kind: 'client',
        parent: parseTraceparent(message.headers.traceparent?.toString()),
        attributes: {
          ...eventAttributes({
            topic: message.topic,
            id: eventIdOf(message.headers) ?? '',
            type: typeOf(message.headers) ?? '',
          }),
          'messaging.operation.type': 'send',
        },
      }),
    ]),
  )
  return (deliveries) => {
    for (const { message, error } of deliveries) spans.get(message)?.end(error)
    for (const span of spans.values()) span.end(new Failure('not-sent'))
  }
}

/**
 * Runs a handler within the trace of its event; several events go on within their own traces each, and what they share is a
 * trace that links to all of them. Where spans are recorded, what an event leads to is a part of its handling.
 */
export async function inTrace(events: Message[], work: (events: Message[]) => Promise<void>): Promise<void> {
  const [first] = events
  if (!isTracing() || !first) {
    const only = events.length === 1 ? first?.traceparent : undefined
    return runInTrace(childOf(parseTraceparent(only)), () => work(events))
  }
  const handled = events.map((event) => ({ event, span: spanOf(event) }))
  const links = handled.map(({ span }) => span.context)
  const attributes = { 'messaging.system': 'kafka', 'messaging.batch.message_count': events.length }
  const batch =
    events.length > 1 ? startSpan(`process ${first.topic}`, { kind: 'consumer', links, attributes }) : undefined
  const spans = [...handled.map(({ span }) => span), ...(batch ? [batch] : [])]
  try {
    const traced = handled.map(({ event, span }) => ({ ...event, traceparent: formatTraceparent(span.context) }))
    await runInTrace((batch ?? (handled[0] as (typeof handled)[0]).span).context, () => work(traced))
    for (const span of spans) span.end()
  } catch (error) {
    for (const span of spans) span.end(error ?? new Failure('undefined'))
    throw error
  }
}

const spanOf = (event: Message) =>
  startSpan(`process ${event.topic}`, {
    kind: 'consumer',
    parent: parseTraceparent(event.traceparent),
    attributes: {
      ...eventAttributes(event),
      'messaging.operation.type': 'process',
      'messaging.destination.partition.id': String(event.partition),
      'messaging.kafka.offset': Number(event.offset),
    },
  })
