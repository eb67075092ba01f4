import { batchHeadBytes } from './entries.ts'

/** A batch whose records did not all fit into an answer. */
export interface Unfinished {
  /** By which it is known when it comes again: its offset, length and checksum are there. */
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
  /** The record there counts so many before it, of which the last is at this place of the batch. */
  count: number
  last: number
}

export const beginning: Position = { from: 0n, at: 0, count: 0, last: -1 }

/**
 * The batches that a consumer is in the middle of, by partition: going on in one costs the records of an answer or two. Each
 * 2,000 records of 1.4 MB of zstd that hold 1.8 million took 1 s, as all was unpacked and walked through again: 15 minutes.
 * Unpacked bytes are kept of the one that was broken off last, so the memory is one batch's.
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
