import type { Reachable } from '../../local/client.ts'
import { createClient } from './client.ts'
import { liveAsCustomer, liveAsStaff, openShop } from './customers.ts'
import { openLedger } from './ledger.ts'
import { createRandom } from './random.ts'

/** What a client was answered; `status` undefined: nothing came. */
export interface GivenAnswer {
  kind: string
  status?: number | undefined
  code?: string | undefined
}

const names = ['ada', 'bob', 'eve', 'joe']

/**
 * Customers and staff who order, cancel, ship and look, until the returned function is called, which returns every answer
 * that they got. Each run has customers of its own.
 * @param file keeps what they did and were told.
 */
export async function startBusyDay(shop: Reachable, file: string): Promise<() => Promise<GivenAnswer[]>> {
  const ledger = openLedger(file)
  const staff = createClient(shop.gatewayUrl, ledger, `staff-${Date.now()}`, shop.staff)
  await openShop(staff)
  const over = new AbortController()
  const lives = names.map((name) => {
    const own = `${name}-${Date.now()}`
    const credentials = { email: `${own}@example.com`, password: `the password of ${name}` }
    const client = createClient(shop.gatewayUrl, ledger, own, credentials)
    return liveAsCustomer(client, credentials, createRandom(name), over.signal)
  })
  lives.push(liveAsStaff(staff, createRandom('staff'), over.signal))
  return async () => {
    over.abort()
    await Promise.all(lives)
    return ledger.operations.flatMap(({ kind, attempts }) =>
      attempts.map(({ status, code }) => ({ kind, status, code })),
    )
  }
}

/** Answers that no client should get because a service is replaced. `busy`: too many passwords for the processor, on any day. */
export const refusedByServer = (answers: readonly GivenAnswer[]) =>
  answers.filter(({ status = 0, code }) => status >= 500 && code !== 'busy')
