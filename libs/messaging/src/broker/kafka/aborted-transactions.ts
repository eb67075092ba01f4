import { batchRecords } from './batches.ts'
import { lastOffsetOf } from './entries.ts'

export interface AbortedTransaction {
  producerId: bigint
  firstOffset: bigint
}

export interface IsAborted {
  /** Takes note of a control batch: an abort's marker ends the transaction. */
  control(producerId: bigint, entry: Buffer): void
  /** Whether this producer's transactional records are those of an aborted transaction. */
  batch(producerId: bigint, lastOffset: bigint): boolean
}

const abortMarker = 0

/** As Java's consumer does it: transactions open as their first offset is passed, and end with their marker. */
export function watchTransactions(aborted: readonly AbortedTransaction[]): IsAborted {
  const waiting = aborted.toSorted((one, other) => (one.firstOffset < other.firstOffset ? -1 : 1))
  const open = new Set<bigint>()
  const openUntil = (lastOffset: bigint) => {
    while (waiting[0] && waiting[0].firstOffset <= lastOffset) open.add(waiting.shift()?.producerId as bigint)
  }
  return {
    control(producerId, entry) {
      openUntil(lastOffsetOf(entry))
      const [marker] = batchRecords(entry, 0n, entry.readInt16BE(21), unlimited).records
      if (marker?.key && marker.key.length >= 4 && marker.key.readInt16BE(2) === abortMarker) open.delete(producerId)
    },
    batch(producerId, lastOffset) {
      openUntil(lastOffset)
      return open.has(producerId)
    },
  }
}

/** For what brokers write themselves. */
const unlimited = { batchBytes: 65_536, messageBytes: 65_536, unpacked: 65_536 }
