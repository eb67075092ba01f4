import type { Database } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import { errors } from '../errors.ts'
import type { Tables } from '../tables.ts'
import { parseRegistration, type Registration, type RegistrationInput } from './account.ts'
import type { Passwords } from './passwords.ts'
import { emailIsTaken, findAccount, type PublicAccount } from './queries.ts'
import { customerRoles, registerAccount, staffRoles } from './register.ts'

export interface AccountDeps {
  database: Database<Tables>
  passwords: Passwords
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

/** Registers a customer. Throws `invalid-request`, `email-taken` or `busy`. */
export async function registerCustomer(
  deps: AccountDeps,
  input: RegistrationInput,
  signal: AbortSignal,
): Promise<AccountView> {
  const registration = parseRegistration(input)
  if ('problems' in registration) throw errors['invalid-request'](undefined, registration.problems)
  const account = await register(deps, registration, customerRoles, signal)
  if (!account) throw errors['email-taken']()
  return viewOf(account)
}

/**
 * Makes the staff account, or gives the one that is there this password: the environment is what counts. An ordinary
 * account of that address stays as it is. Several instances may do so at once.
 */
export async function seedStaff(deps: AccountDeps, staff: Registration, logger: Logger): Promise<void> {
  const account = await register(deps, staff, staffRoles)
  if (account) {
    logger.info({ userId: account.id }, 'the staff account was made')
    return
  }
  const found = await findAccountByEmail(deps, staff.email)
  if (!found?.roles.includes('staff')) {
    logger.warn('the account with the address of STAFF_EMAIL is an ordinary one and stays it: nobody becomes staff')
    return
  }
  if (await deps.passwords.verify(found.password_hash, staff.password)) return
  const password_hash = await deps.passwords.hash(staff.password)
  await deps.database.query.updateTable('account').set({ password_hash }).where('email', '=', staff.email).execute()
  logger.info('the staff account has the password of STAFF_PASSWORD now')
}

const findAccountByEmail = ({ database }: AccountDeps, email: string) =>
  database.query.selectFrom('account').select(['roles', 'password_hash']).where('email', '=', email).executeTakeFirst()

/** The account, or undefined when the address is taken. The password is hashed before the transaction opens. */
async function register(
  { database, passwords }: AccountDeps,
  { password, ...rest }: Registration,
  roles: string[],
  signal?: AbortSignal,
): Promise<PublicAccount | undefined> {
  if (await emailIsTaken(database.query, rest.email)) return undefined // without the cost of a hash
  const passwordHash = await passwords.hash(password, signal)
  return database.transaction((tx) => registerAccount(tx, { ...rest, passwordHash, roles }))
}

/** The account of a token's user. Throws `user-not-found` when it is gone. */
export async function showAccount({ database }: AccountDeps, id: string): Promise<AccountView> {
  const account = await findAccount(database.query, id)
  if (!account) throw errors['user-not-found']()
  return viewOf(account)
}
