import { decompress, UnreadableBytes } from './compression.ts'
import { batchHeadBytes } from './entries.ts'
import type { DecodingLimits, LogRecord } from './log-record.ts'
import { beginning, type Unfinished } from './unfinished-batches.ts'

export interface Unpacked {
  records: Iterable<LogRecord>
  /** Size of the unpacked bytes that the records are views of; 0: they are views of the answer, or copies. */
  unpackedBytes: number
  /** Changes as records are taken; undefined: it has one record, or none that anybody sees. */
  batch?: Unfinished
}

export interface UnpackingLimits extends DecodingLimits {
  /** Of `batchBytes`, what may be unpacked now. */
  unpacked: number
}

/** Unpacks a batch or takes what is kept of it; its records come as they are asked for. */
export function unpack(
  entry: Buffer,
  from: bigint,
  packed: { codec: number; bytes: Buffer },
  limits: UnpackingLimits,
  known: Unfinished | undefined,
  recordsIn: (bytes: Buffer, batch: Unfinished) => Iterable<LogRecord>,
): Unpacked {
  const { codec } = packed
  const bytes = known?.unpacked ?? decompress(codec, packed.bytes, limits.unpacked)
  if (bytes.length > limits.batchBytes)
    throw new UnreadableBytes(`${bytes.length} bytes; the limit is ${limits.batchBytes}`)
  const batch: Unfinished = {
    head: Buffer.from(entry.subarray(0, batchHeadBytes)),
    unpacked: codec === 0 ? undefined : bytes,
    begun: known && known.begun.from <= from ? known.begun : beginning,
  }
  const records = recordsIn(bytes, batch)
  if (known?.unpacked) return { records: copies(records), unpackedBytes: 0, batch }
  return { records, unpackedBytes: codec === 0 ? 0 : bytes.length, batch }
}

/** Copies records whose unpacked bytes are kept for longer: each counts for itself, and the bytes can be replaced. */
function* copies(records: Iterable<LogRecord>): Iterable<LogRecord> {
  const copy = (bytes: Buffer | null) => bytes && Buffer.from(bytes)
  const copyHeld = (held: string | Buffer | null) => (typeof held === 'string' ? held : copy(held))
  for (const { key, value, headers, ...rest } of records)
    yield {
      ...rest,
      key: copy(key),
      value: copy(value),
      headers: headers.map(([name, held]) => [name, copyHeld(held)]),
    }
}
