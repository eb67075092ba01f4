import { AsyncLocalStorage } from 'node:async_hooks'
import { randomFillSync } from 'node:crypto'

/** Where a piece of work stands in a trace; ids are lower-case hex as in W3C Trace Context. */
export interface TraceContext {
  /** 32 digits, the same for everything that one cause led to. */
  traceId: string
  /** 16 digits, this piece of work. */
  spanId: string
  /** 2 digits; bit 0 says that the caller records the trace. */
  flags: string
}

const pattern =
  /^(?<version>[0-9a-f]{2})-(?<traceId>[0-9a-f]{32})-(?<spanId>[0-9a-f]{16})-(?<flags>[0-9a-f]{2})(?<rest>-.*)?$/
const allZero = /^0+$/

/**
 * Reads a `traceparent` header by W3C Trace Context (https://www.w3.org/TR/trace-context/, level 1, section 3.2).
 * Undefined for a missing or invalid one, which the specification wants treated as if there was none.
 */
export function parseTraceparent(header: string | undefined): TraceContext | undefined {
  const { version, traceId = '', spanId = '', flags = '', rest } = pattern.exec(header ?? '')?.groups ?? {}
  if (version === undefined || version === 'ff' || (version === '00' && rest !== undefined)) return undefined
  if (allZero.test(traceId) || allZero.test(spanId)) return undefined
  return { traceId, spanId, flags }
}

const pool = Buffer.alloc(4_096)
let used = pool.length

/** Random bytes from a pool: one call of the system for each id took 1-2 % of the CPU under load. */
function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool)
    used = 0
  }
  used += bytes
  return pool.toString('hex', used - bytes, used)
}

/** A new span within the parent's trace, or at the root of a new trace when there is no parent. */
export function childOf(parent: TraceContext | undefined): TraceContext {
  return {
    traceId: parent?.traceId ?? randomHex(16),
    spanId: randomHex(8),
    flags: parent?.flags ?? '01',
  }
}

/** The `traceparent` header that says `context`, in version 00. */
export function formatTraceparent({ traceId, spanId, flags }: TraceContext): string {
  return `00-${traceId}-${spanId}-${flags}`
}

const storage = new AsyncLocalStorage<TraceContext>()

/** Runs `work` and everything it awaits with `context` as the current trace; returns what `work` returns. */
export function runInTrace<T>(context: TraceContext, work: () => T): T {
  return storage.run(context, work)
}

/** The trace that the running code belongs to. */
export function currentTrace(): TraceContext | undefined {
  return storage.getStore()
}
