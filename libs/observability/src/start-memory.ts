import { setTimeout as delay } from 'node:timers/promises'

/** So long after a start, in ms, all modules are loaded and what was to be filled is. */
const startedForMs = 5_000

/**
 * Gives back, once, what a start has taken and nobody needs any more. While modules are loaded V8's young generation grows to its
 * limit, and stays so for minutes of rest: of the 97 MB of a service that has started 35 were of no use. It grows again as soon as there
 * is work. The process stands still for about 0.1 s meanwhile. Resolves when it is done; a Node without an inspector does nothing.
 */
export async function giveBackStartMemory(afterMs = startedForMs): Promise<void> {
  await delay(afterMs, undefined, { ref: false })
  const { Session } = await import('node:inspector/promises')
  const session = new Session()
  session.connect()
  await session.post('HeapProfiler.collectGarbage') // V8's answer to low memory; gc() would need a flag, and does not shrink
  session.disconnect()
}
