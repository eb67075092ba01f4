import type { Database } from '@shopstream/database'
import { networkOf } from '@shopstream/http'
import { errors } from '../errors.ts'
import type { Limits } from '../limits/limit.ts'
import { take } from '../limits/limit.ts'
import type { Tables } from '../tables.ts'
import { parseRegistration, type Registration, type RegistrationInput } from './account.ts'
import type { Passwords } from './passwords.ts'
import { emailIsTaken, findAccount, type PublicAccount } from './queries.ts'
import { customer, registerAccount, type Standing } from './register.ts'

export interface AccountDeps {
  database: Database<Tables>
  passwords: Passwords
  limits: Limits
}

/** An account as its owner sees it. */
export interface AccountView {
  id: string
  email: string
  displayName: string
  roles: string[]
  /** ISO 8601, UTC. */
  createdAt: string
}

const viewOf = (account: PublicAccount): AccountView => ({
  id: account.id,
  email: account.email,
  displayName: account.display_name,
  roles: account.roles,
  createdAt: account.created_at.toISOString(),
})

/** Registers a customer. Throws `invalid-request`, `too-many-registrations`, `email-taken` or `busy`. */
export async function registerCustomer(
  deps: AccountDeps,
  input: RegistrationInput,
  { clientAddress, signal }: { clientAddress: string; signal: AbortSignal },
): Promise<AccountView> {
  const registration = parseRegistration(input)
  if ('problems' in registration) throw errors['invalid-request'](undefined, registration.problems)
  await limitRegistrations(deps, clientAddress)
  const account = await register(deps, registration, customer, signal)
  if (!account) throw errors['email-taken']()
  return viewOf(account)
}

/** Each registration mails an address that nobody has confirmed, and each attempt tells whether an address is taken. */
async function limitRegistrations({ database, limits }: AccountDeps, clientAddress: string): Promise<void> {
  const uses = [
    { limit: limits.registrationsOfClient, by: networkOf(clientAddress) },
    { limit: limits.registrations, by: 'everybody' },
  ]
  for (const use of uses) {
    const seconds = await take(database.query, use)
    if (seconds > 0) throw errors['too-many-registrations']().retryIn(seconds)
  }
}

/** The account, or undefined when the address is taken. The password is hashed before the transaction opens. */
export async function register(
  { database, passwords }: Pick<AccountDeps, 'database' | 'passwords'>,
  { password, ...rest }: Registration,
  standing: Standing,
  signal?: AbortSignal,
): Promise<PublicAccount | undefined> {
  if (await emailIsTaken(database.query, rest.email)) return undefined // without the cost of a hash
  const passwordHash = await passwords.hash(password, signal)
  return database.transaction((tx) => registerAccount(tx, { ...rest, passwordHash, ...standing }))
}

/** The account of a token's user. Throws `user-not-found` when it is gone. */
export async function showAccount({ database }: AccountDeps, id: string): Promise<AccountView> {
  const account = await findAccount(database.query, id)
  if (!account) throw errors['user-not-found']()
  return viewOf(account)
}
