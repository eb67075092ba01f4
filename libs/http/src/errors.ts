/** What is wrong with one field of a request; `field` is its path, such as `items[0].quantity`. */
export interface FieldError {
  field: string
  message: string
}

/** A refusal that the client is told: becomes problem+json with this stable code, status and detail. */
export class ShopError extends Error {
  readonly code: string
  /** HTTP status, 400-599. */
  readonly status: number
  readonly fields: FieldError[] | undefined
  /** Seconds until the client may try again, where they are known: `Retry-After` of a 429 or 503. */
  retryAfter: number | undefined

  constructor(code: string, status: number, detail: string, fields?: FieldError[]) {
    super(detail)
    this.name = 'ShopError'
    this.code = code
    this.status = status
    this.fields = fields
  }

  /** The same refusal, saying when to try again. */
  retryIn(seconds: number): this {
    this.retryAfter = seconds
    return this
  }
}

/**
 * Makes a service's error table (its `errors.ts`) callable: `throw errors['email-taken']()`. The detail of the table can
 * be replaced by a more precise one, and fields can be named.
 */
export function errorsOf<T extends Record<string, { status: number; detail: string }>>(table: T) {
  const make =
    (code: string, status: number, standard: string) =>
    (detail: string = standard, fields?: FieldError[]): ShopError =>
      new ShopError(code, status, detail, fields)
  return Object.fromEntries(
    Object.entries(table).map(([code, { status, detail }]) => [code, make(code, status, detail)]),
  ) as { [Code in keyof T]: (detail?: string, fields?: FieldError[]) => ShopError }
}

/** What every service may answer, besides its own codes. */
export const errors = errorsOf({
  'invalid-request': { status: 400, detail: 'The request does not have the form that this route takes.' },
  'malformed-json': { status: 400, detail: 'The body is not valid JSON in UTF-8.' },
  'malformed-request': { status: 400, detail: 'The request cannot be read.' },
  'invalid-cursor': { status: 400, detail: 'The cursor is not one that this list has given out.' },
  'invalid-token': { status: 401, detail: 'A valid access token is needed. Log in or refresh it.' },
  'staff-only': { status: 403, detail: 'Only staff may do this.' },
  'route-not-found': { status: 404, detail: 'There is no such route.' },
  'method-not-allowed': { status: 405, detail: 'This route does not have this method.' },
  'request-timeout': { status: 408, detail: 'The request did not arrive in time.' },
  'request-in-progress': { status: 409, detail: 'A request with this Idempotency-Key is still in progress.' },
  'body-too-large': { status: 413, detail: 'The body is larger than 1 MiB.' },
  'unsupported-media-type': { status: 415, detail: 'The body must be application/json.' },
  'expectation-failed': { status: 417, detail: 'Nothing but 100-continue can be expected.' },
  'idempotency-key-reused': { status: 422, detail: 'This Idempotency-Key was used for another request.' },
  'headers-too-large': { status: 431, detail: 'The headers are too large.' },
  'internal-error': { status: 500, detail: 'Something went wrong here. Quote the request id when you report it.' },
  overloaded: { status: 503, detail: 'There is more to do now than can be done. Try again later.' },
  'database-unavailable': { status: 503, detail: 'The database is not available now. Try again in a few seconds.' },
})
