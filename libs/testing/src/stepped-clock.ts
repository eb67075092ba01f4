import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** The wall clock of child processes, which can be set while they run. */
export interface SteppedClock {
  /** Arguments of Node, to be put before the script. */
  readonly nodeArgs: readonly string[]
  /** To be added to the child's environment. */
  readonly env: { readonly SHOPSTREAM_CLOCK_FILE: string }
  /** Sets the clock this many ms ahead of the machine's (behind it when negative); 0 puts it right. Seen within 100 ms. */
  step(offsetMs: number): void
}

/** Makes a {@link SteppedClock} that is kept in `file`, which is right until it is stepped. */
export function createSteppedClock(file: string): SteppedClock {
  return {
    nodeArgs: ['--import', pathToFileURL(join(import.meta.dirname, 'stepped-clock-preload.ts')).href],
    env: { SHOPSTREAM_CLOCK_FILE: file },
    step(offsetMs) {
      writeFileSync(`${file}.new`, String(offsetMs))
      renameSync(`${file}.new`, file)
    },
  }
}

/** For Jest's `doNotFake`: all but the wall clock, which alone is set then, while time goes on. */
export const allButTheClock = [
  'hrtime',
  'nextTick',
  'performance',
  'queueMicrotask',
  'setImmediate',
  'clearImmediate',
  'setInterval',
  'clearInterval',
  'setTimeout',
  'clearTimeout',
] as const
