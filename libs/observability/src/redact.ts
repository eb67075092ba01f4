import { isNativeError } from 'node:util/types'

const redacted = '[redacted]'

/** Names of fields that hold secrets or personal data, in any spelling (`shippingAddress`, `set-cookie`, `DATABASE_URL`). */
const sensitive =
  /password|passwd|secret|token|authorization|cookie|private_?-?key|e-?mail|display_?-?name|address|recipient|(database|smtp|postgres)_?url/i

const maxDepth = 8

/**
 * A copy of `value` for a log line: fields with telling names are replaced at every depth, errors are reduced to what is
 * safe to show, bytes to their count. Cyclic or very deep parts are left out. The text of messages is not searched.
 */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (isNativeError(value)) return describeError(value, depth)
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`
  if (depth === maxDepth) return '[deeper]'
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1))
  if (value instanceof Map || value instanceof Set) return redact([...value], depth + 1)
  if ('toJSON' in value) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      name,
      sensitive.test(name) && item !== undefined && item !== null ? redacted : redact(item, depth + 1),
    ]),
  )
}

/** What Postgres, Kafka and Node say about errors that cannot hold a row's values; `detail` of Postgres does. */
const safeProperties = ['code', 'syscall', 'statusCode', 'constraint', 'table', 'column', 'routine'] as const

/** An error for a log line: its kind, message, stack, causes and some properties known to be safe. */
function describeError(error: Error, depth = 0): Record<string, unknown> {
  const description: Record<string, unknown> = { type: error.constructor.name, message: error.message }
  for (const property of safeProperties) {
    const value = (error as unknown as Record<string, unknown>)[property]
    if (typeof value === 'string' || typeof value === 'number') description[property] = value
  }
  if (error.stack) description.stack = error.stack
  if (depth < maxDepth) {
    if (error.cause !== undefined) description.cause = redact(error.cause, depth + 1)
    if ('errors' in error && Array.isArray(error.errors)) description.errors = redact(error.errors, depth + 1)
  }
  return description
}
