import { uuidv7 } from 'uuidv7'

/**
 * A new id for an event or an aggregate: a UUIDv7 (RFC 9562) in lower case. Ids of one process sort by the order in
 * which they were made, also within a millisecond.
 */
export const newEventId = (): string => uuidv7()

/** When a UUIDv7 was made, in ms since 1970; undefined for UUIDs of another version. */
export function msOfId(id: string): number | undefined {
  return id[14] === '7' ? Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) : undefined
}
