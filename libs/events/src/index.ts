import { registry } from './catalogue/registry.ts'
import { type Codec, createCodec } from './codec/codec.ts'
import type { EventDefaults, EventName, EventTypes, SchemaRegistered } from './generated/events.ts'

export { msOfId, newEventId } from './catalogue/id.ts'
export { partitionOf } from './catalogue/partition.ts'
export { type LockEntry, registry } from './catalogue/registry.ts'
export { deadLetterTopic, type Topic, topicOf, topics } from './catalogue/topics.ts'
export { type Decoded, DecodeError, EncodeError, maxMessageBytes } from './codec/codec.ts'
export type * from './generated/events.ts'

/** What a writer gives of an event: all of its fields but those that have a default, which may be left out. */
export type NewEventData<N extends EventName> = Omit<EventTypes[N], EventDefaults[N]> &
  Partial<Pick<EventTypes[N], EventDefaults[N] & keyof EventTypes[N]>>

/** {@link registry} as the events that make it known to older readers, in `shop.schema.v1`. */
export const schemaEvents: readonly SchemaRegistered[] = registry.map(({ id, subject, version, schema }) => ({
  schemaId: id,
  subject,
  version,
  schema: JSON.stringify(schema),
}))

const codec = createCodec(registry)

/** {@link Codec.encode} of the codec built from {@link registry}. */
export const encode: <N extends EventName>(event: N, data: NewEventData<N>) => Buffer = codec.encode as never
/** {@link Codec.decode} of the codec built from {@link registry}. */
export const decode: Codec['decode'] = codec.decode
/** {@link Codec.learn} of the codec built from {@link registry}: makes a newer writer's schema known to {@link decode}. */
export const learnSchema: Codec['learn'] = codec.learn
