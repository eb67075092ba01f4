import lock from '../../../schemas/registry.lock.json' with { type: 'json' }
import { type Codec, createCodec, type LockEntry } from './codec.ts'
import type { SchemaRegistered } from './generated/events.ts'

export { type Decoded, DecodeError, EncodeError, type LockEntry, maxMessageBytes } from './codec.ts'
export type * from './generated/events.ts'
export { newEventId } from './id.ts'
export { partitionOf } from './partition.ts'
export { deadLetterTopic, type Topic, topicOf, topics } from './topics.ts'

/** The schema registry that this build was made with. */
export const registry: readonly LockEntry[] = lock

/** {@link registry} as the events that make it known to older readers, in `shop.schema.v1`. */
export const schemaEvents: readonly SchemaRegistered[] = registry.map(({ id, subject, version, schema }) => ({
  schemaId: id,
  subject,
  version,
  schema: JSON.stringify(schema),
}))

const codec = createCodec(registry)

/** {@link Codec.encode} of the codec built from {@link registry}. */
export const encode: Codec['encode'] = codec.encode
/** {@link Codec.decode} of the codec built from {@link registry}. */
export const decode: Codec['decode'] = codec.decode
/** {@link Codec.learn} of the codec built from {@link registry}: makes a newer writer's schema known to {@link decode}. */
export const learnSchema: Codec['learn'] = codec.learn
