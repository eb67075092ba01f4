/**
 * Loaded before a process's own code (`node --import`): its wall clock is off by the number of ms that the file named by
 * SHOPSTREAM_CLOCK_FILE holds, and steps when the file changes, within 100 ms. As when a machine's clock is set, time
 * that only counts on (`performance.now`, timers) goes on as it was. A file that is missing or half written changes nothing.
 */
import { readFileSync } from 'node:fs'

const file = process.env.SHOPSTREAM_CLOCK_FILE
const readEveryMs = 100

const SystemDate = Date
const systemNow = Date.now
let offset = 0
let nextRead = 0

function steppedNow(): number {
  if (file && performance.now() >= nextRead) {
    nextRead = performance.now() + readEveryMs
    offset = readOffset(file) ?? offset
  }
  return systemNow() + offset
}

function readOffset(path: string): number | undefined {
  try {
    const text = readFileSync(path, 'utf8').trim()
    return text !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

const steppedDate = new Proxy(SystemDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [steppedNow()] : args, newTarget),
  apply: () => new SystemDate(steppedNow()).toString(),
})
SystemDate.now = steppedNow
SystemDate.prototype.constructor = steppedDate
globalThis.Date = steppedDate
