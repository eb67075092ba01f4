/** A reason why a reader cannot be relied on to read what a writer wrote. */
export interface Incompatibility {
  /** {@link IncompatibilityType}; a string, because a table of them may grow. */
  readonly type: string
  /** JSON pointer into the reader's schema, `/fields/0/type`; `/` is the whole schema. References are followed. */
  readonly readerPath: string
  /** The same for the writer's schema; to the record when a field is missing in it. */
  readonly writerPath: string
  /** What is wrong, and why. */
  readonly reason: string
  /** What to do so that this reader reads this writer, whatever others need. */
  readonly advice: string
  /** Both. */
  readonly message: string
  /**
   * Of a field that was not written: the written fields that nothing reads and that have a default. As aliases of the
   * field they help in both directions; others help this reader alone.
   */
  readonly aliases?: readonly string[]
  /** Of a union that cannot read what it has a branch for: the first reasons inside of that branch. */
  readonly because?: readonly Incompatibility[]
}

/** The rules of Avro's Java implementation, by its names. */
export const javaRules = [
  'NAME_MISMATCH',
  'FIXED_SIZE_MISMATCH',
  'MISSING_ENUM_SYMBOLS',
  'READER_FIELD_MISSING_DEFAULT_VALUE',
  'TYPE_MISMATCH',
  'MISSING_UNION_BRANCH',
] as const

/** Rules beyond Java's checker, each with what it holds against a pair that Java passes. */
export const strictRules = {
  LOGICAL_TYPE_CHANGED:
    'The logical type, its precision, scale or unit differs: the bytes can be read, but mean something else.',
  BYTES_READ_AS_STRING:
    'Bytes need be no text, and implementations differ in what they make of those that are none: an error or another text.',
  AMBIGUOUS_FIELD:
    'A field of the reader names several fields of the writer, by its name and aliases. Java throws instead of answering.',
  WRITER_FIELD_READ_TWICE: 'Two fields of the reader read the same field of the writer: one of them has a new meaning.',
  DUPLICATE_ALIAS:
    'An alias is already the name or alias of something else in the reader, or is there twice. A type may repeat its own name, a field may not: Java throws.',
  AMBIGUOUS_UNION_BRANCH:
    'Several branches of the reader claim a named type, and the one of the same full name is missing or cannot read it: implementations differ in which of them they take.',
} as const

export type IncompatibilityType = (typeof javaRules)[number] | keyof typeof strictRules
