import type { Open } from './connection.ts'

/** What was answered within this time, in ms, may be followed by twice as much. */
const quickMs = 1_000

/**
 * How many bytes go one way at once: at first the most that may. Over a slow line they are fewer, until they come in time: else
 * each attempt would bring the same, and be given up.
 */
export function createPace(most: number) {
  let bytes = most
  return {
    bytes: () => bytes,
    /** The outcome of `work`, which brings so many bytes, or asks for them. */
    async keep<T>(open: Open, work: Promise<T>): Promise<T> {
      const begun = performance.now()
      try {
        const result = await work
        if (performance.now() - begun < quickMs) bytes = Math.min(most, 2 * bytes)
        return result
      } catch (error) {
        if (!open.isThere()) bytes = Math.ceil(bytes / 4)
        throw error
      }
    },
  }
}
