import { withTimeLimit } from '@shopstream/messaging/operations'

/** What a part of the shop said, or why it could not be asked. */
export type Asked<T> = { answer: T; reason?: never } | { reason: string; answer?: never }

const limitMs = 8_000

/** Asks one part, which may be away; what the others say does not depend on it. */
export async function ask<T>(part: string, question: () => Promise<T>): Promise<Asked<T>> {
  try {
    return { answer: await withTimeLimit(question(), limitMs, `asking ${part}`) }
  } catch (error) {
    return { reason: `cannot be asked: ${reasonOf(error)}` }
  }
}

/** The first line of what an error says; a refused connection to several addresses says nothing itself. */
export function reasonOf(error: unknown): string {
  const { message, errors, code, cause } = error as Error & { errors?: unknown[]; code?: string }
  if (message === 'fetch failed' && cause) return reasonOf(cause)
  return message?.split('\n', 1)[0] || (errors?.[0] ? reasonOf(errors[0]) : (code ?? String(error)))
}
