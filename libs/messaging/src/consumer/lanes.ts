import type { Lane } from '../event/consumption.ts'

/** Urgent turns in a row after which bulk gets one, so that it never waits for ever. */
const urgentInARow = 8

/**
 * Whose turn it is: urgent before bulk, but bulk once it has let {@link urgentInARow} urgent ones pass.
 * @param waiting how many wait in each lane.
 * @param passed urgent turns since bulk began to wait or had its last turn.
 */
export function nextTurn(waiting: Record<Lane, number>, passed: number): Lane | undefined {
  if (waiting.bulk > 0 && (waiting.urgent === 0 || passed >= urgentInARow)) return 'bulk'
  return waiting.urgent > 0 ? 'urgent' : undefined
}

/** A turn, which is over once `leave` is called, once; `pieces` are all that have it together. */
export interface Turn<Piece> {
  pieces: Piece[]
  leave(): void
}

export type Gate<Piece> = ReturnType<typeof createGate<Piece>>

/**
 * Lets at most `atOnce` pieces of work run, and chooses who is next by {@link nextTurn}; within a lane the first come.
 * @param together how many of those that wait in a lane have the next turn as one, the first at least.
 */
export function createGate<Piece = undefined>(
  atOnce: number,
  together: (waiting: readonly Piece[]) => number = () => 1,
) {
  const waiting: Record<Lane, { piece: Piece; go(turn: Turn<Piece> | undefined): void }[]> = { urgent: [], bulk: [] }
  let free = atOnce
  let passed = 0

  function admit(): void {
    while (free > 0) {
      const lane = nextTurn({ urgent: waiting.urgent.length, bulk: waiting.bulk.length }, passed)
      if (lane === undefined) return
      passed = lane === 'urgent' && waiting.bulk.length > 0 ? passed + 1 : 0
      free -= 1
      const pieces = waiting[lane].map(({ piece }) => piece).slice(0, together(waiting[lane].map(({ piece }) => piece)))
      const [first, ...others] = waiting[lane].splice(0, pieces.length)
      first?.go({ pieces, leave })
      for (const { go } of others) go(undefined)
    }
  }

  function leave(): void {
    free += 1
    admit()
  }

  return {
    /** Waits for a turn; undefined for who has it together with another, who has been given it. */
    enter: (lane: Lane, piece: Piece) =>
      new Promise<Turn<Piece> | undefined>((resolve) => {
        waiting[lane].push({ piece, go: resolve })
        setImmediate(admit) // once everybody has come who came at the same time, such as the partitions of one answer
      }),
  }
}
