import type { LockEntry } from '../schema/lock-entry.ts'
import { type Incompatibility, incompatibilities } from './compatibility.ts'

/** A reason why an event's schema and some of its registered versions do not read each other. */
export interface Breakage {
  /** backward: today's schema reads what an old one wrote; forward: the reverse. */
  direction: 'backward' | 'forward'
  problem: Incompatibility
  /** The versions it is so with. */
  rows: readonly LockEntry[]
}

/** The services that read an event, and that write it. */
export interface Parties {
  consumers: readonly string[]
  producers: readonly string[]
}

/**
 * Every breakage between an event's current schema and its registered versions, which are stored in topics and built
 * into services: the schema must read each of them, and each of them the schema (FULL_TRANSITIVE). What is no schema
 * breaks all.
 * @param schema JSON of the schema.
 * @param rows the event's rows of the lock.
 */
export function breakages(schema: unknown, rows: readonly LockEntry[]): Breakage[] {
  const found = rows.flatMap((row) => [
    ...judged(schema, row.schema).map((problem) => ({ direction: 'backward' as const, problem, row })),
    ...judged(row.schema, schema).map((problem) => ({ direction: 'forward' as const, problem, row })),
  ])
  const same = Map.groupBy(found, ({ problem: { type, message }, direction }) => `${direction} ${type} ${message}`)
  return [...same.values()].map((group) => {
    const { direction, problem } = group[0] as (typeof found)[number]
    const aliases = (problem.aliases ?? []).filter((name) => group.every((one) => one.problem.aliases?.includes(name)))
    return { direction, problem: { ...problem, aliases }, rows: group.map(({ row }) => row) }
  })
}

/** What the judge takes for no schema is an incompatibility as well: nothing may be registered that was not judged. */
function judged(reader: unknown, writer: unknown): Incompatibility[] {
  try {
    return incompatibilities(reader, writer)
  } catch (error) {
    const { name, message } = error as Error
    if (name !== 'SchemaError') throw error
    const advice = 'write it as docs/schemas.md has it'
    return [{ type: 'NO_SCHEMA', readerPath: '/', writerPath: '/', reason: message, advice, message }]
  }
}

/** A {@link Breakage} in words: what is wrong, whom it hits and what to do in the file that `path` names. */
export function tellBreakage(
  { direction, problem, rows }: Breakage,
  { event, path, topic, consumers, producers }: Parties & { event: string; path: string; topic?: string | undefined },
): string {
  const { type, readerPath, writerPath, reason } = problem
  const versions = rows.map(({ version, id }) => `version ${version} (id ${id})`).join(' and ')
  const hit =
    direction === 'backward'
      ? `With ${path} as reader and ${versions} as writer: stored messages${topic ? ` in ${topic}` : ''} could no longer be read`
      : `With ${versions} as reader and ${path} as writer: services that are not yet redeployed could not read new messages`
  return (
    `[${type} reader ${readerPath}, writer ${writerPath}] ${reason}.\n` +
    `    ${hit}. Breaks consumers of ${event}: ${listed(consumers)}; producers: ${listed(producers)}.\n` +
    `    Registered versions cannot change any more. Instead: ${instead(direction, problem)} (docs/schemas.md)`
  )
}

/** What to do in the file, as the registered versions are what they are; it holds for both directions. */
function instead(direction: Breakage['direction'], { type, aliases = [], because = [] }: Incompatibility): string {
  if (because.length > 0) return [...new Set(because.map((inner) => instead(direction, inner)))].join('; ')
  if (direction === 'backward' && type === 'READER_FIELD_MISSING_DEFAULT_VALUE')
    return aliases.length > 0
      ? `give the new field a default; if it was ${aliases.join(' or ')} before, add that as its alias ("aliases")`
      : 'give the new field a default; a renamed one keeps its old name'
  return advice[direction][type] ?? 'put back what it was, and add a new field with a default for what is new'
}

const advice: Record<Breakage['direction'], Partial<Record<string, string>>> = {
  backward: {
    MISSING_ENUM_SYMBOLS: 'put the symbols back, and say in the doc that they are no longer written',
    MISSING_UNION_BRANCH: 'put the branch of the union back',
  },
  forward: {
    READER_FIELD_MISSING_DEFAULT_VALUE:
      'put the field back, and say in its doc that it is deprecated; what replaces it is a new field with a default and without an alias',
    MISSING_ENUM_SYMBOLS:
      'take the symbol out again, as readers of the enum would not know it, and add a new field with a default',
    MISSING_UNION_BRANCH: 'keep the field as it was, and add a new one that may be null, with null as its default',
  },
}

/** Services for people. */
export const listed = (services: readonly string[]): string => services.join(', ') || 'none in this repository'

/** The fields that a service uses of an event and that what `place` names does not declare: a text for each. */
export function undeclaredFields(
  { service, event, fields }: { service: string; event: string; fields: readonly string[] },
  place: string,
  declared: readonly string[],
): string[] {
  return fields
    .filter((field) => !declared.includes(field))
    .map(
      (field) =>
        `${service} consumes ${event} and uses its field ${field}, which ${place} does not declare ` +
        `(it has ${declared.join(', ')}): restore the field, or let ${service} do without it first`,
    )
}
