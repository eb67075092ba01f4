import { readMigrations } from '@shopstream/database'

export { dataService } from './data-service.ts'
export * from './edge.ts'
export { effectGroup } from './effect-group.ts'
export { line, lines, optionalBody, Price, printable, Sku, Total, toMoney, toPrice } from './shapes.ts'
export { signingKeyConsumption } from './signing-key-consumption.ts'
export { signingKeys } from './signing-keys.ts'

/** The table of idempotency keys. */
export const httpMigrations = readMigrations('http', import.meta.url)
/** The table of public keys that access tokens are verified with. */
export const signingKeyMigrations = readMigrations('signing-key', import.meta.url)
