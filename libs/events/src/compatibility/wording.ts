import type { AvroNode } from './avro-nodes.ts'

/** A type for people. */
export const named = (type: AvroNode): string => ('name' in type ? `${type.kind} ${type.name}` : type.kind)

/** At most as many names are told in one message. */
const maxListed = 10

export const listed = (names: readonly string[]): string =>
  names.length <= maxListed
    ? names.join(', ')
    : `${names.slice(0, maxListed).join(', ')} and ${names.length - maxListed} more`
