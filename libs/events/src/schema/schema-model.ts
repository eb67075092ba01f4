/** The kinds of value without parts. `null` is not among them: it exists only inside of {@link NullableSchema}. */
export const scalarKinds = [
  'boolean',
  'int',
  'long',
  'float',
  'double',
  'string',
  'bytes',
  'uuid',
  'date',
  'timestamp-millis',
] as const
export type ScalarKind = (typeof scalarKinds)[number]

/** A schema with all names resolved. A tree: no record contains itself. */
export type Schema =
  | ScalarSchema
  | DecimalSchema
  | FixedSchema
  | EnumSchema
  | ArraySchema
  | MapSchema
  | NullableSchema
  | RecordSchema

export interface ScalarSchema {
  readonly kind: ScalarKind
}
/** An exact number of `scale` digits behind the point and at most `precision` digits in all; its bytes are Avro's `bytes`. */
export interface DecimalSchema {
  readonly kind: 'decimal'
  readonly precision: number
  readonly scale: number
}
export interface FixedSchema extends Named {
  readonly kind: 'fixed'
  /** Bytes. */
  readonly size: number
}
export interface EnumSchema extends Named {
  readonly kind: 'enum'
  readonly symbols: readonly string[]
  /** What a reader makes of a symbol that it does not know. */
  readonly default?: string
}
export interface ArraySchema {
  readonly kind: 'array'
  readonly items: Schema
}
export interface MapSchema {
  readonly kind: 'map'
  readonly values: Schema
}
/** The union `["null", X]`, the only one allowed. */
export interface NullableSchema {
  readonly kind: 'nullable'
  readonly of: Schema
}
export interface RecordSchema extends Named {
  readonly kind: 'record'
  readonly fields: readonly Field[]
}
export interface Field {
  readonly name: string
  readonly doc?: string
  readonly aliases: readonly string[]
  readonly type: Schema
  /** The default as JSON; the key is absent when there is none. */
  readonly default?: unknown
}
export interface Named {
  /** Full name, such as `shopstream.Money`. */
  readonly name: string
  readonly doc?: string
  readonly aliases: readonly string[]
}
