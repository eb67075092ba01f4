import type { Transaction } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import type { NewEvent } from '@shopstream/messaging'
import { produces } from '../produces.ts'
import type { Account, Tables } from '../tables.ts'
import type { Registration } from './account.ts'
import { insertAccount } from './queries.ts'

/** What an account is besides what its owner says. */
export type Standing = Pick<Account, 'roles' | 'seeded'>

export const customer: Standing = { roles: ['customer'], seeded: false }
export const staff: Standing = { roles: ['customer', 'staff'], seeded: true }

/** A registration whose password has been hashed. */
export type Candidate = Omit<Registration, 'password'> & { passwordHash: string } & Standing

/** The account that a candidate becomes, and the event that says so. */
function registered(
  id: string,
  candidate: Candidate,
  now: Date,
): { account: Account; event: NewEvent<'UserRegistered'> } {
  const { email, displayName, passwordHash, roles, seeded } = candidate
  const sequence = 1n
  return {
    account: {
      id,
      email,
      display_name: displayName,
      password_hash: passwordHash,
      roles,
      seeded,
      sequence,
      created_at: now,
    },
    event: {
      type: 'UserRegistered',
      key: id,
      sequence,
      data: { userId: id, email, displayName, roles, registeredAt: now },
    },
  }
}

/** Writes the account and its event; undefined, and nothing written, when the address is taken. */
export async function registerAccount(tx: Transaction<Tables>, candidate: Candidate): Promise<Account | undefined> {
  const { account, event } = registered(newEventId(), candidate, new Date())
  if (!(await insertAccount(tx, account))) return undefined
  await produces.emit(tx, [event])
  return account
}
