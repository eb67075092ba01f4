import { inHandBytes } from '../target.ts'

/**
 * What a connection was given and has not acknowledged. Once that has too many bytes, the rest is let go, in order from there
 * on: it comes again to the next connection, which is to be given fewer at once, until messages are smaller again.
 * @param count that this connection is given at once; `most`: that any may be given.
 */
export function createHand<M>({ count, most, bytesOf }: { count: number; most: number; bytesOf(message: M): number }) {
  let waiting: M[] = []
  let taken: readonly M[] = []
  let bytes = 0
  let isOver = false
  /** Of the largest of the last messages, at least as many as `most`, in bytes. */
  let largest = 0
  let seen = 0
  let grown = count
  const fitting = () => Math.max(1, Math.min(most, Math.floor(inHandBytes / Math.max(1, largest))))
  const sum = (some: readonly M[]) => some.reduce((all, one) => all + bytesOf(one), 0)

  return {
    add(message: M): void {
      const size = bytesOf(message)
      largest = Math.max(largest, size)
      isOver ||= bytes > 0 && bytes + size > inHandBytes
      if (isOver) return
      waiting.push(message)
      bytes += size
    },
    /** All that waits; it is done with before the next is asked for. */
    batch(): readonly M[] {
      taken = waiting
      waiting = []
      return taken
    },
    done(): void {
      bytes -= sum(taken)
      seen += taken.length
      taken = []
      if (seen < most || isOver) return // what was let go is not in `waiting`, and its size still counts
      if (fitting() >= 2 * count) grown = fitting() // less is not worth another connection
      seen = 0
      largest = Math.max(0, ...waiting.map(bytesOf))
    },
    /** How many the next connection should be given; as many as this one while it is to stay. */
    next: () => (isOver && waiting.length === 0 ? Math.min(fitting(), Math.max(1, count - 1)) : grown),
    bytes: () => bytes,
  }
}
