import { readAvro } from './avro-model.ts'
import { duplicateAliases } from './duplicate-aliases.ts'
import type { Incompatibility } from './incompatibility.ts'
import { judge } from './pairs.ts'
import { walk } from './reasons.ts'

export { type Incompatibility, javaRules, strictRules } from './incompatibility.ts'

/**
 * All reasons why `reader` cannot read everything that `writer` wrote; empty when it can. Both are JSON of any Avro
 * schema. Follows Avro's schema resolution as `SchemaCompatibility` of its Java implementation (1.12) applies it, and
 * {@link strictRules} beyond. Each pair of types is reported once, at the first place where they meet.
 *
 * Throws `SchemaError` for what is no Avro schema; its path starts with `reader#` or `writer#`.
 */
export function incompatibilities(reader: unknown, writer: unknown): Incompatibility[] {
  const readerSchema = readAvro(reader, 'reader')
  const writerSchema = readAvro(writer, 'writer')
  const root = judge(readerSchema.root, writerSchema.root)
  return [...duplicateAliases(readerSchema), ...walk({ pair: root }, false).found]
}
