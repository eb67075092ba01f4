import { type AvroSchema, pointer } from './avro-model.ts'
import type { NamedNode, Path, RecordNode } from './avro-nodes.ts'
import type { Incompatibility, IncompatibilityType } from './incompatibility.ts'

/** Aliases of the reader that claim what something else in it claims, whatever the writer has. */
export function duplicateAliases({ named: types }: AvroSchema): Incompatibility[] {
  const records = types.filter((type): type is RecordNode => type.kind === 'record')
  const groups: { items: readonly Claimant[]; places: (at: number) => Path; areTypes: boolean }[] = [
    { items: types, places: (at) => (types[at] as NamedNode).path, areTypes: true },
    ...records.map(({ fields, path }) => ({
      items: fields,
      places: (at: number) => [...path, 'fields', at],
      // an alias that is another field's name depends on what was written: ambiguous or read twice
      areTypes: false,
    })),
  ]
  return groups.flatMap(({ items, places, areTypes }) =>
    claimedTwice(items, areTypes).map(({ at, reason }) => ({
      type: 'DUPLICATE_ALIAS' satisfies IncompatibilityType,
      readerPath: pointer([...places(at), 'aliases']),
      writerPath: '/',
      reason,
      advice: 'Remove one of them',
      message: `${reason}. Remove one of them`,
    })),
  )
}

interface Claimant {
  readonly name: string
  readonly aliases: readonly string[]
}

/** A type may repeat its own name, which claims nothing; a field may not: Java finds the written field twice, and throws. */
function claimedTwice(items: readonly Claimant[], areTypes: boolean): { at: number; reason: string }[] {
  const claims = new Map<string, string>(areTypes ? items.map(({ name }) => [name, name]) : [])
  return items.flatMap(({ name, aliases }, at) =>
    aliases.flatMap((alias) => {
      if (areTypes && alias === name) return []
      const before = alias === name ? name : claims.get(alias)
      claims.set(alias, name)
      if (before === undefined) return []
      const owner = before === name ? 'itself' : before
      return [{ at, reason: `the alias ${alias} of ${name} is already taken by ${owner}` }]
    }),
  )
}
