import { inHandBytes } from './target.ts'

/**
 * Fills a batch from a source that counts messages, and not their bytes: asks for as many as have room if each is of the largest
 * size that there can be, so that no more than {@link inHandBytes} and one message are in hand.
 */
export async function fillBatch<M>(
  batch: M[],
  source: {
    /** Messages in a batch at the most. */
    count: number
    /** What a message may have, in bytes; undefined: nobody knows. */
    largest: number | undefined
    bytesOf(message: M): number
    /** How many wait behind it. */
    behind(message: M): number
    read(most: number): Promise<readonly M[]>
  },
): Promise<M[]> {
  const { count, largest = inHandBytes, bytesOf, behind, read } = source
  for (;;) {
    const last = batch.at(-1)
    const room = inHandBytes - batch.reduce((sum, one) => sum + bytesOf(one), 0)
    if (last === undefined || room <= 0) return batch
    const more = Math.min(behind(last), count - batch.length, Math.max(1, Math.floor(room / largest)))
    if (more <= 0) return batch
    const found = await read(more)
    batch.push(...found)
    if (found.length < more) return batch
  }
}
