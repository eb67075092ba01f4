/** What the registry refuses, with the code that Confluent's Schema Registry gives it; its first three digits are the status. */
export class RegistryError extends Error {
  readonly code: number

  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }

  get status(): number {
    return Number(String(this.code).slice(0, 3))
  }
}
