/** Which messages go first when both kinds wait for the same process. */
export type Lane = 'urgent' | 'bulk'

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

/** Lets at most `atOnce` pieces of work run, and chooses who is next by {@link nextTurn}; within a lane the first come. */
export function createGate(atOnce: number) {
  const waiting: Record<Lane, (() => void)[]> = { urgent: [], bulk: [] }
  let free = atOnce
  let passed = 0

  function admit(): void {
    while (free > 0) {
      const lane = nextTurn({ urgent: waiting.urgent.length, bulk: waiting.bulk.length }, passed)
      if (lane === undefined) return
      passed = lane === 'urgent' && waiting.bulk.length > 0 ? passed + 1 : 0
      free -= 1
      waiting[lane].shift()?.()
    }
  }

  return {
    /** Waits for a turn; the returned function, to be called once, ends it. */
    enter: (lane: Lane) =>
      new Promise<() => void>((resolve) => {
        waiting[lane].push(() =>
          resolve(() => {
            free += 1
            admit()
          }),
        )
        setImmediate(admit) // once everybody has come who came at the same time, such as the partitions of one answer
      }),
  }
}
