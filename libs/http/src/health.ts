import { isNativeError } from 'node:util/types'
import type { ReadinessCheck } from '@shopstream/messaging'

/** The answer of `/readyz`. */
export interface Readiness {
  /** `degraded`: something optional is away, work goes on. */
  status: 'ok' | 'degraded' | 'unavailable'
  checks: { name: string; status: 'ok' | 'failed'; reason?: string }[]
}

const checkMs = 2_000

/**
 * Makes the function that runs all checks, each for 2 s at most. Calls at the same time share one run, so that polling
 * does not add load to what is slow already.
 */
export function readinessOf(checks: readonly ReadinessCheck[], closing: AbortSignal): () => Promise<Readiness> {
  let running: Promise<Readiness> | undefined
  return () => {
    running ??= run(checks, closing).finally(() => {
      running = undefined
    })
    return running
  }
}

async function run(checks: readonly ReadinessCheck[], closing: AbortSignal): Promise<Readiness> {
  const results = await Promise.all(checks.map(runCheck))
  if (closing.aborted) results.push({ name: 'process', status: 'failed', reason: 'is stopping', optional: false })
  const failed = results.filter(({ status }) => status === 'failed')
  const status = failed.length === 0 ? 'ok' : failed.every(({ optional }) => optional) ? 'degraded' : 'unavailable'
  return { status, checks: results.map(({ optional: _, ...result }) => result) }
}

async function runCheck(check: ReadinessCheck) {
  const { name } = check
  const timeout = Promise.withResolvers<never>()
  const timer = setTimeout(() => timeout.reject(new Error(`no answer within ${checkMs} ms`)), checkMs)
  try {
    await Promise.race([check.check(), timeout.promise])
    return { name, status: 'ok' as const }
  } catch (error) {
    const reason = reasonOf(error)
    return { name, status: 'failed' as const, reason, optional: check.optional === true }
  } finally {
    clearTimeout(timer)
  }
}

/** The first line only; a refused connection to several addresses is an AggregateError without a message. */
function reasonOf(error: unknown): string {
  if (!isNativeError(error)) return String(error)
  if (error.message === '' && 'errors' in error && Array.isArray(error.errors)) return reasonOf(error.errors[0])
  return error.message.split('\n', 1)[0] || 'failed'
}
