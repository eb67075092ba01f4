import { inHandBytes } from './target.ts'

/** Where messages come from that are counted, and not their bytes. */
interface Source<M> {
  /** Messages in a batch at the most. */
  count: number
  /** What a message may have, in bytes; undefined: nobody knows. */
  largest: number | undefined
  bytesOf(message: M): number
  /** How many wait behind it. */
  behind(message: M): number
  /** Ends after so many, or when that takes too long, or is stopped. */
  fetch(most: number): Promise<AsyncIterable<M> & { stop(): void }>
}

/**
 * Waits for a message and reads what is behind it: as many as have room if each is of the largest size that there can be, so that
 * no more than {@link inHandBytes} and one message are in hand.
 */
export async function readBatch<M>(source: Source<M>, stop: AbortSignal): Promise<M[]> {
  const { count, largest = inHandBytes, bytesOf, behind } = source
  const batch = await read(source, 1, stop)
  for (;;) {
    const last = batch.at(-1)
    const room = inHandBytes - batch.reduce((sum, one) => sum + bytesOf(one), 0)
    if (last === undefined || room <= 0) return batch
    const more = Math.min(behind(last), count - batch.length, Math.max(1, Math.floor(room / largest)))
    if (more <= 0) return batch
    const found = await read(source, more, stop)
    batch.push(...found)
    if (found.length < more) return batch
  }
}

async function read<M>({ fetch }: Source<M>, most: number, stop: AbortSignal): Promise<M[]> {
  const coming = await fetch(most)
  const end = () => coming.stop()
  stop.addEventListener('abort', end)
  const found: M[] = []
  try {
    if (stop.aborted) end()
    for await (const one of coming) found.push(one)
    return found
  } finally {
    stop.removeEventListener('abort', end)
  }
}
