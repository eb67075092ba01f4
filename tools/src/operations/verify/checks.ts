import type { ServiceWiring } from '../../schemas/wiring.ts'
import { undeliveredEvent } from './bridges.ts'
import { type Check, scopeOf } from './check.ts'
import { consumerChecks } from './consumers.ts'
import { eventChecks, unreadable } from './events.ts'
import { mailChecks } from './mails.ts'
import { orderChecks } from './orders.ts'

export type { Check, Found } from './check.ts'
export { unreadableRecords } from './events.ts'
export { mailKinds } from './mails.ts'

/** The checks, for services that consume what `wiring` says. */
export function checksFor(wiring: readonly ServiceWiring[]): Check[] {
  const scope = scopeOf(wiring)
  const ofEvents = [...eventChecks(scope), ...consumerChecks(scope), undeliveredEvent()]
  return [unreadable(scope), ...orderChecks(scope), ...ofEvents, ...mailChecks]
}
