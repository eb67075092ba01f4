/**
 * Where a process can be told to die, and what is so at that line. Wherever it does, nothing may be lost and nothing take
 * effect twice: crash-points.test.ts dies at each of them once, growth.test.ts at those of a command that grows a topic.
 */
export const crashPoints = {
  'outbox-written': 'events are in the outbox; what emits them has not committed',
  'outbox-committed': 'events are committed; the relay has not been woken',
  'relay-read': 'the relay has read rows; the broker has none of them',
  'relay-acknowledged': 'the broker has them; their rows are still there',
  'relay-deleted': 'their rows are deleted',
  'chunk-received': 'messages have come from the broker; nothing is done about them',
  'inbox-written': 'their ids are in the inbox; no handler has run',
  'effects-written': 'their handlers have run; nothing is committed',
  'chunk-committed': 'what they do is committed; their offsets are not resolved',
  'offset-resolved': 'their offsets are resolved; the broker has not been told',
  'parked-written': 'a message is in the parking lot; that is not committed',
  'dead-letter-written': 'the copy of a dead one is in the outbox; its death is not committed',
  'retry-locked': 'a parked message is locked; its handler has not run',
  'retry-handled': 'its handler has run; nothing is committed',
  'retry-committed': 'what came of it is committed; the retrier does not know',
  'attempt-recorded': 'that it failed again is written; that is not committed',
  'growth-added': 'a topic has its new partitions; keys are still placed by the former number',
  'growth-copied': 'records are in their new partitions; the former ones have not forgotten them',
} as const

export type CrashPoint = keyof typeof crashPoints

/** `npm run build` makes this undefined, so that a bundle has no crash points. */
const crashAt = process.env.NODE_ENV === 'production' ? undefined : process.env.SHOPSTREAM_CRASH_AT

/** Kills this process as by `kill -9` when SHOPSTREAM_CRASH_AT names the point. Does nothing in production. */
export function crashPoint(name: CrashPoint): void {
  if (crashAt !== name) return
  process.kill(process.pid, 'SIGKILL')
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) // for ever: not one more line runs
}
