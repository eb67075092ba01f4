import { appendFileSync } from 'node:fs'

export type OperationKind =
  | 'register'
  | 'login'
  | 'order'
  | 'cancel'
  | 'read'
  | 'list'
  | 'product'
  | 'adjust'
  | 'ship'
  | 'deliver'

/** What one request was answered, if it was. */
export interface Attempt {
  /** ISO 8601. */
  at: string
  ms: number
  /** Undefined: no answer came, so that nobody knows whether it took effect. */
  status?: number
  /** Why no answer came. */
  error?: string
  /** The whole body of a 2xx. */
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON the shop answers with
  body?: any
  /** Of a refusal. */
  code?: string
}

/** One thing that a client wanted, with every answer that it got on the way. */
export interface Operation {
  client: string
  kind: OperationKind
  method: string
  path: string
  body?: unknown
  /** The Idempotency-Key of all attempts; the request carries it in its body, too, where a trace of it stays. */
  key?: string
  attempts: Attempt[]
}

const isEffect = ({ status = 0 }: Attempt) => status >= 200 && status < 300
/** The answer says that nothing has happened, and nothing will by this attempt. */
const isRefusal = ({ status = 0 }: Attempt) => status >= 400 && status < 500

/** The answers by which it took effect. */
export const effectsOf = ({ attempts }: Operation): Attempt[] => attempts.filter(isEffect)

/** Whether it certainly took effect, certainly did not, or nobody knows. */
export function outcomeOf({ attempts }: Operation): 'done' | 'refused' | 'unknown' {
  if (attempts.some(isEffect)) return 'done'
  return attempts.length > 0 && attempts.every(isRefusal) ? 'refused' : 'unknown'
}

/** Everything that clients did and were told, kept in a file as it happens. */
export interface Ledger {
  readonly operations: readonly Operation[]
  record(operation: Operation): void
}

export function openLedger(file: string): Ledger {
  const operations: Operation[] = []
  return {
    operations,
    record(operation) {
      operations.push(operation)
      appendFileSync(file, `${JSON.stringify(operation)}\n`)
    },
  }
}
