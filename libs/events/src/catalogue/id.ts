import { uuidv7 } from 'uuidv7'

/**
 * A new id for an event or an aggregate: a UUIDv7 (RFC 9562) in lower case. Ids of one process sort by the order in
 * which they were made, also within a millisecond.
 */
export const newEventId = (): string => uuidv7()
