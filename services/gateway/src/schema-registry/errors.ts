/** What the registry refuses, with the code that Confluent's Schema Registry gives it; its first three digits are the status. */
export class RegistryError extends Error {
  readonly code: number
  /** Seconds after which to try again. */
  readonly retryAfter: number | undefined

  constructor(code: number, message: string, retryAfter?: number) {
    super(message)
    this.code = code
    this.retryAfter = retryAfter
  }

  get status(): number {
    return Number(String(this.code).slice(0, 3))
  }
}
