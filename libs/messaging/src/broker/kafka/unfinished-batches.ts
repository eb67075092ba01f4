import { batchHeadBytes } from './entries.ts'

/** A batch whose records did not all fit into an answer. */
export interface Unfinished {
  /** Identifies the batch when it comes again: holds its offset, length and checksum. */
  head: Buffer
  /** What has been unpacked of it; undefined: it is not packed, or the bytes were dropped. */
  unpacked: Buffer | undefined
  begun: Position
}

/** Where in the bytes of a batch an answer began, so that what a consumer gives back is found as well. */
interface Position {
  /** Records before this offset are before `at`. */
  from: bigint
  at: number
  /** Number of records before the one at `at`; `last` is the place in the batch of the last of them. */
  count: number
  last: number
}

export const beginning: Position = { from: 0n, at: 0, count: 0, last: -1 }

/**
 * The batches that a consumer has read in part, by partition: continuing costs the records of an answer or two. Before,
 * 1.4 MB of zstd with 1.8 million records took 15 minutes: for each 2,000 records all was unpacked and walked through
 * again, which took 1 s. Only the batch that was interrupted last keeps its unpacked bytes, so the memory is one
 * batch's.
 */
export class UnfinishedBatches {
  readonly #byPlace = new Map<string, Unfinished>()

  /** What is kept of the batch that an answer begins with. */
  take(place: string, entry: Buffer): Unfinished | undefined {
    const found = this.#byPlace.get(place)
    this.#byPlace.delete(place)
    return found && entry.subarray(0, batchHeadBytes).equals(found.head) ? found : undefined
  }

  keep(place: string, batch: Unfinished): void {
    if (batch.unpacked) for (const other of this.#byPlace.values()) other.unpacked = undefined
    this.#byPlace.set(place, batch)
  }
}
