import { pause } from '@shopstream/messaging'
import { print } from './printing.ts'

let interrupted: AbortController | undefined

/** Aborted by Ctrl-C or SIGTERM, so that a command that goes on until then can let go of what it holds. */
export function untilInterrupted(): AbortSignal {
  if (interrupted) return interrupted.signal
  const first = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => first.abort())
  interrupted = first
  return first.signal
}

const everyMs = 2_000
const clearScreen = '\u001b[2J\u001b[H'

/**
 * Prints what `look` returns; with `again`, each 2 s until interrupted or `isOver`. On a terminal each takes the place of
 * the one before, elsewhere only what differs is printed.
 */
export async function repeatedly(
  again: boolean,
  look: () => Promise<string>,
  isOver: () => boolean = () => false,
): Promise<void> {
  if (!again) return print(await look())
  const stop = untilInterrupted()
  let last: string | undefined
  while (!stop.aborted) {
    const text = await look()
    if (process.stdout.isTTY) {
      process.stdout.write(clearScreen)
      print(text)
    } else if (text !== last) print(text)
    last = text
    if (isOver()) return
    await pause(everyMs, stop)
  }
}
