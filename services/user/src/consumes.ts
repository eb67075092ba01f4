import type { Consumption } from '@shopstream/messaging'

/** This service consumes nothing: it verifies tokens by the keys in its own database, which it publishes to others. */
export const consumes: readonly Consumption[] = []
