/** A row of `schemas/registry.lock.json`. */
export interface LockEntry {
  /** Id in the wire format, from 100001 up. */
  readonly id: number
  /** Full name of the record. */
  readonly subject: string
  /** From 1, per subject. */
  readonly version: number
  /** SHA-256, in hex, of `schema` as compact JSON. */
  readonly fingerprint: string
  /** The schema as `normalise` gives it. */
  readonly schema: unknown
}
