import { Reader, Writer } from '@platformatic/kafka'
import type { Place } from '../../bus.ts'

/**
 * What the members of a group tell one another, as KafkaJS does it, so that members of both clients can be in one group
 * while a deployment goes from one to the other: the same name of the protocol, version 0 of both formats.
 * Source: ConsumerProtocolSubscription.json and ConsumerProtocolAssignment.json of Kafka.
 */
export const protocolName = 'RoundRobinAssigner'

const noUserData = Buffer.alloc(0)

export function encodeSubscription(topics: readonly string[]): Buffer {
  return Writer.create()
    .appendInt16(0)
    .appendArray([...topics], (writer, topic) => writer.appendString(topic, false), false, false)
    .appendBytes(noUserData, false).buffer
}

/** The topics; none where it cannot be read. */
export function decodeSubscription(bytes: Buffer | null): string[] {
  if (!bytes || bytes.length < 6) return []
  try {
    const reader = Reader.from(bytes)
    reader.skip(2) // the version: later ones add to its end
    return reader.readArray((entry) => entry.readString(false), false, false)
  } catch {
    return [] // a member of another make must not keep the group from being dealt out
  }
}

export function encodeAssignment(places: readonly Place[]): Buffer {
  return Writer.create()
    .appendInt16(0)
    .appendArray(
      [...Map.groupBy(places, ({ topic }) => topic)],
      (writer, [topic, ofTopic]) =>
        writer
          .appendString(topic, false)
          .appendArray(ofTopic, (inner, { partition }) => inner.appendInt32(partition), false, false),
      false,
      false,
    )
    .appendBytes(noUserData, false).buffer
}

/** A member that gets nothing is sent no bytes at all. */
export function decodeAssignment(bytes: Buffer | null): Place[] {
  if (!bytes || bytes.length < 6) return []
  const reader = Reader.from(bytes)
  reader.skip(2)
  const byTopic = reader.readArray(
    (entry) => {
      const topic = entry.readString(false)
      const partitions = entry.readArray((inner) => inner.readInt32(), false, false)
      return partitions.map((partition) => ({ topic, partition }))
    },
    false,
    false,
  )
  return byTopic.flat()
}
