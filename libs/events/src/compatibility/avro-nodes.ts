export type PrimitiveKind = 'null' | 'boolean' | 'int' | 'long' | 'float' | 'double' | 'bytes' | 'string'

/** Any Avro schema as a graph: references point at what they name, so a record can contain itself. */
export type AvroNode = PrimitiveNode | ArrayNode | MapNode | UnionNode | NamedNode
export type NamedNode = RecordNode | EnumNode | FixedNode

export interface PrimitiveNode extends Typed {
  readonly kind: PrimitiveKind
}
export interface ArrayNode extends Typed {
  readonly kind: 'array'
  readonly items: AvroNode
}
export interface MapNode extends Typed {
  readonly kind: 'map'
  readonly values: AvroNode
}
export interface UnionNode {
  readonly kind: 'union'
  readonly branches: readonly AvroNode[]
}
export interface RecordNode extends Named {
  readonly kind: 'record'
  readonly fields: readonly AvroField[]
}
export interface EnumNode extends Named {
  readonly kind: 'enum'
  readonly symbols: readonly string[]
  /** What a reader makes of a symbol that it does not know. */
  readonly default?: string
}
export interface FixedNode extends Named {
  readonly kind: 'fixed'
  /** Bytes. */
  readonly size: number
}
export interface AvroField {
  readonly name: string
  readonly aliases: readonly string[]
  readonly type: AvroNode
  /** The default as JSON; the key is absent when there is none. */
  readonly default?: unknown
}

interface Typed {
  /** The logical type with its parameters, `decimal(10, 2)`; absent when there is none or, as in Avro, an invalid one. */
  readonly logical?: string
}
interface Named extends Typed {
  /** Full name. */
  readonly name: string
  /** Full names. */
  readonly aliases: readonly string[]
  /** Where it is defined: the steps from the root of its schema. */
  readonly path: Path
}

/** Steps through the JSON of a schema: attributes and positions. */
export type Path = readonly (string | number)[]
