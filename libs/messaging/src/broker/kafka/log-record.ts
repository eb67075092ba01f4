/** A record as a log holds it. */
export interface LogRecord {
  offset: bigint
  /** By the clock of the broker or of the writer, as the topic says; undefined where it is no time that a Date can be. */
  timestamp: Date | undefined
  key: Buffer | null
  value: Buffer | null
  /** In their order; a name may be there several times. Values of ASCII may be text. */
  headers: [name: string, value: string | Buffer | null][]
  /** Why it cannot be taken apart; `value` is all its bytes then. */
  problem?: string
}

export interface DecodingLimits {
  /** Bytes that a batch of records may have when it is unpacked; a record counts for {@link leastBytes} at the least. */
  batchBytes: number
  /** Bytes that key, value and headers of one record may have. */
  messageBytes: number
}
