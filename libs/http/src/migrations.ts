import { readMigrations } from '@shopstream/database'

/** The table of idempotency keys. */
export const httpMigrations = readMigrations('http', import.meta.url)
/** The table of public keys that access tokens are verified with. */
export const signingKeyMigrations = readMigrations('signing-key', import.meta.url)
